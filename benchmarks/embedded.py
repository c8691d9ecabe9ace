"""Measure the embedded default against bare commands in the same run: `python benchmarks/embedded.py`.

Every figure that has a goal is a ratio or a rate of this run; the machine's own speed cancels out. The parts
that are compared alternate, and medians are quoted.
"""

import asyncio
import json
import os
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import reject

from channelmap import AsyncConsumer, ChannelNameRouter, SyncConsumer, Worker, load_router
from channelmap.asgi import Event
from channelmap.loader import load
from channelmap.sending import ContractLayer

ROUNDS = 7
EVENT = {"type": "generate", "id": 123456789}

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
defaults: {capacity: 10000000}
channels:
  async-channel: {consumer: embedded.AsyncNothing, events: {generate: generate.json}}
  sync-channel: {consumer: embedded.SyncNothing, events: {generate: generate.json}}
"""
SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer", "minimum": 0}},
    "required": ["id"],
    "additionalProperties": False,
}


class AsyncNothing(AsyncConsumer):
    async def generate(self, event: Event) -> None: ...


class SyncNothing(SyncConsumer):
    def generate(self, event: Event) -> None: ...


class Enough(Exception):
    """The measured events are through."""


def microseconds(call: Callable[[], Any], count: int) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) / count * 1e6


def row(name: str, value: str, goal: str) -> None:
    print(f"{name:<58} {value:>22}   {goal}", flush=True)


def spread(values: list[float], unit: str, digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def gate_and_dispatch(router: ChannelNameRouter, channel: str, count: int = 100_000) -> float:
    """One event through router, gate and consumer, handed over by a server that has nothing else to do."""
    left = count

    async def receive() -> Event:
        nonlocal left
        if not left:
            raise Enough
        left -= 1
        return EVENT

    def at_hand() -> Event | None:
        nonlocal left
        if not left:
            return None
        left -= 1
        return EVENT

    receive.at_hand = at_hand  # type: ignore[attr-defined]

    async def send(event: Event) -> None: ...

    async def main() -> None:
        with suppress(Enough):
            await router({"type": "channel", "channel": channel}, receive, send)

    return microseconds(lambda: asyncio.run(main()), count)


def bare_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS e(id INTEGER PRIMARY KEY, body BLOB)")
    return database


def bare_inserts(database: sqlite3.Connection, count: int) -> None:
    body = msgpack.packb(EVENT)
    for _ in range(count):
        database.execute("INSERT INTO e(body) VALUES (?)", (body,))


def sending(layer: ContractLayer, directory: Path, count: int = 4_000) -> None:
    database = bare_database(directory / "bare.db")
    awaited, sync = [], []
    times: dict[str, list[float]] = {"bare": [], "send": [], "send_sync": []}

    async def awaited_sends() -> None:
        for _ in range(count):
            await layer.send("async-channel", EVENT)

    def sync_sends() -> None:
        for _ in range(count):
            layer.send_sync("async-channel", EVENT)

    for _ in range(ROUNDS):
        bare = microseconds(lambda: bare_inserts(database, count), count)
        one = microseconds(lambda: asyncio.run(awaited_sends()), count)
        two = microseconds(sync_sends, count)
        awaited.append(one / bare)
        sync.append(two / bare)
        for name, value in (("bare", bare), ("send", one), ("send_sync", two)):
            times[name].append(value)
    database.close()
    asyncio.run(layer.flush())
    row("bare autocommit insert", spread(times["bare"], "us", 1), "")
    row("await layer.send, judged", spread(times["send"], "us", 1), "")
    row("  against the bare insert", spread(awaited, "x"), "<= 1.7x")
    row("layer.send_sync, judged", spread(times["send_sync"], "us", 1), "")
    row("  against the bare insert", spread(sync, "x"), "<= 1.7x")


def bare_drain(directory: Path, count: int) -> float:
    """Take rows 64 at once, decode them, and nothing else."""
    database = bare_database(directory / "drain.db")
    body = msgpack.packb(EVENT)
    database.execute("BEGIN")
    database.executemany("INSERT INTO e(body) VALUES (?)", [(body,)] * count)
    database.execute("COMMIT")

    def drain() -> None:
        while True:
            database.execute("BEGIN IMMEDIATE")
            rows = database.execute("SELECT id, body FROM e ORDER BY id LIMIT 64").fetchall()
            if not rows:
                database.execute("COMMIT")
                return
            database.execute("DELETE FROM e WHERE id <= ?", (rows[-1][0],))
            database.execute("COMMIT")
            for _, raw in rows:
                msgpack.unpackb(raw)

    rate = 1e6 / microseconds(drain, count)
    database.close()
    return rate


def draining(router: ChannelNameRouter, layer: ContractLayer, directory: Path, count: int = 100_000) -> None:
    async def fill(channel: str) -> None:
        for _ in range(count // 1_000):
            await layer.send_many(channel, [EVENT] * 1_000)

    def drain(channel: str) -> float:
        asyncio.run(fill(channel))
        worker = Worker(router, [channel], layer.layer, burst=True)
        return 1e6 / microseconds(lambda: asyncio.run(worker.serve()), count)

    rates: dict[str, list[float]] = {"bare": [], "async": [], "sync": []}
    for _ in range(3):
        rates["bare"].append(bare_drain(directory, count))
        rates["async"].append(drain("async-channel"))
        rates["sync"].append(drain("sync-channel"))
    row("bare drain, 64 at once", spread(rates["bare"], "/s", 0), "")
    for kind in ("async", "sync"):
        ratios = [ours / bare for ours, bare in zip(rates[kind], rates["bare"], strict=True)]
        row(f"worker drains SQLite, validated, {kind} no-op handler", spread(rates[kind], "/s", 0), ">= 100,000/s")
        row("  against the bare drain", spread(ratios, "x"), ">= 0.5x")


def rejecting(directory: Path) -> None:
    rates, waits = zip(*(reject.serving(directory, "sqlite:///rejecting.db") for _ in range(3)), strict=True)
    row("worker buries rejected events", spread(list(rates), "/s", 0), ">= 5,000/s")
    row("  meanwhile, p99 wait on another channel", spread([wait * 1e3 for wait in waits], "ms", 1), "< 20 ms")


#: Two receivers with nothing around them: one blocks, one waits in an event loop and judges, as a handler needs.
_BARE_RECEIVER = """
import asyncio, os, socket, sqlite3, sys, time
directory, kind = sys.argv[1:]
database = sqlite3.connect(os.path.join(directory, kind + ".db"), isolation_level=None)
database.execute("PRAGMA synchronous=NORMAL")
bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
bell.bind(os.path.join(directory, kind + ".bell"))

def take():
    return database.execute("DELETE FROM e RETURNING body").fetchall()

async def handler(event):
    os.write(1, b"%d\\n" % time.perf_counter_ns())

async def serve():
    import msgpack
    from channelmap import load
    judge = load(os.path.join(directory, "channels.yaml")).channels["async-channel"].judge
    loop = asyncio.get_running_loop()

    def ring():
        bell.recv(100)
        rung.set_result(None)

    loop.add_reader(bell, ring)
    print("ready", flush=True)
    while True:
        rung = loop.create_future()
        await rung
        for (body,) in take():
            event = msgpack.unpackb(body)
            if judge(event) is None:
                await handler(event)

if kind == "judging":
    bell.setblocking(False)
    asyncio.run(serve())
print("ready", flush=True)
while True:
    bell.recv(100)
    take()
    os.write(1, b"%d\\n" % time.perf_counter_ns())
"""

_CHANNEL = "  {name}: {{consumer: embedded_idle.Stamp, events: {{generate: generate.json}}}}\n"
_OUR_CONTRACT = "version: 1\nlayer: sqlite:///idle.db\nchannels:\n" + "".join(
    _CHANNEL.format(name=name) for name in ("idle", *(f"other-{number}" for number in range(9)))
)

_STAMP = """
import os, time
from channelmap import AsyncConsumer

class Stamp(AsyncConsumer):
    async def generate(self, event):
        os.write(1, b"%d\\n" % time.perf_counter_ns())
"""


def idle_latency(directory: Path, count: int = 400) -> None:
    """From the beginning of a send to the beginning of the handler in another, idle process."""
    sends = {
        "bare insert + datagram + delete, blocking receiver": _start_bare_receiver(directory, "blocking"),
        "the same, judged at both ends, in an event loop": _start_bare_receiver(directory, "judging"),
        "send to handler, idle worker": _start_our_receiver(directory),
    }
    latencies: dict[str, list[float]] = {name: [] for name in sends}
    for index in range(count + 50):
        for name, send in sends.items():
            # Long enough for the receiver to be asleep again.
            time.sleep(0.002)
            latency = send()
            if index >= 50:
                latencies[name].append(latency)
    medians = []
    for name, values in latencies.items():
        cuts = statistics.quantiles(values, n=100)
        medians.append(cuts[49])
        row(f"{name}: p50, p99", f"{cuts[49]:.0f} us, {cuts[98]:.0f} us", "")
    blocking, judging, ours = medians
    row("  p50 against the bare, blocking receiver", f"{ours / blocking:.2f} x", "<= 1.3x")
    row("  p50 against the bare, judged at both ends", f"{ours / judging:.2f} x", "")


def _stamped(process: "subprocess.Popen[bytes]", send: Callable[[], None]) -> float:
    begun = time.perf_counter_ns()
    send()
    assert process.stdout is not None
    return (int(process.stdout.readline()) - begun) / 1000


_children: list["subprocess.Popen[bytes]"] = []


def _start_bare_receiver(directory: Path, kind: str) -> Callable[[], float]:
    database = bare_database(directory / f"{kind}.db")
    process = subprocess.Popen([sys.executable, "-c", _BARE_RECEIVER, str(directory), kind], stdout=subprocess.PIPE)
    _children.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = str(directory / f"{kind}.bell")
    judge = load(directory / "channels.yaml").channels["async-channel"].judge
    packed = msgpack.packb(EVENT)

    def send() -> None:
        if kind == "judging":
            assert judge(EVENT) is None
            body = msgpack.packb(EVENT)
        else:
            body = packed
        database.execute("INSERT INTO e(body) VALUES (?)", (body,))
        bell.sendto(b"x", address)

    return lambda: _stamped(process, send)


def _start_our_receiver(directory: Path) -> Callable[[], float]:
    (directory / "idle.yaml").write_text(_OUR_CONTRACT)
    (directory / "embedded_idle.py").write_text(_STAMP)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "channelmap", "runworker", "--config", "idle.yaml"],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _children.append(process)
    assert process.stderr is not None
    process.stderr.readline()
    row("runworker is ready, ten channels, after", f"{time.perf_counter() - begun:.2f} s", "< 0.5 s")
    layer = ContractLayer(load(directory / "idle.yaml"))
    latency = lambda: _stamped(process, lambda: layer.send_sync("idle", EVENT))  # noqa: E731
    _idle_cpu(process)
    return latency


def _idle_cpu(process: "subprocess.Popen[bytes]", seconds: float = 10.0) -> None:
    def used() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(seconds)
    row("CPU of an idle worker", f"{(used() - before) / seconds * 100:.2f} %", "< 0.5 %")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        sys.path.insert(0, str(Path(__file__).parent))
        (directory / "channels.yaml").write_text(CHANNELS)
        (directory / "generate.json").write_text(json.dumps(SCHEMA))
        contract = load(directory / "channels.yaml")
        router = load_router(contract)
        layer = ContractLayer(contract)
        try:
            for kind, goal in (("async", "<= 3 us"), ("sync", "<= 6 us")):
                times = [gate_and_dispatch(router, f"{kind}-channel") for _ in range(ROUNDS)]
                row(f"gate and dispatch in process, {kind} handler", spread(times, "us"), goal)
            sending(layer, directory)
            draining(router, layer, directory)
            asyncio.run(layer.close())
            rejecting(directory)
            idle_latency(directory)
        finally:
            for child in _children:
                child.terminate()
                child.wait()
        row("memory of this process at its peak",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", "")  # fmt: skip


if __name__ == "__main__":
    main()
