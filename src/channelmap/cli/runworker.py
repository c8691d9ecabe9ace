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
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any, TypeVar

import click

from channelmap.cli import logs
from channelmap.cli.channels_consumers import lend_layer
from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.options import CONFIG, LAYER, VERSION, prepare_imports
from channelmap.cli.readers import ReaderWatch
from channelmap.codes import Severity
from channelmap.contract import Contract
from channelmap.environment import shown
from channelmap.errors import ContractError, LayerError, LayerUnavailable, quoted
from channelmap.imports import in_words
from channelmap.layer import ChannelLayer, current_layer
from channelmap.limits import Service
from channelmap.loader import load
from channelmap.preflight import preflight
from channelmap.routing import ChannelNameRouter, load_router
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

#: Seconds for which a burst waits for a layer that does not answer.
_BURST_PATIENCE = 5.0
#: Seconds after the drain timeout at which a supervisor kills a worker: its own last writes end before.
_KILL_AFTER = 15.0

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
    help="Stop after about so many events, 10 % more at most; with --processes, a new process follows.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=DRAIN_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Let handlers go on for so long after a signal to stop.",
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
    if processes > 1 or reload:
        return _supervise(ctx, processes, reload=reload)
    watch = ReaderWatch()
    with closing(Link.from_environment()) as link:
        worker = _work(link, watch, options)
    exit_on_signals()
    code = Exit.BROKEN if worker.broken else Exit.FINDINGS if worker.gave_up else Exit.FINE
    if watch.lost:
        code = Exit.READER_GONE
    if worker.cut_off:
        _leave_stuck_threads(code)
    return code


def _work(link: Link, watch: ReaderWatch, options: Mapping[str, Any]) -> Worker:
    """Run one worker to its end, in this process."""
    contract = load(options["config"])
    loop_factory = _loop_factory()
    logging_kept = logs.Kept()
    prepare_imports(options["config"])
    findings = preflight(contract, options["channels"])
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise ContractError(findings)
    router = load_router(contract, options["channels"])
    logging_kept.restore()
    runner = asyncio.Runner(loop_factory=loop_factory)
    loop = runner.get_loop()
    _refuse_stop(loop)
    try:
        return runner.run(_serve(contract, router, link, watch, options))
    finally:
        # A task that goes on when it is cancelled would be waited for.
        if not asyncio.all_tasks(loop):
            runner.close()


def _refuse_stop(loop: asyncio.AbstractEventLoop) -> None:
    """Let a handler that stops the event loop fail: the loop is the worker's."""
    stop = loop.stop

    def refuse() -> None:
        if asyncio.current_task(loop) is not None:
            raise RuntimeError("a handler must not stop the event loop of its worker")
        stop()

    loop.stop = refuse  # type: ignore[method-assign]


def _supervise(ctx: click.Context, processes: int, *, reload: bool) -> int:
    """Run this same command in processes of their own, each with one worker."""
    contract = load(ctx.params["config"])
    arguments = ["runworker", *ctx.params["channels"]]
    for option in ctx.command.params:
        if option.name not in ctx.params.keys() - {"channels", "processes", "reload"}:
            continue
        value = ctx.params[option.name]
        if value is True:
            arguments.append(option.opts[0])
        elif value not in (False, None):
            arguments += [option.opts[0], str(value)]
    supervisor = Supervisor(
        partial(WorkerProcess.start, command_line(arguments)),
        processes,
        grace=ctx.params["drain_timeout"] + _KILL_AFTER,
        watched=sorted({Path.cwd(), contract.root}) if reload else None,
    )
    watch = ReaderWatch()

    async def main() -> int:
        watch.start(supervisor.finish)
        try:
            return await supervisor.run()
        finally:
            watch.close()

    code = asyncio.run(main())
    exit_on_signals()
    return Exit.READER_GONE if watch.lost else code


async def _serve(
    contract: Contract, router: ChannelNameRouter, link: Link, watch: ReaderWatch, options: Mapping[str, Any]
) -> Worker:
    layer = open_contract_layer(contract, options["layer"])
    burst = options["burst"]
    services = {name: contract.channel(name).service for name in router.application_mapping}
    worker = Worker(
        watch.around(router), services, layer,
        burst=burst, drain_timeout=options["drain_timeout"], max_events=options["max_events"],
    )  # fmt: skip
    judged = ContractLayer(contract, layer)
    current_layer.set(judged)
    lend_layer(judged, options["layer"])
    stopper = _Stopper(worker)
    stopper.listen(link, partial(_source_files, contract))
    watch.start(stopper.reader_gone)
    try:
        counts = await stopper.unless_stopped(_reach(layer, services, patience=_BURST_PATIENCE if burst else math.inf))
        if counts is not None:
            waiting = "" if None in counts else f"; {sum(filter(None, counts))} waiting"
            if layer.url == "memory://":
                log.warning("events in memory:// are this process's own: no other one can send to it")
            log.info("serving %s from %s%s; ready", ", ".join(map(quoted, services)), shown(layer.url), waiting)
            link.report("ready")
            await worker.serve()
            if burst and not worker.reached_max_events:
                await _tell_retries(layer, services)
    finally:
        if worker.reached_max_events:
            link.report("spent")
        elif burst and not (stopper.stopped.is_set() or worker.broken):
            link.report("finished")
        await layer.close()
        watch.close()
    log.info("stopped")
    return worker


async def _reach(layer: ChannelLayer, channels: Iterable[str], *, patience: float) -> list[int | None]:
    """Count what waits on each channel, as soon as the layer answers; LayerUnavailable after `patience` seconds."""
    delay, give_up = FIRST_DELAY, time.monotonic() + patience
    while True:
        try:
            return [await layer.waiting(name) for name in channels]
        except LayerUnavailable as error:
            left = give_up - time.monotonic()
            if left <= 0:
                log.error("the layer has not answered for %.0f s: giving up", patience)  # noqa: TRY400
                raise
            delay = min(delay, left)
            log.error("cannot start yet, next try in %.1f s: %s", delay, error)  # noqa: TRY400
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_DELAY)


async def _tell_retries(layer: ChannelLayer, services: Mapping[str, Service]) -> None:
    """Log how many events a burst has left behind that do not wait: they are scheduled, or held by other workers."""
    for name, service in services.items():
        if service.retry is None:
            continue
        try:
            left = len([delivery async for delivery in layer.peek(name)]) - (await layer.waiting(name) or 0)
        except LayerError as error:
            log.warning("channel %s: cannot say what waits for a retry: %s", quoted(name), error)
        else:
            if left > 0:
                where = "are delayed, wait for a retry, or are held by other workers"
                log.warning("channel %s: %d events %s", quoted(name), left, where)


def _source_files(contract: Contract) -> Iterable[str]:
    """Return the files of the contract and of the modules that this process has imported."""
    return map(str, {contract.root / Path(contract.path).name, *contract.files, *loaded_modules()})


class _Stopper:
    """Stops a worker when its process is told to."""

    def __init__(self, worker: Worker) -> None:
        self.stopped = asyncio.Event()
        self._worker = worker
        self._signalled_before = False
        self._loop = asyncio.get_running_loop()

    def listen(self, link: Link, files: Callable[[], Iterable[str]]) -> None:
        """Listen to signals, and to a supervisor and its end."""
        for signum in not_ignored(STOP_SIGNALS):
            # Not the event loop's own way: a second signal must be heard while a handler blocks the loop.
            signal.signal(signum, self._signalled)
        _ForkedHandlers().install()
        # No signal: if the whole process group is stopped, both ways reach us, in either order.
        link.listen(partial(self._stop, "told by the supervisor, or left by it"), files)

    async def unless_stopped(self, call: Coroutine[Any, Any, T]) -> T | None:
        """Return what a call returns, or None, and cancel it, when the worker is told to stop first."""
        calling, stopped = asyncio.ensure_future(call), asyncio.ensure_future(self.stopped.wait())
        try:
            await asyncio.wait({calling, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return calling.result() if calling.done() else None
        finally:
            calling.cancel()
            stopped.cancel()
            await asyncio.gather(calling, stopped, return_exceptions=True)

    def reader_gone(self, why: str) -> None:
        """Stop, because a stream has lost its reader."""
        self._stop(why, logging.WARNING)

    def _signalled(self, signum: int, _frame: FrameType | None) -> None:
        if self._signalled_before or self._loop.is_closed():
            # Whoever reads the log may have stopped reading: then nothing is written.
            if select.select([], [2], [], 0)[1]:
                log.warning("second signal: leaving at once")
                logging.shutdown()
            os._exit(128 + signum)
        self._signalled_before = True
        self._loop.call_soon_threadsafe(self._stop, signal.Signals(signum).name)

    def _stop(self, why: str, level: int = logging.INFO) -> None:
        if not self.stopped.is_set():
            self.stopped.set()
            log.log(level, "%s: finishing the events in flight", why)
            self._worker.stop()


class _ForkedHandlers:
    """Restores the default signal handlers in processes that a handler forks: they are not workers."""

    def __init__(self) -> None:
        #: The signals that each forking thread had blocked before.
        self._masks: dict[int, set[signal.Signals | int]] = {}

    def install(self) -> None:
        """Take care of each fork from now on."""
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._forget)

    def _hold(self) -> None:
        # A signal that reaches the child before it has forgotten the worker's handlers would be lost.
        self._masks[get_ident()] = set(signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS))

    def _let_go(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(get_ident(), set()))

    def _forget(self) -> None:
        for signum in STOP_SIGNALS:
            if callable(signal.getsignal(signum)):
                signal.signal(signum, signal.SIG_DFL)
        with suppress(ValueError):  # forked from a thread
            signal.set_wakeup_fd(-1)
        self._let_go()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes event loops: uvloop's, where it is installed."""
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001  (with PYTHONPATH it may be a module of the project)
        file = getattr(sys.modules.get("uvloop"), "__file__", None)
        log.warning("uvloop%s cannot be used: %s", f" ({file})" if file else "", in_words(error))
        return None
    return factory


def _leave_stuck_threads(code: int) -> None:
    """Exit without waiting for handlers that were cut off at the deadline: a thread cannot be stopped."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(0.2)
            if thread.is_alive():
                atexit._run_exitfuncs()  # noqa: SLF001  (there is no other way to run them)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
