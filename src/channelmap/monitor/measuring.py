"""Count and measure events in the process in which they are handled or sent."""

import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping
from threading import Lock
from typing import Any, Final

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


def add(histogram: Histogram, values: list[float]) -> None:
    """Add values to a histogram; this sorts them. Negative ones, of clocks that differ, count as 0."""
    values = sorted(max(0.0, value) for value in values)
    histogram[0] += sum(values)
    position = 0
    for bucket, bound in enumerate((*BOUNDS, math.inf), 1):
        above = bisect_right(values, bound, position)
        histogram[bucket] += above - position
        position = above


def add_alike(histogram: Histogram, count: int, total: float, lowest: float, highest: float) -> bool:
    """Add values by their number, their sum and limits of them, if all must be in one bucket; return whether they are.

    Events that are handled one after another mostly are, and then nothing has to be calculated for each of them.
    """
    bucket = bisect_left(BOUNDS, highest)
    if lowest < 0.0 or (bucket > 0 and lowest <= BOUNDS[bucket - 1]):
        return False
    histogram[0] += total
    histogram[bucket + 1] += count
    return True


def merge(into: Values, values: Mapping[Key, float | Histogram]) -> None:
    """Add values to those of other workers."""
    for key, value in values.items():
        if isinstance(value, list):
            there = into.get(key)
            into[key] = [*map(sum, zip(there, value, strict=True))] if isinstance(there, list) else [*value]
        else:
            into[key] = value + into.get(key, 0.0)  # type: ignore[operator]  # a key has one kind of value


class SlotMeter:
    """Measures the events of one slot; see `Meter`.

    The slot notes each event in a list, which is one call of a C function; sums are made for many events at once.

    Args:
        types: the declared event types of the channel.

    """

    def __init__(self, types: Collection[str]) -> None:
        self.durations: dict[str, Histogram] = {}
        self.waits = new_histogram()
        self.wall_offset = 0.0
        self._types = types
        #: Three items for each event that is not in the sums. The slot appends while another thread sums up.
        self._noted: list[Any] = []
        self.note: Callable[[tuple[object, float, float]], None] = self._noted.extend
        self._is_changed = False
        self._lock = Lock()

    def finish(self, now: float) -> None:
        """Note that the handler of the last noted event has returned."""
        with self._lock:
            self._sum_up(now)

    def end(self) -> float:
        """Note that the last noted event was not handled, so that only its wait counts; return the time of its note."""
        with self._lock:
            self._sum_up()
            _, sent, started = self._noted
            self._noted.clear()
            add(self.waits, [started + self.wall_offset - sent])
            self._is_changed = True
            return float(started)

    def sum_up(self) -> None:
        """Add all noted events but the last to the sums."""
        with self._lock:
            self._sum_up()

    def take_changes(self) -> bool:
        """Sum up; return whether a sum has changed since the last call."""
        with self._lock:
            self._sum_up()
            changed, self._is_changed = self._is_changed, False
            return changed

    def values(self, channel: str) -> Values:
        """Return the sums, as values of a channel."""
        values: Values = {}
        with self._lock:
            if any(self.waits):
                values[WAIT_SECONDS.name, channel] = [*self.waits]
            for event_type, durations in self.durations.items():
                values[HANDLER_SECONDS.name, channel, event_type] = [*durations]
                values[HANDLED.name, channel, event_type, "ok"] = float(sum(durations[1:]))
        return values

    def _sum_up(self, end: float | None = None) -> None:
        """Add noted events to the sums; the last one only if its handler has returned at `end`."""
        noted = self._noted
        size = len(noted) if end is not None else len(noted) - 3
        if size <= 0:
            return
        types, sent, starts = noted[0:size:3], noted[1:size:3], noted[2:size:3]
        ends = [*starts[1:], noted[size + 2] if end is None else end]
        del noted[:size]
        self._is_changed = True
        count, offset, seconds = len(starts), self.wall_offset, ends[-1] - starts[0]
        waited = sum(starts) - sum(sent) + count * offset
        if not add_alike(self.waits, count, waited, starts[0] - max(sent) + offset, starts[-1] - min(sent) + offset):
            add(self.waits, [start + offset - since for start, since in zip(starts, sent, strict=True)])
        if types.count(types[0]) == count and add_alike(self._durations(types[0]), count, seconds, 0.0, seconds):
            return
        by_label: dict[str, list[float]] = {}
        for event_type, start, finish in zip(types, starts, ends, strict=True):
            by_label.setdefault(self._label(event_type), []).append(finish - start)
        for label, durations in by_label.items():
            add(self._durations(label), durations)

    def _durations(self, event_type: object) -> Histogram:
        return self.durations.setdefault(self._label(event_type), new_histogram())

    def _label(self, event_type: object) -> str:
        return event_type if isinstance(event_type, str) and event_type in self._types else OTHER


class WorkerMetrics:
    """Counts the steps of a worker or a sender, and measures handlers.

    Args:
        types: the declared event types, by channel; nothing else becomes a label.

    """

    def __init__(self, types: Mapping[str, Collection[str]]) -> None:
        self._types = types
        #: Values that steps add to, by channel.
        self._counts: dict[str, Values] = {}
        self._changed: set[str] = set()
        self._meters: dict[str, list[SlotMeter]] = {}
        self._renew_lock()
        # A forked child could inherit the lock while another thread of its parent holds it.
        os.register_at_fork(after_in_child=self._renew_lock)

    def meter(self, channel: str) -> SlotMeter:
        """Return a new meter for a slot of the channel."""
        meter = SlotMeter(self._types.get(channel, ()))
        self._meters.setdefault(channel, []).append(meter)
        return meter

    def __call__(self, step: Step) -> None:
        """Count a step; any thread may call this."""
        match step:
            case Sent():
                self._count(step.channel, {(SENT.name, step.channel, self._label(step)): 1.0})
            case Rejected():
                self._count(step.channel, {(REJECTED.name, step.channel, self._label(step), step.code, step.side): 1.0})
            case Failed():
                label, durations = self._label(step), new_histogram()
                add(durations, [step.seconds])
                self._count(step.channel, {
                    (HANDLED.name, step.channel, label, step.outcome): 1.0,
                    (HANDLER_SECONDS.name, step.channel, label): durations,
                })  # fmt: skip
            case Taken() if step.redelivered:
                self._count(step.channel, {(REDELIVERED.name, step.channel): float(step.redelivered)})

    def changes(self) -> Values:
        """Return the values of the channels on which something has happened since the last call."""
        measured = {channel for channel, meters in self._meters.items() if sum(m.take_changes() for m in meters)}
        values: Values = {}
        with self._lock:
            changed, self._changed = self._changed | measured, set()
            for channel in changed:
                merge(values, self._counts.get(channel, {}))
        for channel in changed:
            for meter in self._meters.get(channel, ()):
                merge(values, meter.values(channel))
        return values

    def _count(self, channel: str, values: Values) -> None:
        with self._lock:
            merge(self._counts.setdefault(channel, {}), values)
            self._changed.add(channel)

    def _label(self, step: Sent | Rejected | Failed) -> str:
        return step.type if step.type in self._types.get(step.channel, ()) else OTHER

    def _renew_lock(self) -> None:
        self._lock = Lock()
