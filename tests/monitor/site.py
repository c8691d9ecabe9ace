"""A project whose handlers do what their events say, and HTTP requests to the monitor of its workers."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from channelmap import get_channel_layer

CHANNELS = """\
version: 1
layer: ${URL:-sqlite:///channels.db}
channels:
  async:
    consumer: work.Async
    delivery: at-least-once
    retry: {attempts: 2, delay: 0.01}
    events: {job: {schema: {properties: {n: {type: integer}}}}, fail: true, block: true}
  sync: {consumer: work.Sync, events: {job: {schema: {properties: {n: {type: integer}}}}, fail: true, block: true}}
  loose: {consumer: work.Async, validate: off, events: {job: true}}
"""

WORK = """\
import os, time
from pathlib import Path
from channelmap import AsyncConsumer, SyncConsumer

file = os.open("done.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

def job(event):
    os.write(file, b"%d\\n" % event.get("n", 0))

def fail(event):
    raise ValueError("no disk")

def block(event):
    Path("begun").touch()
    while not Path("release").exists():
        time.sleep(0.01)

class Async(AsyncConsumer):
    async def job(self, event):
        job(event)

    async def fail(self, event):
        fail(event)

    async def block(self, event):
        block(event)

    async def unknown(self, event):
        job(event)

class Sync(SyncConsumer):
    def job(self, event):
        job(event)

    def fail(self, event):
        fail(event)

    def block(self, event):
        block(event)
"""


def write_site(directory: Path) -> None:
    (directory / "channels.yaml").write_text(CHANNELS)
    (directory / "work.py").write_text(WORK)


def send(directory: Path, channel: str, event_type: str = "job", count: int = 1, **fields: Any) -> None:
    layer = get_channel_layer(directory / "channels.yaml")
    for n in range(count):
        layer.send_sync(channel, {"type": event_type, "n": n, **fields})


def handled(directory: Path) -> int:
    path = directory / "done.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


class Client:
    """Asks a monitor."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def code(self, path: str) -> int:
        return self.get(path)[0]

    def status(self) -> Any:
        return json.loads(self.get("/status.json")[1])

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return the samples by name and values of the labels, as Prometheus' own parser reads them."""
        code, text = self.get("/metrics")
        assert code == 200, text
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, *key: str) -> float:
        return self.metrics().get(key, 0.0)


def is_answering(client: Client, path: str, code: int) -> Callable[[], bool]:
    return lambda: client.code(path) == code
