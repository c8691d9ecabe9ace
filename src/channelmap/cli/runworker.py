"""`runworker`: serve the channels of a contract."""

import asyncio
import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from channelmap.checks import check
from channelmap.cli import logs
from channelmap.cli.exits import Exit
from channelmap.cli.options import CONFIG, LAYER, prepare_imports
from channelmap.contract import Contract
from channelmap.diagnostics import Severity
from channelmap.environment import shown
from channelmap.errors import ContractError, quoted
from channelmap.layer import current_layer
from channelmap.loader import load
from channelmap.routing import load_router
from channelmap.sending import ContractLayer, open_contract_layer
from channelmap.supervisor import LIFELINE, Supervisor, command_line
from channelmap.worker import Worker

log = logging.getLogger("channelmap.worker")


@click.command("runworker", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...")
@CONFIG
@LAYER
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="How many workers to run.")
@click.option("--burst", is_flag=True, help="Serve what waits, then exit.")
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long handlers may go on after SIGTERM or SIGINT.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option("--reload", is_flag=True, help="Start anew when a source file here changes: for development.")
@click.pass_context
def command(ctx: click.Context, /, *, processes: int, reload: bool, **options: Any) -> int:
    """Serve the channels of a contract: all of them when none is named.

    SIGTERM and SIGINT let handlers finish and give back what they have not begun; a second one leaves at once.
    """
    logs.configure(options["log_format"], options["log_level"])
    if processes > 1 or reload:
        return _supervise(ctx, processes, reload=reload)
    contract = load(options["config"])
    prepare_imports(options["config"])
    findings = check(contract, options["channels"], thorough=False)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise ContractError(findings)
    router = load_router(contract, options["channels"])
    worker = _run(
        _serve(contract, router, options["layer"], burst=options["burst"], drain_timeout=options["drain_timeout"])
    )
    if worker.cut_off:
        _leave_stuck_threads()
    return Exit.FINDINGS if worker.gave_up else Exit.FINE


def _supervise(ctx: click.Context, processes: int, *, reload: bool) -> int:
    """Run this same command in processes of their own, each with one worker."""
    load(ctx.params["config"])
    if reload and find_spec("watchfiles") is None:
        raise click.UsageError("--reload needs an extra: pip install 'channelmap[reload]'")
    options = [option for option in ctx.command.params if option.name not in {"channels", "processes", "reload"}]
    arguments = ["runworker", *ctx.params["channels"]]
    for option in options:
        value = ctx.params[option.name or ""]
        if value is True:
            arguments.append(option.opts[0])
        elif value not in (False, None):
            arguments += [option.opts[0], str(value)]
    watched = [Path.cwd()] if reload else []
    return asyncio.run(Supervisor(command_line(arguments), processes, watched).run())


async def _serve(contract: Contract, router: Any, url: str | None, *, burst: bool, drain_timeout: float) -> Worker:
    layer = open_contract_layer(contract, url)
    services = {name: contract.channel(name).service for name in router.application_mapping}
    worker = Worker(router, services, layer, burst=burst)
    current_layer.set(ContractLayer(contract, layer))
    _Stopper(worker, drain_timeout).listen()
    try:
        counts = [await layer.waiting(name) for name in services]
        waiting = "" if None in counts else f"; {sum(filter(None, counts))} waiting"
        if layer.url == "memory://":
            log.warning("events in memory:// are this process's own: no other one can send to it")
        log.info("serving %s from %s%s; ready", ", ".join(map(quoted, services)), shown(layer.url), waiting)
        await worker.serve()
    finally:
        await layer.close()
    log.info("stopped")
    return worker


class _Stopper:
    """Stops a worker when its process is told to."""

    def __init__(self, worker: Worker, drain_timeout: float) -> None:
        self._worker = worker
        self._drain_timeout = drain_timeout
        self._stopping = False
        self._signalled_before = False

    def listen(self) -> None:
        """Listen to signals, and to the end of a supervisor."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._signalled, signum)
        lifeline = int(os.environ.pop(LIFELINE, -1))
        if lifeline >= 0:
            # Nobody writes to it: it can be read when it is cut.
            loop.add_reader(lifeline, self._cut_loose, lifeline)

    def _signalled(self, signum: int) -> None:
        if self._signalled_before:
            log.warning("second signal: leaving at once")
            logging.shutdown()
            os._exit(128 + signum)
        self._signalled_before = True
        self._stop(signal.Signals(signum).name)

    def _cut_loose(self, lifeline: int) -> None:
        # No signal: who stops a whole process group reaches us by both ways, in either order.
        asyncio.get_running_loop().remove_reader(lifeline)
        self._stop("told by the supervisor, or left by it")

    def _stop(self, why: str) -> None:
        if not self._stopping:
            self._stopping = True
            log.info("%s: finishing what was begun", why)
            self._worker.stop(self._drain_timeout)


def _run(main: Coroutine[Any, Any, Worker]) -> Worker:
    try:
        import uvloop
    except ImportError:
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)


def _leave_stuck_threads() -> None:
    """Exit without waiting for handlers that were cut off at the deadline: a thread cannot be stopped."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(0.2)
            if thread.is_alive():
                atexit._run_exitfuncs()  # noqa: SLF001  (there is no other way to run them)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
