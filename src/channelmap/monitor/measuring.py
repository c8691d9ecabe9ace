"""Count and measure events in the process in which they are handled or sent."""

import math
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from threading import Lock
from typing import Final

from channelmap.monitor.catalog import HANDLED, HANDLER_SECONDS, REDELIVERED, REJECTED, SENT, WAIT_SECONDS
from channelmap.observer import Failed, Rejected, Sent, Step, Taken

#: Upper bounds of the histograms' buckets, in seconds; a last bucket has everything above.
BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: The label of an event type that the contract does not declare.
OTHER = "_other"

#: A metric's name, and the values of its labels.
Key = tuple[str, ...]
#: The sum, and the number of values in each bucket.
Histogram = list[float]
Values = dict[Key, float | Histogram]


def new_histogram() -> Histogram:
    """Return an empty histogram."""
    return [0.0, *[0] * (len(BOUNDS) + 1)]


def add(histogram: Histogram, seconds: float) -> None:
    """Add a value to a histogram."""
    histogram[0] += seconds
    histogram[1 if seconds <= BOUNDS[0] else bisect_left(BOUNDS, seconds) + 1] += 1


def merge(into: Values, values: Mapping[Key, float | Histogram]) -> None:
    """Add values to those of other workers."""
    for key, value in values.items():
        if isinstance(value, list):
            there = into.get(key)
            into[key] = [*map(sum, zip(there, value, strict=True))] if isinstance(there, list) else [*value]
        else:
            into[key] = value + into.get(key, 0.0)  # type: ignore[operator]  # a key has one kind of value


class SlotMeter:
    """Measures the handled events of one slot. Only one thread uses it at a time, so it needs no lock.

    Args:
        types: the declared event types of the channel.

    """

    def __init__(self, types: Collection[str]) -> None:
        self.durations: dict[str, Histogram] = {}
        self.waits = new_histogram()
        self._types = types
        self.handled = self._make_handled()

    def _make_handled(self) -> Callable[[str, float, float], None]:
        """Return the function that runs for each event: hence a closure over locals, without calls of `add`."""
        known: dict[str, Histogram] = {}
        waits, bounds, first, find = self.waits, BOUNDS, BOUNDS[0], bisect_left
        # The bucket of the last wait: events that are handled one after another have waited for about as long.
        low, high, bucket = 0.0, first, 1

        def handled(event_type: str, waited: float, seconds: float) -> None:
            nonlocal low, high, bucket
            try:
                durations = known[event_type]
            except KeyError:
                label = event_type if event_type in self._types else OTHER
                durations = self.durations.setdefault(label, new_histogram())
                if label != OTHER:
                    known[event_type] = durations
            durations[0] += seconds
            if seconds <= first:
                durations[1] += 1
            else:
                durations[find(bounds, seconds) + 1] += 1
            if not low < waited <= high:
                waited = max(0.0, waited)
                bucket = find(bounds, waited) + 1
                low, high = (0.0, *bounds)[bucket - 1], (*bounds, math.inf)[bucket - 1]
            waits[0] += waited
            waits[bucket] += 1

        return handled

    def waited(self, seconds: float) -> None:
        """Record the wait of an event that was not handled."""
        add(self.waits, max(0.0, seconds))


class WorkerMetrics:
    """Counts the steps of a worker or a sender, and measures handlers.

    Args:
        types: the declared event types, by channel; nothing else becomes a label.

    """

    def __init__(self, types: Mapping[str, Collection[str]]) -> None:
        self._types = types
        self._counts: Counter[Key] = Counter()
        self._failed: dict[Key, Histogram] = {}
        self._meters: list[tuple[str, SlotMeter]] = []
        self._renew_lock()
        # A forked child could inherit the lock while another thread of its parent holds it.
        os.register_at_fork(after_in_child=self._renew_lock)

    def meter(self, channel: str) -> SlotMeter:
        """Return a new meter for a slot of the channel."""
        meter = SlotMeter(self._types.get(channel, ()))
        self._meters.append((channel, meter))
        return meter

    def __call__(self, step: Step) -> None:
        """Count a step; any thread may call this."""
        match step:
            case Sent():
                self._count(SENT.name, step.channel, self._label(step))
            case Rejected():
                self._count(REJECTED.name, step.channel, self._label(step), step.code, step.side)
            case Failed():
                self._count(HANDLED.name, step.channel, self._label(step), step.outcome)
                with self._lock:
                    key = HANDLER_SECONDS.name, step.channel, self._label(step)
                    add(self._failed.setdefault(key, new_histogram()), step.seconds)
            case Taken() if step.redelivered:
                self._count(REDELIVERED.name, step.channel, number=step.redelivered)

    def values(self) -> Values:
        """Return all values."""
        with self._lock:
            values: Values = {**self._counts}
            merge(values, self._failed)
        for key, value in self._measured():
            merge(values, {key: value})
        return values

    def _measured(self) -> Iterator[tuple[Key, float | Histogram]]:
        for channel, meter in self._meters:
            if any(meter.waits):
                yield (WAIT_SECONDS.name, channel), meter.waits
            for event_type, durations in [*meter.durations.items()]:
                yield (HANDLER_SECONDS.name, channel, event_type), durations
                yield (HANDLED.name, channel, event_type, "ok"), sum(durations[1:])

    def _count(self, *key: str, number: int = 1) -> None:
        with self._lock:
            self._counts[key] += number

    def _label(self, step: Sent | Rejected | Failed) -> str:
        return step.type if step.type in self._types.get(step.channel, ()) else OTHER

    def _renew_lock(self) -> None:
        self._lock = Lock()
