"""Handlers that do not end, block the event loop or fork: the worker still stops on a signal."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from channelmap import get_channel_layer
from channelmap.layer import DeadLetter
from tests.cli.commands import Start, write_site

CHANNELS = """\
version: 1
layer: sqlite:///events.db
channels:
  jobs:
    consumer: work.Jobs
    events: {job: true, deaf: true, block: true, halt: true, fork: true}
"""
WORK = """\
import asyncio, os, time
from pathlib import Path
from channelmap import AsyncConsumer

class Jobs(AsyncConsumer):
    async def job(self, event):
        Path("done").touch()

    async def deaf(self, event):
        Path("begun").touch()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    async def block(self, event):
        Path("begun").touch()
        time.sleep(60)

    async def halt(self, event):
        asyncio.get_running_loop().stop()

    async def fork(self, event):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        Path("child.tmp").write_text(str(pid))
        Path("child.tmp").rename("child")
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            await asyncio.sleep(0.005)
"""

WaitUntil = Callable[..., None]


@pytest.fixture
def served(project: Path) -> Path:
    write_site(project, CHANNELS, WORK)
    return project


def send(project: Path, *event_types: str) -> None:
    layer = get_channel_layer(project / "channels.yaml")
    for event_type in event_types:
        layer.send_sync("jobs", {"type": event_type})


def dead_letters(project: Path) -> list[DeadLetter]:
    async def main() -> list[DeadLetter]:
        letters: list[DeadLetter] = await get_channel_layer(project / "channels.yaml").dead_letters()
        return letters

    return asyncio.run(main())


def test_a_handler_that_ignores_its_cancellation_does_not_prevent_the_process_from_ending(
    served: Path, start: Start, wait_until: WaitUntil
) -> None:
    send(served, "deaf")
    worker = start("runworker", "--drain-timeout", "0.1")
    wait_until((served / "begun").exists, "the handler")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors
    assert worker.errors.rstrip().endswith("stopped")
    (letter,) = dead_letters(served)
    assert letter.reason == "the worker stopped before the handler had finished"


def test_a_second_signal_ends_the_worker_while_a_handler_blocks_the_event_loop(
    served: Path, start: Start, wait_until: WaitUntil
) -> None:
    send(served, "block")
    worker = start("runworker")
    wait_until((served / "begun").exists, "the handler")

    # The kernel may merge several pending signals into one.
    wait_until(lambda: worker.signal(signal.SIGTERM) or worker.popen.poll() is not None, "the end of the worker")

    assert worker.wait() == 128 + signal.SIGTERM, worker.errors


def test_a_handler_that_stops_the_event_loop_fails_and_the_next_event_is_handled(served: Path, start: Start) -> None:
    send(served, "halt", "job")

    worker = start("runworker", "--burst")

    assert worker.wait() == 0, worker.errors
    assert (served / "done").exists()
    (letter,) = dead_letters(served)
    assert letter.reason == "RuntimeError: a handler must not stop the event loop of its worker"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_a_process_forked_by_a_handler_ends_only_that_process(
    served: Path, start: Start, wait_until: WaitUntil, signum: signal.Signals
) -> None:
    send(served, "fork", "job")
    worker = start("runworker", "--burst")
    wait_until((served / "child").exists, "the child")

    os.kill(int((served / "child").read_text()), signum)

    assert worker.wait() == 0, worker.errors
    assert (served / "done").exists()
    assert signum.name not in worker.errors
