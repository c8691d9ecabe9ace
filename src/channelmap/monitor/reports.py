"""What workers report once a second, and what follows from it for a process of one or several workers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from channelmap.monitor.measuring import Key, Values, merge

#: Seconds between two reports of a worker.
REPORT_SECS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of one worker.

    Attributes:
        ready: it serves its channels, and is not stopping.
        layer_up: the layer answers.
        in_flight: events that are being handled, by channel.
        values: values of metrics that have changed since the previous report.

    """

    ready: bool
    layer_up: bool
    in_flight: Mapping[str, int]
    values: Mapping[Key, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "ready": self.ready,
            "layer_up": self.layer_up,
            "in_flight": dict(self.in_flight),
            "values": [[*key, value] for key, value in self.values.items()],
        }

    @classmethod
    def from_json(cls, report: Mapping[str, Any]) -> "Report":
        """Return the report of another process."""
        values = {tuple(key): value for *key, value in report["values"]}
        return cls(ready=report["ready"], layer_up=report["layer_up"], in_flight=report["in_flight"], values=values)


@dataclass(slots=True)
class _Worker:
    """The last report of a worker, when it arrived, and all its values."""

    report: Report
    arrived: float
    values: Values = field(default_factory=dict)


class Reports:
    """The reports of the workers of a process, or of the children of a supervisor. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._workers: dict[int, _Worker] = {}
        self._ended: Values = {}
        #: A worker has been ready.
        self.was_ready = False

    def add(self, worker: int, report: Report) -> None:
        """Add the report of a worker, which shows that its event loop runs."""
        with self._lock:
            known = self._workers.setdefault(worker, _Worker(report, 0.0))
            known.report, known.arrived = report, time.monotonic()
            known.values.update(report.values)
            self.was_ready |= report.ready

    def remove(self, worker: int) -> None:
        """Remove a worker that has ended; its counters are kept."""
        with self._lock:
            known = self._workers.pop(worker, None)
            if known is not None:
                merge(self._ended, known.values)

    def values(self) -> Values:
        """Return the values of all workers, also of those that have ended."""
        # A worker that reports must not wait until the values are added up.
        with self._lock:
            parts = [{**values} for values in (self._ended, *(worker.values for worker in self._workers.values()))]
        total = parts.pop()
        for part in parts:
            merge(total, part)
        return total

    def in_flight(self) -> dict[str, int]:
        """Return the number of events that are being handled, by channel."""
        found: dict[str, int] = {}
        for report in self._reports():
            for channel, count in report.in_flight.items():
                found[channel] = found.get(channel, 0) + count
        return found

    @property
    def is_ready(self) -> bool:
        """Whether a worker is ready."""
        return any(report.ready and report.layer_up for report in self._reports())

    @property
    def is_layer_up(self) -> bool:
        """Whether the layer answers all workers."""
        return all(report.layer_up for report in self._reports())

    @property
    def lag(self) -> float:
        """The longest time, in seconds, by which the report of a worker is late."""
        with self._lock:
            latest = min((worker.arrived for worker in self._workers.values()), default=time.monotonic())
        return max(0.0, time.monotonic() - latest - REPORT_SECS)

    def _reports(self) -> list[Report]:
        with self._lock:
            return [worker.report for worker in self._workers.values()]
