"""Measure what at-least-once, durability and delays cost: `python benchmarks/delivery.py [redis://HOST:PORT]`.

Printed are ratios within this run, and how late delayed events are. Without a URL the Redis part starts a Valkey
server of its own.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedded import row, spread
from redis_layer import server

from channelmap import AsyncConsumer, ChannelNameRouter, Worker, load_router
from channelmap.loader import load
from channelmap.sending import ContractLayer

ROUNDS, EVENTS, DELAYED = 7, 20_000, 100
CHANNELS = """\
version: 1
layer: {url}
defaults: {{capacity: 10000000}}
channels:
  most: {{consumer: delivery.Nothing, events: {{job: job.json}}}}
  least: {{consumer: delivery.Nothing, events: {{job: job.json}}, delivery: at-least-once, durability: normal}}
  durable: {{consumer: delivery.Nothing, events: {{job: job.json}}, durability: full}}
  late: {{consumer: delivery.Late, events: {{job: job.json}}}}
"""
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
EVENT = {"type": "job", "id": 123456789}
#: How late each delayed event was handled, in seconds.
late: list[float] = []


class Nothing(AsyncConsumer):
    async def job(self, event: dict[str, Any]) -> None: ...


class Late(AsyncConsumer):
    all_came: asyncio.Event

    async def job(self, event: dict[str, Any]) -> None:
        late.append(time.monotonic() - event["id"] / 1e6)
        if len(late) == DELAYED:
            Late.all_came.set()


class Site:
    """A contract on a layer, its router, and an open layer."""

    def __init__(self, directory: Path, url: str) -> None:
        directory.mkdir()
        (directory / "channels.yaml").write_text(CHANNELS.format(url=url))
        (directory / "job.json").write_text(json.dumps(SCHEMA))
        self.contract = load(directory / "channels.yaml")
        self.router: ChannelNameRouter = load_router(self.contract)
        self.layer = ContractLayer(self.contract)

    async def drain(self, channel: str) -> float:
        """Return how many events a worker handles per second, one trip for many."""
        for _ in range(EVENTS // 1_000):
            await self.layer.send_many(channel, [EVENT] * 1_000)
        worker = Worker(self.router, {channel: self.contract.channels[channel].service}, self.layer.layer, burst=True)
        begun = time.perf_counter()
        await worker.serve()
        return EVENTS / (time.perf_counter() - begun)

    async def delayed(self, *, busy: bool) -> list[float]:
        """Return by how many ms events with delays up to 1 s are handled too late."""
        late.clear()
        Late.all_came = asyncio.Event()
        channels = {"late": self.contract.channels["late"].service}
        worker = Worker(self.router, channels, self.layer.layer)
        serving = asyncio.ensure_future(worker.serve())
        load = asyncio.ensure_future(self._load()) if busy else None
        for number in range(DELAYED):
            delay = 0.01 + number / DELAYED
            await self.layer.send("late", {"type": "job", "id": int((time.monotonic() + delay) * 1e6)}, delay=delay)
        await Late.all_came.wait()
        if load is not None:
            load.cancel()
        worker.stop(1)
        await serving
        return [1e3 * seconds for seconds in late]

    async def _load(self) -> None:
        """Keep the loop and the layer busy with sends to another channel."""
        while True:
            await self.layer.send_many("most", [EVENT] * 100)
            await asyncio.sleep(0)


async def compare(name: str, site: Site, goal: str) -> None:
    ratios, rates = [], []
    for number in range(ROUNDS + 1):
        most, least = await site.drain("most"), await site.drain("least")
        if number:
            ratios.append(least / most)
            rates.append(least)
    row(f"{name}: at-least-once, drained", spread(rates, "/s", 0), "")
    row("  against at-most-once", spread(ratios, "x"), goal)
    for busy in (False, True):
        times = sorted(await site.delayed(busy=busy))
        row(f"{name}: a delayed event comes late by, p50 and p99, {'beside sends' if busy else 'idle'}",
            f"{times[DELAYED // 2]:.1f} ms, {times[-2]:.1f} ms", "<= 1 s" if busy else "<= 50 ms")  # fmt: skip
    await site.layer.close()


async def durable(site: Site, file: Path) -> None:
    """Compare durable sends with bare commits that wait for the disk, and watch the loop meanwhile."""
    bare = sqlite3.connect(file, isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE e (id INTEGER PRIMARY KEY, body BLOB)")
    ratios = []
    for _ in range(ROUNDS):
        ours, theirs = [], []
        # In turn, and by their medians: a disk is busy with something else now and then.
        for _ in range(100):
            begun = time.perf_counter()
            bare.execute("INSERT INTO e (body) VALUES (?)", (b"x" * 30,))
            between = time.perf_counter()
            await site.layer.send("durable", EVENT)
            theirs.append(between - begun)
            ours.append(time.perf_counter() - between)
        ratios.append(statistics.median(ours) / statistics.median(theirs))
    bare.close()
    row("bare FULL commit", f"{1e6 * statistics.median(theirs):.0f} us", "")
    row("SQLite: a durable send against a bare FULL commit", spread(ratios, "x"), "<= 1.7x")
    lags = []
    with contextlib.suppress(asyncio.CancelledError):
        for _ in range(ROUNDS):
            watching = asyncio.ensure_future(_lag())
            await asyncio.gather(*[site.layer.send("durable", EVENT) for _ in range(1_000)])
            watching.cancel()
            lags.append(1e3 * max(await watching))
    row("SQLite: lag of the loop during 1,000 durable sends at once", spread(lags, "ms"), "< 5 ms")
    await site.layer.close()


async def _lag() -> list[float]:
    """Return by how much each turn of the loop took longer than it was to."""
    lags: list[float] = [0.0]
    try:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - begun - 0.001)
    except asyncio.CancelledError:
        return lags


@contextlib.contextmanager
def sites(directory: Path) -> Iterator[dict[str, str]]:
    with server(directory, sys.argv[1] if len(sys.argv) > 1 else "") as url:
        yield {"SQLite": "sqlite:///events.db", "Redis": url}


def main() -> None:
    sys.modules["delivery"] = sys.modules["__main__"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.chdir(directory)
        with sites(directory) as urls:
            for kind, goal in (("SQLite", ">= 0.6x"), ("Redis", ">= 0.5x")):
                asyncio.run(compare(kind, Site(directory / kind, urls[kind]), goal))
        asyncio.run(durable(Site(directory / "durable", "sqlite:///durable.db"), directory / "bare.db"))


if __name__ == "__main__":
    main()
