"""The layer in a file, between real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer

from .conformance import event, numbers

SEND = """
layer, sender = open_layer(sys.argv[1], capacity=10**6), int(sys.argv[2])
for number in range(5_000):
    layer.send_sync("jobs", {"type": "job", "id": number, "sender": sender})
"""

# Takes until it is told to stop, and then whatever is left.
TAKE = """
async def main():
    layer, got = open_layer(sys.argv[1]), []
    stop = asyncio.create_task(layer.take(sys.argv[2], 1))
    while not stop.done():
        taking = asyncio.create_task(layer.take("jobs", 64))
        await asyncio.wait([stop, taking], return_when=asyncio.FIRST_COMPLETED)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            got += await taking
    while batch := await layer.take("jobs", 64, wait=False):
        got += batch
    print(json.dumps([[d.event["sender"], d.event["id"]] for d in got]))
asyncio.run(main())
"""

HOLD = """
async def main():
    layer = open_layer(sys.argv[1])
    taken = await layer.take("jobs", 2, lease=json.loads(sys.argv[2]))
    waiting = asyncio.create_task(layer.take("never", 1))
    await until_blocked()
    print(len(taken), flush=True)
    await waiting
asyncio.run(main())
"""

FORK = """
layer = open_layer(sys.argv[1])
async def main():
    await layer.send("jobs", {"type": "job", "id": 0})
    taking = asyncio.create_task(layer.take("mine", 1))
    await until_blocked()
    sockets = os.listdir(sys.argv[1].removeprefix("sqlite:///") + "-wake")
    listener = layer._listeners.current()
    if os.fork() == 0:
        inherited = len(layer._connections._idle)
        layer.send_sync("jobs", {"type": "job", "id": 1})
        listener._remove_socket()
        os._exit(inherited)
    assert os.wait()[1] == 0
    assert os.listdir(sys.argv[1].removeprefix("sqlite:///") + "-wake") == sockets
    await layer.send("mine", {"type": "job", "id": 2})
    print(len(await taking), len(await layer.take("jobs", 9)))
asyncio.run(main())
"""

LEAK = """
async def main(layer):
    taking = asyncio.create_task(layer.take("jobs", 1))
    await asyncio.sleep(0)
    await layer.send("jobs", {"type": "job"})
    await taking
for _ in range(2):
    asyncio.run(main(open_layer(sys.argv[1])))
forgotten = open_layer(sys.argv[1])
asyncio.run(main(forgotten))
"""

HEAD = """
import asyncio, json, os, sys
from contextlib import suppress
from channelmap.layers import open_layer

async def until_blocked():
    for _ in range(20):
        await asyncio.sleep(0)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/events.db"


@pytest.fixture
def start() -> Iterator[Any]:
    """Start a Python process; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", HEAD + code, *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert err == ""
    return out


async def fill(layer: ChannelLayer, count: int) -> None:
    await layer.send_many("jobs", [event(number) for number in range(count)])


def test_four_senders_and_two_takers_lose_and_double_nothing(url: str, start: Any) -> None:
    takers = [start(TAKE, url, f"stop-{number}") for number in range(2)]
    for sender in [start(SEND, url, str(number)) for number in range(4)]:
        output(sender)
    layer = open_layer(url)
    for number in range(2):
        layer.send_sync(f"stop-{number}", event(0))
    taken = [json.loads(output(taker)) for taker in takers]
    asyncio.run(layer.close())

    everything = sorted(map(tuple, taken[0] + taken[1]))
    assert everything == [(sender, number) for sender in range(4) for number in range(5_000)]
    for of_one_taker in taken:
        by_sender = defaultdict(list)
        for sender, number in of_one_taker:
            by_sender[sender].append(number)
        assert all(ids == sorted(ids) for ids in by_sender.values())


def test_a_killed_taker_costs_what_it_had_in_hand_and_its_socket_is_cleared_away(
    url: str, start: Any, tmp_path: Path
) -> None:
    layer = open_layer(url)
    asyncio.run(fill(layer, 5))
    taker = start(HOLD, url, "null")
    assert taker.stdout.readline() == "2\n"
    assert len(list((tmp_path / "events.db-wake").iterdir())) == 1
    taker.send_signal(signal.SIGKILL)
    taker.wait(20)
    assert numbers(asyncio.run(layer.take("jobs", 9, wait=False))) == [2, 3, 4]
    layer.send_sync("jobs", event(5))
    assert list((tmp_path / "events.db-wake").iterdir()) == []
    asyncio.run(layer.close())


def test_what_a_killed_taker_had_leased_comes_again_to_one_who_waits(url: str, start: Any) -> None:
    layer = open_layer(url)
    asyncio.run(fill(layer, 2))
    taker = start(HOLD, url, "0.3")
    assert taker.stdout.readline() == "2\n"
    taker.send_signal(signal.SIGKILL)
    taker.wait(20)

    async def take() -> list[tuple[int, bool]]:
        async with asyncio.timeout(4):
            deliveries = await layer.take("jobs", 9, lease=60) + await layer.take("jobs", 9, lease=60)
        await layer.close()
        return [(delivery.attempt, delivery.suspect) for delivery in deliveries]

    assert asyncio.run(take()) == [(1, True), (1, True)]


def test_a_forked_child_opens_its_own_connections_and_leaves_the_sockets_alone(url: str, start: Any) -> None:
    assert output(start(FORK, url)) == "1 2\n"


def test_nothing_is_left_open(url: str, start: Any, tmp_path: Path) -> None:
    assert output(start(LEAK, url)) == ""
    assert list((tmp_path / "events.db-wake").iterdir()) == []
