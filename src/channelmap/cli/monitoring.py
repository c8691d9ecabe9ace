"""The options of `runworker` that let one see into it, and what they start."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from channelmap.contract import Contract
from channelmap.errors import text_of
from channelmap.imports import ImportProblem, import_dotted
from channelmap.layer import ChannelLayer
from channelmap.monitor.measuring import WorkerMetrics
from channelmap.monitor.reporting import Reporter
from channelmap.monitor.reports import Report, Reports
from channelmap.monitor.server import Monitor, Settings, Unusable, listen
from channelmap.monitor.systemd import Systemd
from channelmap.observer import Observer
from channelmap.supervisor import Link
from channelmap.worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

#: The options that only the process with the monitor needs.
MONITOR_OPTIONS = frozenset({"monitor", "heartbeat_file", "stall"})


def monitor_options(command: F) -> F:
    """Add the options to a command."""
    options = [
        click.option(
            "--monitor",
            metavar="[HOST:]PORT",
            help="Serve /livez, /readyz, /metrics and /status.json over HTTP; without HOST, to this machine only.",
        ),
        click.option(
            "--heartbeat-file",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Touch this file twice a second while all workers are alive.",
        ),
        click.option(
            "--stall",
            type=click.FloatRange(min=1),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="Count a worker as stuck if its event loop has not run for this long.",
        ),
        click.option(
            "--observer",
            metavar="DOTTED.PATH",
            help="Call this for each step of an event: a function, or a class without arguments.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


class Monitoring:
    """The monitor that the options of a command ask for.

    Args:
        options: the parameters of the command.

    Raises:
        click.UsageError: `--monitor` cannot listen, or the directory of `--heartbeat-file` does not exist.

    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._systemd = Systemd.from_environment()
        file = options["heartbeat_file"]
        if file is not None and not file.parent.is_dir():
            raise click.UsageError(f"--heartbeat-file {file}: there is no directory {file.parent}")
        self._listener = None
        if options["monitor"] is not None:
            try:
                self._listener = listen(options["monitor"])
            except Unusable as error:
                raise click.UsageError(str(error)) from None
        self.reports = Reports()

    @property
    def is_wanted(self) -> bool:
        """Whether this process has a monitor."""
        return self._listener is not None or self._options["heartbeat_file"] is not None or self._systemd.is_used

    def receive(self, worker: int, report: dict[str, Any] | None) -> None:
        """Add the report of a worker process; `None` is its end."""
        if report is None:
            self.reports.remove(worker)
        else:
            self.reports.add(worker, Report.from_json(report))

    @contextmanager
    def running(self, contract: Contract, layer: ChannelLayer, channels: list[str]) -> Iterator[None]:
        """Run the monitor, if it is wanted."""
        if not self.is_wanted:
            yield
            return
        settings = Settings(
            listener=self._listener, heartbeat_file=self._options["heartbeat_file"], stall=self._options["stall"],
            version=version("channelmap"), contract=contract.digest,
        )  # fmt: skip
        monitor = Monitor(settings, self.reports, layer, channels, self._systemd)
        monitor.start()
        try:
            yield
        finally:
            monitor.stop()

    def metrics(self, contract: Contract, link: Link) -> WorkerMetrics | None:
        """Return metrics for a worker of this process, if anybody reads them."""
        if not (self.is_wanted or link.wants_reports):
            return None
        return WorkerMetrics({channel.name: channel.events.keys() for channel in contract.channels.values()})

    @asynccontextmanager
    async def reporting(self, worker: Worker, metrics: WorkerMetrics | None, link: Link) -> AsyncIterator[None]:
        """Report the state of a worker of this process, to its own monitor or to that of the supervisor."""
        if metrics is None:
            yield
            return

        def send(report: Report) -> None:
            if link.wants_reports:
                link.report_to_monitor(report.to_json())
            else:
                self.reports.add(0, report)

        reporter = Reporter(worker, metrics, send)
        reporting = asyncio.ensure_future(reporter.run())
        try:
            yield
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            reporter.report()


def load_observer(path: str | None) -> Observer | None:
    """Import an observer by its dotted path.

    Raises:
        click.UsageError: it cannot be imported or created, or is not callable.

    """
    if path is None:
        return None
    try:
        found = import_dotted(path)
    except ImportProblem as error:
        raise click.UsageError(f"--observer {path}: {error}") from error
    try:
        observer = found() if isinstance(found, type) else found
    except Exception as error:
        # A constructor of the user may raise anything.
        raise click.UsageError(f"--observer {path}: its constructor raised {text_of(error)}") from error
    if not callable(observer):
        raise click.UsageError(f"--observer {path}: expected a function or a class, got {type(found).__name__}")
    return cast("Observer", observer)
