"""Durations that a worker uses."""

from dataclasses import dataclass, field

from channelmap.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations of a worker, in seconds, and its clock.

    Attributes:
        lease: duration of a lease; the worker renews it at a third of that time.
        prefetch_work: estimated handling time of the events that one refill prefetches.
        return_after: time after which unstarted prefetched events are returned.
        stall_after: time after which a blocked event loop counts as dead.
        grace: time for the shutdown flush, after the drain timeout.
        heartbeat: time between two heartbeats; a worker without one for 15 s counts as dead.
        clock: the source of time.

    """

    lease: float = 30.0
    prefetch_work: float = 0.01
    return_after: float = 0.1
    stall_after: float = 300.0
    grace: float = 4.0
    heartbeat: float = 5.0
    clock: Clock = field(default_factory=Clock)
