"""A worker's log lines have the requested format, whatever consumers' modules do to logging and to the time zone."""

import asyncio
import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from channelmap.cli.logs import PatientHandler
from tests.cli.commands import write_site

CHANNELS = """\
version: 1
layer: sqlite:///events.db
channels:
  jobs: {consumer: work.Jobs, events: {fail: true}}
"""
WORK = """\
import logging.config
from channelmap import AsyncConsumer

class Jobs(AsyncConsumer):
    async def fail(self, event):
        raise ValueError("boom")
"""
ROOT = """
logging.config.dictConfig({"version": 1, "root": {"level": "ERROR", "handlers": []}})
"""
ROOT_TO_STDERR = """
logging.config.dictConfig({
    "version": 1,
    "formatters": {"f": {"format": "theirs %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"level": "INFO", "handlers": ["h"]},
})
"""
OF_OTHERS = """
logging.config.dictConfig({"version": 1, "loggers": {"shop": {"level": "INFO"}}})
"""
OURS = """
logging.config.dictConfig({
    "version": 1,
    "formatters": {"f": {"format": "theirs %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "loggers": {"channelmap": {"level": "INFO", "handlers": ["h"], "propagate": False}},
})
"""
ZONE = """
import os, time
os.environ["TZ"] = "IST-5:30"
time.tzset()
"""


@pytest.fixture
def served(project: Path, run: Callable[..., Any]) -> Callable[..., list[str]]:
    """Run a burst with one failing event and this code in the consumers' module; return the log lines."""

    def serve(code: str, *options: str) -> list[str]:
        write_site(project, CHANNELS, WORK + code)
        run("send", "jobs", '{"type": "fail"}')
        worker = run("runworker", "--burst", *options)
        assert worker.popen.returncode == 0, worker.errors
        lines: list[str] = worker.errors.splitlines()
        return lines

    return serve


@pytest.mark.parametrize("code", ["", ROOT, ROOT_TO_STDERR, OF_OTHERS])
def test_a_workers_log_lines_appear_once_and_in_the_requested_format(
    served: Callable[..., list[str]], code: str
) -> None:
    entries = [json.loads(line) for line in served(code, "--log-format", "json")]

    messages = [entry["message"] for entry in entries]
    assert messages[0].endswith("1 waiting; ready")
    assert messages[-1] == "stopped"
    (failure,) = [entry for entry in entries if entry["level"] == "ERROR"]
    assert failure["message"] == "channel 'jobs': 'fail' failed: ValueError: boom; kept as a dead letter"
    assert (failure["channel"], failure["type"], failure["attempt"]) == ("jobs", "fail", 1)
    (letter,) = asyncio.run(get_channel_layer().dead_letters())
    assert failure["event_id"] == letter.event_id
    assert len(failure["event_id"]) == 16


def test_a_module_may_configure_the_loggers_of_channelmap(served: Callable[..., list[str]]) -> None:
    assert served(OURS)[-1] == "theirs stopped"


def test_the_time_of_a_line_has_its_zone(served: Callable[..., list[str]]) -> None:
    lines = served(ZONE)
    assert lines[-1].split()[1].endswith("+05:30")


def test_a_stopping_worker_logs_in_the_requested_format(
    project: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    write_site(project, CHANNELS, WORK + ROOT)
    worker = start("runworker", "--log-format", "json")
    wait_until(lambda: "; ready" in worker.errors, "the worker")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    messages = [json.loads(line)["message"] for line in worker.errors.splitlines()]
    assert messages[-2:] == ["SIGTERM: finishing the events in flight", "stopped"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_worker_with_a_full_log_pipe_goes_on_and_later_logs_the_number_of_dropped_lines(
    project: Path, wait_until: Callable[..., None], log_format: str
) -> None:
    write_site(project, CHANNELS, WORK)
    layer = get_channel_layer(project / "channels.yaml")
    for _ in range(500):
        layer.send_sync("jobs", {"type": "fail"})
    command = [sys.executable, "-m", "channelmap", "runworker", "--log-format", log_format]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        wait_until(lambda: len(asyncio.run(layer.dead_letters())) == 500, "all dead letters")
        # Now the log is read.
        os.read(process.stderr.fileno(), 1_000_000)
        layer.send_sync("jobs", {"type": "fail"})
        wait_until(lambda: len(asyncio.run(layer.dead_letters())) == 501, "the last dead letter")
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read().decode()
    assert process.returncode == 0
    lines = [line for line in log.splitlines() if line]
    (index,) = [number for number, line in enumerate(lines) if "log lines were dropped" in line]
    if log_format == "json":
        assert json.loads(lines[index])["level"] == "WARNING"
        assert json.loads(lines[index + 1])["channel"] == "jobs"
    assert "SIGTERM: finishing the events in flight" in log
    assert lines[-1].rstrip('"}').endswith("stopped")


def test_a_full_log_pipe_does_not_prevent_a_worker_from_ending(project: Path, wait_until: Callable[..., None]) -> None:
    write_site(project, CHANNELS, WORK)
    layer = get_channel_layer(project / "channels.yaml")
    for _ in range(500):
        layer.send_sync("jobs", {"type": "fail"})
    command = [sys.executable, "-m", "channelmap", "runworker"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(asyncio.run(layer.dead_letters())) == 500, "all dead letters")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize("character", ["a", "ü", "\U0001f600"])
def test_a_long_line_is_written_completely_and_a_full_pipe_does_not_block(character: str) -> None:
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 65_536)
    text = character * 200_000

    def read() -> str:
        parts = []
        while part := os.read(reading, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode()

    with os.fdopen(writing, "w", encoding="utf-8") as stream, ThreadPoolExecutor(1) as pool:
        handler = PatientHandler(stream)
        # Room for exactly one atomic write.
        os.write(writing, b"-" * (size - select.PIPE_BUF))
        emitting = threading.Thread(target=handler.emit, args=(logging.makeLogRecord({"msg": text}),), daemon=True)
        emitting.start()
        emitting.join(20)
        assert not emitting.is_alive()
        assert len(os.read(reading, size)) > size - select.PIPE_BUF
        whole = pool.submit(read)
        handler.emit(logging.makeLogRecord({"msg": text}))
        stream.close()
        # The first line was cut, so the next entry begins a new line.
        assert whole.result(20).splitlines() == ["", "1 log lines were dropped, because stderr was not read", text]
    os.close(reading)
