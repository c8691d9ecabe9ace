"""Channels layers that do not support what a worker asks of them; under real commands."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHANNELS = """\
version: 1
layer: {backend: theirs.Layer}
channels:
  jobs: {consumer: work.Jobs, events: {job: true}}
  other: {consumer: work.Jobs, events: {job: true}}
"""

WORK = """\
from channelmap import AsyncConsumer

class Jobs(AsyncConsumer):
    async def job(self, event):
        print("handled", flush=True)
"""

THEIRS = """\
import asyncio
from channels.layers import BaseChannelLayer

class Private(BaseChannelLayer):
    async def new_channel(self, prefix="specific"):
        return prefix + ".a!b"

class Layer(Private):
    async def send(self, channel, message):
        self.require_support(channel)

    async def receive(self, channel):
        self.require_support(channel)
        return await asyncio.Future()

    def require_support(self, channel):
        if channel == "jobs":
            raise ERROR("only private channels\\n  are supported")

class Unreadable(Private):
    def __init__(self):
        super().__init__()
        self.waiting = [ValueError("a"), {"type": "job"}, ValueError("b"), ValueError("b"), {"type": "job"}]

    async def receive(self, channel):
        if channel == "other" or not self.waiting:
            return await asyncio.Future()
        event = self.waiting.pop(0)
        if isinstance(event, Exception):
            raise event
        return event
"""

Run = Callable[..., Any]


@pytest.fixture
def served(project: Path) -> Path:
    (project / "channels.yaml").write_text(CHANNELS)
    (project / "work.py").write_text(WORK)
    (project / "theirs.py").write_text(THEIRS.replace("ERROR", "TypeError"))
    return project


@pytest.mark.parametrize("error", ["TypeError", "ValueError", "NotImplementedError", "AssertionError"])
@pytest.mark.parametrize("options", [[], ["--burst"]])
def test_a_worker_ends_with_one_line_when_its_layer_does_not_support_a_channel(
    served: Path, run: Run, error: str, options: list[str]
) -> None:
    (served / "theirs.py").write_text(THEIRS.replace("ERROR", error))

    process = run("runworker", *options, "--log-level", "warning")

    assert process.popen.returncode == 2
    assert process.errors == (
        "channelmap: theirs.Layer: cannot serve channel 'jobs': receiving from it raised "
        f"{error}: only private channels are supported; use a layer that supports it\n"
    )


def test_an_event_that_the_layer_cannot_read_does_not_end_the_worker(
    served: Path, start: Run, wait_until: Callable[..., None]
) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("Layer}", "Unreadable}"))

    worker = start("runworker")
    wait_until(lambda: worker.lines == ["handled\n"] * 2, "both events")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert worker.errors.count("cannot take events, next try in") == 2


@pytest.mark.parametrize("error", ["TypeError", "ValueError", "NotImplementedError", "AssertionError"])
def test_a_channel_that_the_layer_does_not_support_is_said_by_send_in_one_line(
    served: Path, run: Run, error: str
) -> None:
    (served / "theirs.py").write_text(THEIRS.replace("ERROR", error))

    process = run("send", "jobs", '{"type": "job"}')

    assert process.popen.returncode == 2
    assert process.errors == (
        f"channelmap: theirs.Layer: cannot send to channel 'jobs': {error}: only private channels are supported\n"
    )
