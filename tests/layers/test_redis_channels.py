"""A thousand channels in one file and one worker: it holds as few connections as for one."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer

from .redis_servers import Server

COUNT = 1_000
WORK = """\
import os
from channelmap import AsyncConsumer

file = os.open("done.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

class Jobs(AsyncConsumer):
    async def job(self, event):
        os.write(file, b"%d\\n" % event["n"])
"""


@pytest.fixture
def served(project: Path, server: Server) -> Path:
    channels = "".join(f"  c{number}: {{consumer: work.Jobs, events: {{job: true}}}}\n" for number in range(COUNT))
    (project / "channels.yaml").write_text(f"version: 1\nlayer: {server.url}\nchannels:\n{channels}")
    (project / "work.py").write_text(WORK)
    return project


def test_one_worker_serves_a_thousand_channels_over_a_handful_of_connections(
    served: Path, server: Server, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    done = served / "done.txt"
    worker = start("runworker")
    wait_until(lambda: "; ready" in worker.errors or worker.popen.poll() is not None, "the worker")
    layer = get_channel_layer(served / "channels.yaml")

    layer.send_sync(f"c{COUNT - 1}", {"type": "job", "n": -1})
    wait_until(lambda: done.exists() and done.read_text() == "-1\n", "the event on the last channel")
    for number in range(COUNT):
        layer.send_sync(f"c{number}", {"type": "job", "n": number})
    wait_until(lambda: done.read_text().count("\n") == COUNT + 1, "an event on each channel")

    # One of them is this sender's own.
    assert len(server.connections()) < 10
    assert sorted(map(int, done.read_text().split())) == list(range(-1, COUNT))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.errors
    assert "Traceback" not in worker.errors
    asyncio.run(layer.close())
