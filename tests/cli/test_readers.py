"""`runworker | head -3`: a command whose output no longer has a reader ends cleanly and loses no events."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from channelmap import get_channel_layer
from tests.cli.commands import write_site

READER_GONE = 128 + signal.SIGPIPE
EVENTS = 50
CHANNELS = """\
version: 1
layer: sqlite:///events.db
channels:
  jobs: {consumer: work.Jobs, delivery: DELIVERY, events: {job: true, late: true}}
"""
#: `job` prints more than fits into a pipe or a socket, so without a reader it blocks until it fails.
WORK = """\
import asyncio
from pathlib import Path

from channelmap import AsyncConsumer, SyncConsumer

def job():
    print("x" * 1_000_000, flush=True)

def late():
    print("begun", flush=True)
    Path("go").read_bytes()
    print("late", flush=True)
    Path("done").touch()

class Async(AsyncConsumer):
    async def job(self, event):
        job()

    async def late(self, event):
        await asyncio.to_thread(late)

class Sync(SyncConsumer):
    def job(self, event):
        job()

    def late(self, event):
        late()
"""


@pytest.fixture(params=["Async", "Sync"])
def consumer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def set_up(project: Path, consumer: str, delivery: str, events: int = EVENTS) -> None:
    write_site(project, CHANNELS.replace("DELIVERY", delivery).replace("Jobs", consumer, 1), WORK)
    layer = get_channel_layer(project / "channels.yaml")
    for _ in range(events):
        layer.send_sync("jobs", {"type": "job"})


Popen = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def popen(project: Path) -> Iterator[Popen]:
    """Start commands with pipes or another stdout; kill running ones at the end."""
    started = []

    def call(*arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "channelmap", *arguments]
        started.append(subprocess.Popen(command, cwd=project, stdout=stdout, stderr=subprocess.PIPE))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()


def read_until(words: bytes, stream: IO[bytes] | None) -> None:
    assert stream is not None
    assert any(words in line for line in stream), f"the stream ended without {words!r}"


def lose_reader(process: "subprocess.Popen[bytes]") -> str:
    """Close the reading end of stdout; return the rest of stderr once the process has ended."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    process.wait(30)
    return errors


def left(project: Path) -> tuple[int, int]:
    """Count the waiting and leased events, and the dead letters."""

    async def main() -> tuple[int, int]:
        layer: Any = get_channel_layer(project / "channels.yaml")
        seen = [delivery async for delivery in layer.layer.peek("jobs")]
        letters = await layer.dead_letters()
        await layer.close()
        return len(seen), len(letters)

    return asyncio.run(main())


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_stops_when_its_output_has_no_reader_and_returns_unstarted_events(
    project: Path, popen: Popen, consumer: str, delivery: str, processes: str
) -> None:
    set_up(project, consumer, delivery)
    process = popen("runworker", "--processes", processes)

    assert process.stdout is not None
    os.read(process.stdout.fileno(), 10)
    errors = lose_reader(process)

    assert process.returncode == READER_GONE, errors
    assert "stdout no longer has a reader: finishing the events in flight" in errors
    waiting, dead = left(project)
    handled = EVENTS - waiting - dead
    # At most one event of each process fails, and a few were printed before.
    assert dead <= int(processes)
    assert handled <= 3 * int(processes)


def test_a_worker_stops_when_a_readable_socket_has_no_reader(project: Path, popen: Popen, consumer: str) -> None:
    """As under systemd, whose journal reads a socket and never writes there."""
    set_up(project, consumer, "at-most-once")
    journal, theirs = socket.socketpair()
    journal.shutdown(socket.SHUT_WR)
    process = popen("runworker", stdout=theirs.fileno())
    theirs.close()
    journal.recv(10)
    journal.close()
    _, errors = process.communicate(timeout=30)

    assert process.returncode == READER_GONE, errors
    assert b"stdout no longer has a reader" in errors
    waiting, dead = left(project)
    assert (waiting, dead) == (EVENTS - 1, 1)


def test_a_running_handler_may_print_and_finish_when_its_output_has_no_reader(
    project: Path, popen: Popen, consumer: str
) -> None:
    set_up(project, consumer, "at-most-once", events=0)
    os.mkfifo(project / "go")
    get_channel_layer(project / "channels.yaml").send_sync("jobs", {"type": "late"})
    process = popen("runworker")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"begun\n"
    process.stdout.close()
    read_until(b"no longer has a reader", process.stderr)
    (project / "go").write_bytes(b"")
    errors = process.stderr.read()
    process.stderr.close()

    assert process.wait(30) == READER_GONE, errors
    assert (project / "done").exists()
    assert left(project) == (0, 0)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_idle_worker_stops_when_its_output_has_no_reader(project: Path, popen: Popen, processes: str) -> None:
    set_up(project, "Async", "at-most-once", events=0)
    process = popen("runworker", "--processes", processes)
    assert process.stderr is not None
    for _ in range(int(processes)):
        read_until(b"; ready", process.stderr)

    errors = lose_reader(process)

    assert process.returncode == READER_GONE, errors
    assert "stdout no longer has a reader" in errors


def test_a_worker_whose_log_has_no_reader_stops(project: Path, popen: Popen) -> None:
    set_up(project, "Async", "at-most-once", events=0)
    process = popen("runworker")
    read_until(b"; ready", process.stderr)
    assert process.stderr is not None
    process.stderr.close()
    process.communicate(timeout=30)
    assert process.returncode == READER_GONE


@pytest.mark.parametrize("arguments", [("check", "--output", "json"), ("explain", "json-syntax"), ("--help",)])
def test_a_command_whose_output_has_no_reader_ends_without_a_message(project: Path, arguments: tuple[str, ...]) -> None:
    set_up(project, "Async", "at-most-once", events=0)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "channelmap", *arguments]
    process = subprocess.run(command, cwd=project, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (READER_GONE, b"")
