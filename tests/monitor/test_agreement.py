"""Workers under load, one stopped and one killed: `status`, `/metrics` and the histories of the handlers agree."""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from tests.layers.redis_servers import VOLATILE, Cluster, Sentinels, Server, free_port, running

from .site import Client

Start = Callable[..., Any]
Wait = Callable[..., None]
KINDS = ("sqlite", "server", "sentinel", "cluster")

CHANNELS = """\
version: 1
layer: {url}
channels:
  one:
    consumer: work.Worker
    delivery: at-least-once
    events: {{job: {{schema: {{properties: {{n: {{type: integer}}}}}}}}}}
  two:
    consumer: work.Worker
    events: {{job: {{schema: {{properties: {{n: {{type: integer}}}}}}}}}}
"""

#: Each handler writes its process, its channel and how it ended; every tenth event fails.
WORK = """\
import os
from channelmap import AsyncConsumer, Reject

file = os.open("history.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

class Worker(AsyncConsumer):
    async def job(self, event):
        fails = event["n"] % 10 == 0
        os.write(file, f"{os.getpid()} {self.scope['channel']} {'given-up' if fails else 'handled'}\\n".encode())
        if fails:
            raise Reject("a tenth")
"""


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of each kind of layer that several processes can share."""
    with ExitStack() as stack:
        match request.param:
            case "server":
                server = Server(tmp_path / "server", *VOLATILE)
                stack.enter_context(running(server))
                yield server.url
            case "sentinel":
                yield stack.enter_context(Sentinels(tmp_path / "sentinels").running()).url
            case "cluster":
                cluster = stack.enter_context(Cluster(tmp_path / "cluster").running())
                yield f"redis+cluster://{cluster.nodes[0].address}"
            case _:
                yield "sqlite:///channels.db"


class Site:
    """A project, its workers' history and what can be asked about them."""

    def __init__(self, directory: Path, url: str, run: Start) -> None:
        (directory / "channels.yaml").write_text(CHANNELS.format(url=url))
        (directory / "work.py").write_text(WORK)
        self._history = directory / "history.txt"
        self._layer = get_channel_layer(directory / "channels.yaml")
        self._run = run

    def send(self, count: int) -> None:
        """Send so many events to each channel."""
        for channel in ("one", "two"):
            for n in range(count):
                self._layer.send_sync(channel, {"type": "job", "n": n})

    def history(self, *pids: int) -> Counter[tuple[str, str]]:
        """Return how many events the handlers of these processes have had, by channel and outcome."""
        lines = [line.split() for line in self._history.read_text().splitlines()] if self._history.exists() else []
        return Counter((channel, outcome) for pid, channel, outcome in lines if not pids or int(pid) in pids)

    def status(self) -> Any:
        """Return what `channelmap status --json` prints."""
        command = self._run("status", "--json")
        assert command.popen.returncode == 0, command.errors
        return json.loads(command.output)

    def totals(self) -> Counter[tuple[str, str]]:
        """Return the same counts as `history`, from the totals of the layer."""
        return Counter({
            (name, outcome): channel["totals"].get(outcome, 0)
            for name, channel in self.status()["channels"].items()
            for outcome in ("handled", "given-up")
        })  # fmt: skip


def metered(client: Client) -> Counter[tuple[str, str]]:
    """Return the same counts as `Site.history`, from the metrics of one worker."""
    names = {"ok": "handled", "given-up": "given-up"}
    return Counter({
        (key[1], names[key[3]]): int(value)
        for key, value in client.metrics().items()
        if key[0] == "channelmap_events_handled_total"
    })  # fmt: skip


def test_totals_metrics_and_histories_agree(
    project: Path, url: str, start: Start, run: Start, wait_until: Wait
) -> None:
    site = Site(project, url, run)
    ports = free_port(), free_port()
    clients = [Client(port) for port in ports]
    stopped, killed = workers = [start("runworker", "--monitor", str(port)) for port in ports]
    pids = [worker.popen.pid for worker in workers]
    for client in clients:
        wait_until(lambda client=client: client.code("/readyz") == 200, "the workers")
    wait_until(lambda: {worker["pid"] for worker in site.status()["workers"]} == {*pids}, "their heartbeats")

    site.send(100)
    wait_until(lambda: site.history().total() == 200, "the events")
    for client, pid in zip(clients, pids, strict=True):
        wait_until(lambda client=client, pid=pid: metered(client) == site.history(pid), "the metrics of a worker")
    wait_until(lambda: site.totals() == site.history(), "the totals")
    counted = site.history(killed.popen.pid)

    site.send(100)
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == 0
    wait_until(lambda: site.history().total() == 400, "the other events")
    killed.signal(signal.SIGKILL)
    killed.wait()
    status, totals = site.status(), site.totals()
    assert stopped.popen.pid not in {worker["pid"] for worker in status["workers"]}
    assert {name: channel["waiting"] for name, channel in status["channels"].items()} == {"one": 0, "two": 0}
    # What the killed worker did since its last heartbeat may be missing, and nothing else.
    told, done = site.history(stopped.popen.pid), site.history()
    assert done.total() == 400
    for key in done:
        assert counted[key] + told[key] <= totals[key] <= done[key]
