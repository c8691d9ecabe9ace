"""A worker's log lines appear as asked for, whatever the consumers' modules do to logging and to the time zone."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    """Let a burst fail one event, with this in the consumers' module; return the lines of the log."""

    def serve(code: str, *options: str) -> list[str]:
        (project / "channels.yaml").write_text(CHANNELS)
        (project / "work.py").write_text(WORK + code)
        run("send", "jobs", '{"type": "fail"}')
        worker = run("runworker", "--burst", *options)
        assert worker.popen.returncode == 0, worker.errors
        lines: list[str] = worker.errors.splitlines()
        return lines

    return serve


@pytest.mark.parametrize("code", ["", ROOT, ROOT_TO_STDERR, OF_OTHERS])
def test_a_workers_lines_appear_once_and_in_the_format_asked_for(served: Callable[..., list[str]], code: str) -> None:
    entries = [json.loads(line) for line in served(code, "--log-format", "json")]

    messages = [entry["message"] for entry in entries]
    assert messages[0].endswith("1 waiting; ready")
    assert messages[-1] == "stopped"
    (failure,) = [entry for entry in entries if entry["level"] == "ERROR"]
    assert failure["message"] == "channel 'jobs': 'fail' failed: ValueError: boom; kept as a dead letter"
    assert (failure["channel"], failure["type"], failure["attempt"]) == ("jobs", "fail", 1)


def test_a_module_that_configures_channelmaps_loggers_has_its_way(served: Callable[..., list[str]]) -> None:
    assert served(OURS)[-1] == "theirs stopped"


def test_the_time_of_a_line_has_its_zone(served: Callable[..., list[str]]) -> None:
    lines = served(ZONE)
    assert lines[-1].split()[1].endswith("+05:30")


def test_a_stopping_worker_logs_in_the_format_asked_for(
    project: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    (project / "channels.yaml").write_text(CHANNELS)
    (project / "work.py").write_text(WORK + ROOT)
    worker = start("runworker", "--log-format", "json")
    wait_until(lambda: "; ready" in worker.errors, "the worker")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    messages = [json.loads(line)["message"] for line in worker.errors.splitlines()]
    assert messages[-2:] == ["SIGTERM: finishing what was begun", "stopped"]
