"""`runworker`: serve the channels of a contract."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import click

from channelmap.checks import check
from channelmap.cli import logs
from channelmap.cli.options import CONFIG, LAYER, prepare_imports
from channelmap.contract import Contract
from channelmap.diagnostics import Severity
from channelmap.errors import ContractError, quoted
from channelmap.layer import current_layer
from channelmap.loader import load
from channelmap.routing import load_router
from channelmap.sending import ContractLayer, open_contract_layer
from channelmap.worker import Worker

log = logging.getLogger("channelmap.worker")


@click.command("runworker", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...")
@CONFIG
@LAYER
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
def command(  # noqa: PLR0913, PLR0917  (one argument for each option)
    channels: tuple[str, ...],
    config: str,
    layer: str | None,
    burst: bool,  # noqa: FBT001
    drain_timeout: float,
    log_format: str,
    log_level: str,
) -> None:
    """Serve the channels of a contract: all of them when none is named.

    SIGTERM and SIGINT let handlers finish and give back what they have not begun; a second one leaves at once.
    """
    logs.configure(log_format, log_level)
    contract = load(config)
    prepare_imports(config)
    findings = check(contract, channels)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise ContractError(findings)
    router = load_router(contract, channels)
    _run(_serve(contract, router, layer, burst=burst, drain_timeout=drain_timeout))
    _leave_stuck_threads()


async def _serve(contract: Contract, router: Any, url: str | None, *, burst: bool, drain_timeout: float) -> None:
    layer = open_contract_layer(contract, url)
    services = {name: contract.channel(name).service for name in router.application_mapping}
    worker = Worker(router, services, layer, burst=burst)
    current_layer.set(ContractLayer(contract, layer))
    _on_signals(_stopper(worker, drain_timeout))
    try:
        counts = [await layer.waiting(name) for name in services]
        waiting = "" if None in counts else f"; {sum(filter(None, counts))} waiting"
        if layer.url == "memory://":
            log.warning("events in memory:// are this process's own: no other one can send to it")
        log.info("serving %s from %s%s; ready", ", ".join(map(quoted, services)), layer.url, waiting)
        await worker.serve()
    finally:
        await layer.close()
    log.info("stopped")


def _stopper(worker: Worker, drain_timeout: float) -> Callable[[int], None]:
    asked = False

    def stop(signum: int) -> None:
        nonlocal asked
        if asked:
            log.warning("second signal: leaving at once")
            logging.shutdown()
            os._exit(128 + signum)
        asked = True
        log.info("%s: finishing what was begun", signal.Signals(signum).name)
        worker.stop(drain_timeout)

    return stop


def _on_signals(stop: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop, signum)


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)


def _leave_stuck_threads() -> None:
    """Exit without waiting for handlers that were cut off at the deadline: a thread cannot be stopped."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(0.2)
            if thread.is_alive():
                logging.shutdown()
                os._exit(0)
