"""How long a worker waits for what."""

from dataclasses import dataclass, field

from channelmap.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The times of a worker, in seconds, and the clock that tells them.

    Attributes:
        lease: how long the layer leaves a leased event to this worker; renewed three times as often.
        prefetch_work: work that a refill takes from the layer; a crash may lose it, and others wait for it.
        return_after: after which what a refill took and nobody has begun goes back.
        stall_after: after which an event loop that does not turn is taken for dead.
        grace: for the last calls of the layer when the worker stops, behind the drain timeout.
        clock: tells the time.

    """

    lease: float = 30.0
    prefetch_work: float = 0.01
    return_after: float = 0.1
    stall_after: float = 300.0
    grace: float = 4.0
    clock: Clock = field(default_factory=Clock)
