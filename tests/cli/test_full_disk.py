"""A worker on SQLite while the disk is full, simulated by a limit on the size of files that its process writes."""

import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from tests.cli.commands import write_site

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    delivery: DELIVERY
    events: {job: true}
"""
WORK = """\
import time
from pathlib import Path
from channelmap import SyncConsumer

class Jobs(SyncConsumer):
    def job(self, event):
        if event["n"] == 0:
            Path("begun").touch()
            while not Path("released").exists():
                time.sleep(0.005)
        print(event["n"], flush=True)
"""


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_worker_waits_for_room_on_a_full_disk_and_then_handles_every_event_once(
    project: Path, start: Callable[..., Any], run: Callable[..., Any], wait_until: Callable[..., None], delivery: str
) -> None:
    write_site(project, CHANNELS.replace("DELIVERY", delivery), WORK)
    layer = get_channel_layer(project / "channels.yaml")
    layer.send_sync("jobs", {"type": "job", "n": 0})
    worker = start("runworker")
    wait_until((project / "begun").exists, "the first event")

    def limit(most: int) -> None:
        resource.prlimit(worker.popen.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    limit(4_096)
    for n in range(1, 20):
        layer.send_sync("jobs", {"type": "job", "n": n})
    (project / "released").touch()
    wait_until(lambda: "is a quota used up, or the disk failing?" in worker.errors, "the worker to say so")
    limit(resource.RLIM_INFINITY)
    wait_until(lambda: len(worker.lines) == 20, "all events")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors
    assert worker.output.split() == [str(n) for n in range(20)]
    assert run("dead", "list").output == ""


SENDS = """\
import resource
from channelmap import LayerUnavailable, get_channel_layer
layer = get_channel_layer()

def send(n, limit):
    resource.prlimit(0, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        layer.send_sync("jobs", {"type": "job", "n": n})
    except LayerUnavailable as error:
        print(error.reason)
    else:
        print("sent", n)

send(1, 100)
send(2, resource.RLIM_INFINITY)
send(3, 4_096)
send(4, resource.RLIM_INFINITY)
"""


def test_a_sender_gets_an_error_on_a_full_disk_and_can_send_when_there_is_room(
    project: Path, start: Callable[..., Any], run: Callable[..., Any]
) -> None:
    (project / "channels.yaml").write_text(CHANNELS.replace("DELIVERY", "at-most-once"))
    (project / "work.py").write_text(
        "from channelmap import SyncConsumer\nclass Jobs(SyncConsumer):\n    def job(self, event): print(event['n'])\n"
    )
    sender = start(command=("-c", SENDS))

    assert sender.wait() == 0, sender.errors
    full = "the file cannot be written (disk I/O error); is a quota used up, or the disk failing?"
    assert sender.output.splitlines() == [full, "sent 2", full, "sent 4"]
    assert run("runworker", "--burst").output == "2\n4\n"
