"""What happens to events, as values for observers: metrics, error trackers, tests.

An observer is a callable that takes one `Step`. Workers and senders call it in the thread in which the step happens,
which for `Started` and `Finished` may be the thread of a handler. It must return quickly. Its errors are logged and
never affect an event.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from channelmap.errors import text_of

__all__ = [
    "Dead",
    "EventStep",
    "Failed",
    "Finished",
    "LayerAway",
    "LayerBack",
    "Lost",
    "Rejected",
    "Renewed",
    "Retried",
    "Sent",
    "Started",
    "Step",
    "Taken",
]

log = logging.getLogger("channelmap.observer")

#: How a handler call ended: it returned; it raised; it took longer than the channel's timeout; it raised `Retry`; it
#: raised `Reject`.
Outcome = Literal["ok", "failed", "timeout", "retry", "given-up"]
#: Who rejected an event: the layer of its sender, or the gate in front of the consumer.
Side = Literal["sender", "gate"]

#: Seconds between two logged errors of one observer.
_ERROR_SECS = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened on a channel; each subclass is one kind of step."""

    channel: str


@dataclass(frozen=True, slots=True)
class EventStep(Step):
    """A step of one event.

    Attributes:
        type: the event's type; empty if it has none.
        id: the event's id; empty if it is unknown.
        attempt: number of the attempt, from 1; 0 before the event was sent.

    """

    type: str
    id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Sent(EventStep):
    """A layer has accepted an event."""


@dataclass(frozen=True, slots=True)
class Rejected(EventStep):
    """An event does not meet its contract; `code` is that of the rejection."""

    code: str
    side: Side


@dataclass(frozen=True, slots=True)
class Taken(Step):
    """A worker has taken events from the layer; `redelivered` of them were delivered before."""

    events: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class Started(EventStep):
    """An event was handed to the application, `waited` seconds after it was sent or due. The gate may reject it."""

    waited: float


@dataclass(frozen=True, slots=True)
class Finished(EventStep):
    """A handler has returned, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failed(EventStep):
    """A handler has not handled its event.

    Attributes:
        seconds: how long the handler ran.
        outcome: how it ended.
        reason: the reason in one line.
        error: the handler's exception; `None` if it was cut off, or has raised `Retry` or `Reject`.

    """

    seconds: float
    outcome: Outcome
    reason: str
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Retried(EventStep):
    """An event will be delivered again, as the next attempt, after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Dead(EventStep):
    """An event was given up: it becomes a dead letter with this code."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Renewed(Step):
    """The leases of so many events were renewed."""

    events: int


@dataclass(frozen=True, slots=True)
class Lost(Step):
    """A stopping worker could not report so many events; `redelivered` tells whether the layer delivers them again."""

    events: int
    redelivered: bool


@dataclass(frozen=True, slots=True)
class LayerAway(Step):
    """A call for this channel found the layer unavailable."""

    reason: str


@dataclass(frozen=True, slots=True)
class LayerBack(Step):
    """The layer answers this channel again, after `seconds`."""

    seconds: float


Observer = Callable[[Step], object]


class Meter(Protocol):
    """Measures the events of one slot, whose handlers run one after another.

    A handler has returned when the next event is noted, or when `finish` is called.
    """

    #: Notes that an event is handed to its handler: its type, the wall time at which it was sent, the clock's time now.
    note: Callable[[tuple[object, float, float]], None]
    #: Wall time minus the clock's time; changed only while no noted event is being handled.
    wall_offset: float

    def finish(self, now: float) -> None:
        """Note that the handler of the last noted event has returned."""

    def end(self) -> float:
        """Note that the last noted event was not handled; return the clock's time of its note."""

    def sum_up(self) -> None:
        """Reduce the notes to sums; the slot calls this now and then, so that the notes stay few."""


class Metrics(Protocol):
    """An observer with a `Meter` for each slot; it gets neither `Started` nor `Finished`."""

    def __call__(self, step: Step) -> object:
        """Record a step."""

    def meter(self, channel: str) -> Meter:
        """Return a new meter for one slot of a channel."""


def guarded(observer: Observer) -> Callable[[Step], None]:
    """Return a function that calls an observer and logs its errors, at most once a minute."""
    next_log = 0.0

    def tell(step: Step) -> None:
        nonlocal next_log
        try:
            observer(step)
        except Exception as error:
            now = time.monotonic()
            if now >= next_log:
                next_log = now + _ERROR_SECS
                name = getattr(observer, "__qualname__", type(observer).__qualname__)
                log.error(  # noqa: TRY400  (the text of the error stands in the line)
                    "observer %s failed at %s: %s", name, type(step).__name__, text_of(error), exc_info=error
                )

    return tell


def combined(*observers: Observer | None) -> Observer | None:
    """Return one observer that calls several; `None` if there are none."""
    given = [observer for observer in observers if observer is not None]

    def tell(step: Step) -> None:
        for observer in given:
            observer(step)

    return tell if given else None
