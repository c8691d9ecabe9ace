"""`runworker`: serve the channels of a contract."""

import asyncio
import atexit
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import click

from channelmap.asgi import Application
from channelmap.cli import logs
from channelmap.cli.channels_consumers import lend_layer
from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.layers import open_layer
from channelmap.cli.monitoring import MONITOR_OPTIONS, Monitoring, load_observer, monitor_options
from channelmap.cli.options import CONFIG, LAYER, VERSION, prepare_imports
from channelmap.cli.readers import ReaderWatch
from channelmap.codes import Severity
from channelmap.contract import Contract
from channelmap.environment import shown
from channelmap.errors import ContractError, LayerError, LayerUnavailable, quoted
from channelmap.imports import describe_exception, uses_django
from channelmap.layer import ChannelLayer, current_layer
from channelmap.limits import Service
from channelmap.loader import load
from channelmap.observer import Observer, combined
from channelmap.preflight import preflight
from channelmap.routing import load_router
from channelmap.sending import ContractLayer, open_contract_layer
from channelmap.startup import exit_on_signals
from channelmap.supervisor import (
    STOP_SIGNALS,
    Link,
    Supervisor,
    WorkerProcess,
    command_line,
    loaded_modules,
    not_ignored,
)
from channelmap.worker import DRAIN_TIMEOUT, Worker
from channelmap.worker.backoff import FIRST_DELAY, MAX_DELAY

log = logging.getLogger("channelmap.worker")

#: Seconds that burst mode waits for a layer that is unavailable at the start.
_BURST_TIMEOUT_SECS = 5.0
#: Seconds after the drain timeout at which a supervisor kills a worker; longer than the shutdown flush.
_KILL_AFTER_SECS = 15.0

T = TypeVar("T")


@click.command(
    "runworker",
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=["runworker", "runworker greetings --processes 4", "runworker --config jobs.yaml --burst"],
    exits={
        Exit.FINE: "The worker was told to stop, its burst is over, or it has handled --max-events.",
        Exit.FINDINGS: "The contract or a consumer is wrong.",
        Exit.USAGE: "Wrong arguments, a missing contract, or an unusable layer.",
        Exit.BROKEN: "A task of the worker itself ended unexpectedly; the log says which.",
        Exit.STALLED: "The event loop was blocked for five minutes; the stacks are on stderr.",
    },
)
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...", shell_complete=channel_names)
@CONFIG
@LAYER
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Run this many worker processes."
)
@click.option("--burst", is_flag=True, help="Handle the waiting events, then exit.")
@click.option(
    "--max-events",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Stop after about this many events, at most 10 % more; with --processes, a new process follows.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=DRAIN_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Let handlers run for this long after a signal to stop.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default="text",
    show_default=True,
    help="Write log lines as text or as JSON objects.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Log only messages of at least this level.",
)
@monitor_options
@click.option("--reload", is_flag=True, help="Restart when a loaded file changes; for development.")
@VERSION
@click.pass_context
def command(ctx: click.Context, /, *, processes: int, reload: bool, **options: Any) -> int:
    """Serve the channels of a contract.

    CHANNEL is the name of a channel to serve; without one, all channels are served. SIGTERM, SIGINT and SIGHUP stop
    the worker: running handlers may finish, and unstarted events are returned to their channels. A second signal
    ends the worker at once. It also stops, as after a signal, when stdout or stderr no longer has a reader.
    """
    logs.configure(options["log_format"], options["log_level"])
    monitoring = Monitoring(options)
    if processes > 1 or reload:
        return _supervise(ctx, processes, monitoring, reload=reload)
    watch = ReaderWatch()
    with closing(Link.from_environment()) as link:
        worker = _work(_Process(link, watch, monitoring, options))
    exit_on_signals()
    code = Exit.BROKEN if worker.broken else Exit.FINDINGS if worker.gave_up else Exit.FINE
    if watch.lost:
        code = Exit.READER_GONE
    if worker.cut_off:
        _leave_stuck_threads(code)
    return code


class _Process(NamedTuple):
    """A process with one worker: the supervisor, the readers of its output, its monitor, and its options."""

    link: Link
    watch: ReaderWatch
    monitoring: Monitoring
    options: Mapping[str, Any]


def _work(process: _Process) -> Worker:
    """Run one worker in this process until it ends."""
    options = process.options
    contract = load(options["config"])
    loop_factory = _loop_factory()
    saved_logging = logs.SavedLogging()
    prepare_imports(options["config"])
    findings = preflight(contract, options["channels"])
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise ContractError(findings)
    router = load_router(contract, options["channels"])
    observer = load_observer(options["observer"])
    application: Application = router
    if uses_django():
        from channelmap.database import closing_connections

        application = closing_connections(router)
    saved_logging.restore()
    runner = asyncio.Runner(loop_factory=loop_factory)
    loop = runner.get_loop()
    _forbid_loop_stop(loop)
    try:
        return runner.run(_serve(process, contract, application, observer))
    finally:
        # `close` would wait for a task that ignores its cancellation.
        if not asyncio.all_tasks(loop):
            runner.close()


def _forbid_loop_stop(loop: asyncio.AbstractEventLoop) -> None:
    """Make `loop.stop` raise inside a task: handlers must not stop the worker's event loop."""
    stop = loop.stop

    def forbid() -> None:
        if asyncio.current_task(loop) is not None:
            raise RuntimeError("a handler must not stop the event loop of its worker")
        stop()

    loop.stop = forbid  # type: ignore[method-assign]


def _supervise(ctx: click.Context, processes: int, monitoring: Monitoring, *, reload: bool) -> int:
    """Run this command in several processes, each with one worker."""
    contract = load(ctx.params["config"])
    if contract.tracing:
        import channelmap.tracing  # noqa: F401  (if it cannot be imported, this fails once, and not in each worker)
    arguments = ["runworker", *ctx.params["channels"]]
    for option in ctx.command.params:
        if option.name not in ctx.params.keys() - {"channels", "processes", "reload", *MONITOR_OPTIONS}:
            continue
        value = ctx.params[option.name]
        if value is True:
            arguments.append(option.opts[0])
        elif value not in (False, None):
            arguments += [option.opts[0], str(value)]
    supervisor = Supervisor(
        partial(
            WorkerProcess.start,
            command_line(arguments, ctx.obj),
            monitored=monitoring.receive if monitoring.is_wanted else None,
        ),
        processes,
        grace=ctx.params["drain_timeout"] + _KILL_AFTER_SECS,
        watched=sorted({Path.cwd(), contract.root}) if reload else None,
    )
    watch = ReaderWatch()
    # Only for a monitor: a class named by `backend` may be code of the project, which a supervisor need not import.
    layer = open_layer(contract, ctx.params["layer"]) if monitoring.is_wanted else None
    monitor = (
        nullcontext()
        if layer is None
        else monitoring.running(contract, layer, [channel.name for channel in contract.chosen(ctx.params["channels"])])
    )

    async def main() -> int:
        watch.start(supervisor.finish)
        try:
            with monitor:
                return await supervisor.run()
        finally:
            watch.close()
            if layer is not None:
                await layer.close()

    code = asyncio.run(main())
    exit_on_signals()
    return Exit.READER_GONE if watch.lost else code


async def _serve(process: _Process, contract: Contract, application: Application, observer: Observer | None) -> Worker:
    link, watch, monitoring, options = process
    layer = open_contract_layer(contract, options["layer"])
    burst = options["burst"]
    services = {channel.name: channel.service for channel in contract.chosen(options["channels"])}
    metrics = monitoring.metrics(contract, link)
    worker = Worker(
        watch.around(application), services, layer,
        burst=burst, drain_timeout=options["drain_timeout"], max_events=options["max_events"],
        observe=observer, metrics=metrics, contract=contract.digest,
    )  # fmt: skip
    judged = ContractLayer(contract, layer, observe=combined(metrics, observer))
    current_layer.set(judged)
    lend_layer(judged, options["layer"])
    stopper = _Stopper(worker)
    stopper.listen(link, partial(_source_files, contract))
    watch.start(stopper.reader_gone)
    try:
        with monitoring.running(contract, layer, [*services]):
            async with monitoring.reporting(worker, metrics, link):
                counts = await stopper.unless_stopped(
                    _count_waiting(layer, services, seconds=_BURST_TIMEOUT_SECS if burst else math.inf)
                )
                if counts is not None:
                    _log_ready(layer, services, counts)
                    link.report("ready")
                    await worker.serve()
                    if burst and not worker.reached_max_events:
                        await _log_remaining_events(layer, services)
    finally:
        if worker.reached_max_events:
            link.report("spent")
        elif burst and not (stopper.stopped.is_set() or worker.broken):
            link.report("finished")
        await layer.close()
        watch.close()
    log.info("stopped")
    return worker


def _log_ready(layer: ChannelLayer, services: Mapping[str, Service], counts: Sequence[int | None]) -> None:
    waiting = "" if None in counts else f"; {sum(filter(None, counts))} waiting"
    if layer.url == "memory://":
        log.warning("events in memory:// belong to this process: no other process can send to it")
    log.info("serving %s from %s%s; ready", ", ".join(map(quoted, services)), shown(layer.url), waiting)


async def _count_waiting(layer: ChannelLayer, channels: Iterable[str], *, seconds: float) -> list[int | None]:
    """Count the waiting events of each channel, with retries; raise LayerUnavailable after `seconds`."""
    delay, give_up_at = FIRST_DELAY, time.monotonic() + seconds
    while True:
        try:
            return [await layer.waiting(name) for name in channels]
        except LayerUnavailable as error:
            left = give_up_at - time.monotonic()
            if left <= 0:
                log.error("the layer has not answered for %.0f s: giving up", seconds)  # noqa: TRY400
                raise
            delay = min(delay, left)
            log.error("cannot start yet, next try in %.1f s: %s", delay, error)  # noqa: TRY400
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_DELAY)


async def _log_remaining_events(layer: ChannelLayer, services: Mapping[str, Service]) -> None:
    """Log the number of events that a burst has not handled: scheduled ones, or those leased by other workers."""
    for name, service in services.items():
        if service.retry is None:
            continue
        try:
            left = len([delivery async for delivery in layer.peek(name)]) - (await layer.waiting(name) or 0)
        except LayerError as error:
            log.warning("channel %s: cannot count the events that wait for a retry: %s", quoted(name), error)
        else:
            if left > 0:
                where = "are delayed, wait for a retry, or are leased by other workers"
                log.warning("channel %s: %d events %s", quoted(name), left, where)


def _source_files(contract: Contract) -> Iterable[str]:
    """Return the files of the contract and of the modules that this process has imported."""
    return map(str, {contract.root / Path(contract.path).name, *contract.files, *loaded_modules()})


class _Stopper:
    """Stop a worker on a signal, or when the supervisor asks for it."""

    def __init__(self, worker: Worker) -> None:
        self.stopped = asyncio.Event()
        self._worker = worker
        self._was_signalled = False
        self._loop = asyncio.get_running_loop()

    def listen(self, link: Link, files: Callable[[], Iterable[str]]) -> None:
        """Listen to signals and to the supervisor."""
        for signum in not_ignored(STOP_SIGNALS):
            # Not `loop.add_signal_handler`: a second signal must work while a handler blocks the event loop.
            signal.signal(signum, self._handle_signal)
        _ForkedHandlers().install()
        # The supervisor sends no signal: if the whole process group is signalled, that would be a second one.
        link.listen(partial(self._stop, "the supervisor asks to stop, or has ended"), files)

    async def unless_stopped(self, call: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of a call; if the worker is stopped first, cancel the call and return None."""
        calling, stopped = asyncio.ensure_future(call), asyncio.ensure_future(self.stopped.wait())
        try:
            await asyncio.wait({calling, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return calling.result() if calling.done() else None
        finally:
            calling.cancel()
            stopped.cancel()
            await asyncio.gather(calling, stopped, return_exceptions=True)

    def reader_gone(self, why: str) -> None:
        """Stop because a stream has lost its reader."""
        self._stop(why, logging.WARNING)

    def _handle_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._was_signalled or self._loop.is_closed():
            try:
                # Write only if stderr has room: its reader may have stopped reading.
                if select.select([], [2], [], 0)[1]:
                    log.warning("second signal: exiting immediately")
                    logging.shutdown()
            finally:
                # The signal may have interrupted a write to stderr, whose buffer then refuses another one.
                os._exit(128 + signum)
        self._was_signalled = True
        self._loop.call_soon_threadsafe(self._stop, signal.Signals(signum).name)

    def _stop(self, why: str, level: int = logging.INFO) -> None:
        if not self.stopped.is_set():
            self.stopped.set()
            log.log(level, "%s: finishing the events in flight", why)
            self._worker.stop()


class _ForkedHandlers:
    """Restore the default signal handlers in processes forked by a handler, which are not workers."""

    def __init__(self) -> None:
        #: The signals that each forking thread had blocked before the fork.
        self._masks: dict[int, set[signal.Signals | int]] = {}

    def install(self) -> None:
        """Register the fork hooks."""
        os.register_at_fork(
            before=self._block_signals, after_in_parent=self._restore_signals, after_in_child=self._reset_handlers
        )

    def _block_signals(self) -> None:
        # A signal that reaches the child before its handlers are reset would be lost.
        self._masks[get_ident()] = set(signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS))

    def _restore_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(get_ident(), set()))

    def _reset_handlers(self) -> None:
        for signum in STOP_SIGNALS:
            if callable(signal.getsignal(signum)):
                signal.signal(signum, signal.SIG_DFL)
        with suppress(ValueError):  # forked from a thread
            signal.set_wakeup_fd(-1)
        self._restore_signals()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory of event loops, or None if it is not installed."""
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001  (with PYTHONPATH it may be a module of the project)
        file = getattr(sys.modules.get("uvloop"), "__file__", None)
        log.warning("uvloop%s cannot be used: %s", f" ({file})" if file else "", describe_exception(error))
        return None
    return factory


def _leave_stuck_threads(code: int) -> None:
    """Exit without waiting for the threads of handlers that were cut off, which cannot be stopped."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(0.2)
            if thread.is_alive():
                atexit._run_exitfuncs()  # noqa: SLF001  (there is no other way to run them)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
