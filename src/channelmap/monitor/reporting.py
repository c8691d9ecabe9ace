"""Report the state of a worker once a second, from its event loop: reports that stop show that it is blocked."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from channelmap.monitor.measuring import WorkerMetrics
from channelmap.monitor.reports import REPORT_SECS, Report


class ReportingWorker(Protocol):
    """What a report says of a worker."""

    @property
    def is_ready(self) -> bool:
        """Whether it serves its channels, and is not stopping."""

    @property
    def is_layer_up(self) -> bool:
        """Whether the layer answers."""

    def in_flight(self) -> Mapping[str, int]:
        """Return the number of events that are being handled, by channel."""


class Reporter:
    """Sends reports of one worker.

    Args:
        worker: the worker.
        metrics: the worker's metrics.
        send: receives each report.

    """

    def __init__(self, worker: ReportingWorker, metrics: WorkerMetrics, send: Callable[[Report], None]) -> None:
        self._worker = worker
        self._metrics = metrics
        self._send = send

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self.report()
            await asyncio.sleep(REPORT_SECS)

    def report(self) -> None:
        """Send one report, with the values that have changed since the last one."""
        worker = self._worker
        self._send(
            Report(
                ready=worker.is_ready, layer_up=worker.is_layer_up, in_flight=worker.in_flight(),
                values=self._metrics.changes(),
            )
        )  # fmt: skip
