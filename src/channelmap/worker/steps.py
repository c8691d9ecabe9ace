"""The steps of a worker's events: counted for its heartbeats, measured, and told to an observer."""

from collections import Counter, defaultdict

from channelmap.layer import Delivery
from channelmap.observer import (
    Dead,
    Failed,
    Finished,
    Lost,
    Meter,
    Metrics,
    Observer,
    Rejected,
    Retried,
    Started,
    Step,
    Taken,
    guarded,
)


class Steps:
    """Tells the steps of a worker to its totals, its metrics and its observer.

    Args:
        observe: called with each step; `None` for nobody.
        metrics: measures the handlers; `None` for no metrics.

    """

    def __init__(self, observe: Observer | None = None, metrics: Metrics | None = None) -> None:
        #: Totals since the worker was created, by channel.
        self.totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.metrics = metrics
        self.observe = None if observe is None else guarded(observe)

    def __call__(self, step: Step) -> None:
        """Tell a step that is not `Started` or `Finished`."""
        for name, number in _counted(step):
            self.totals[step.channel][name] += number
        if self.metrics is not None:
            self.metrics(step)
        if self.observe is not None:
            self.observe(step)

    @property
    def are_told(self) -> bool:
        """Whether anybody but the totals wants the steps."""
        return self.metrics is not None or self.observe is not None

    def count_handled(self, channel: str, events: int) -> None:
        """Count events whose handlers returned."""
        if events:
            self.totals[channel]["handled"] += events

    def measurement(self, channel: str) -> "Measurement | None":
        """Return a new measurement for a slot of the channel; `None` if nobody wants one."""
        if not self.are_told:
            return None
        return Measurement(self.observe, None if self.metrics is None else self.metrics.meter(channel))


class Measurement:
    """Measures the current event of one slot, for the meter and the observer.

    Args:
        observe: the observer, or `None`.
        meter: the meter, or `None`.

    """

    __slots__ = ("_started", "_wall_offset", "meter", "observe")

    def __init__(self, observe: Observer | None, meter: Meter | None) -> None:
        self.observe = observe
        self.meter = meter
        #: When the current event was handed to the application, by the worker's clock.
        self._started = 0.0
        self._wall_offset = 0.0

    def begin(self, delivery: Delivery, now: float, wall_time: float) -> None:
        """Note that an event for which the slot has waited was handed to the application."""
        self._wall_offset = wall_time - now
        if self.meter is not None:
            self.meter.wall_offset = self._wall_offset
            self.meter.note((delivery.event["type"], delivery.sent, now))  # type: ignore[index]  # a readable event
        self.tell_started(delivery, now)

    def tell_started(self, delivery: Delivery, now: float) -> None:
        """Tell the observer that an event was handed to the application."""
        self._started = now
        if self.observe is not None:
            self.observe(Started(*step_fields(delivery), max(0.0, now + self._wall_offset - delivery.sent)))

    def tell_finished(self, delivery: Delivery, now: float) -> None:
        """Tell the observer that the handler has returned."""
        if self.observe is not None:
            self.observe(Finished(*step_fields(delivery), now - self._started))

    def finish(self, delivery: Delivery, now: float) -> None:
        """Note that the handler has returned, and no other event follows at once."""
        if self.meter is not None:
            self.meter.finish(now)
        self.tell_finished(delivery, now)

    def end(self, now: float) -> float:
        """Note that the event was not handled; return the seconds since it was handed to the application."""
        return now - (self._started if self.meter is None else self.meter.end())


def step_fields(delivery: Delivery) -> tuple[str, str, str, int]:
    """Return the fields of an `EventStep`: channel, type, id and attempt."""
    event_type = delivery.event.get("type") if delivery.event else None
    return delivery.channel, event_type if isinstance(event_type, str) else "", delivery.id, delivery.attempt


def _counted(step: Step) -> list[tuple[str, int]]:
    """Return the totals that a step adds to."""
    counted: list[tuple[str, int]] = []
    match step:
        case Rejected(code=code):
            counted = [(f"rejected:{code}", 1)]
        case Failed(outcome=outcome):
            counted = [("given-up" if outcome == "given-up" else "failed", 1)]
        case Retried():
            counted = [("retried", 1)]
        case Dead(code=code):
            counted = [(f"dead:{code}", 1)]
        case Taken(redelivered=redelivered) if redelivered:
            counted = [("redelivered", redelivered)]
        case Lost(events=events, redelivered=False):
            counted = [("lost", events)]
    return counted
