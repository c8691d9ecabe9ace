"""Measure the Redis layer beside channels_redis and bare commands in the same run: `python benchmarks/redis_layer.py`.

Every figure that has a goal is a ratio of this run; the machine's own speed cancels out. The parts that are compared
alternate, and medians are quoted. A Valkey server is started for it (another one: `--url`, and it is flushed).
`--million` drains 1,000,000 events and looks at memory; `--channels` serves 1,000 channels with one worker.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import msgpack
import redis
import redis.asyncio
import reject
from channels.consumer import AsyncConsumer as ChannelsAsyncConsumer
from channels.consumer import SyncConsumer as ChannelsSyncConsumer
from channels.layers import channel_layers
from channels.routing import ChannelNameRouter as ChannelsRouter
from channels.worker import Worker as ChannelsWorker
from channels_redis.core import RedisChannelLayer as ChannelsRedis
from django.conf import settings

from channelmap import AsyncConsumer, ChannelNameRouter, SyncConsumer, Worker, load_router
from channelmap.asgi import Event
from channelmap.loader import load
from channelmap.sending import ContractLayer

HERE = Path(__file__).parent
ROUNDS = 5
EVENT = {"type": "generate", "id": 123456789}
THEIR_EVENTS = 5_000
OUR_EVENTS = 100_000
DEADLINE = 120.0

CHANNELS = """\
version: 1
layer: {url}
defaults: {{capacity: 10000000}}
channels:
  async-channel: {{consumer: redis_layer.AsyncNothing, events: {{generate: generate.json}}}}
  sync-channel: {{consumer: redis_layer.SyncNothing, events: {{generate: generate.json}}}}
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


class Count:
    """What the consumers of channels count on, to know when they are through."""

    left = 0
    done: asyncio.Event
    loop: asyncio.AbstractEventLoop

    @classmethod
    def one(cls) -> None:
        cls.left -= 1
        if not cls.left:
            cls.loop.call_soon_threadsafe(cls.done.set)


class TheirAsyncNothing(ChannelsAsyncConsumer):
    async def generate(self, event: Event) -> None:  # noqa: ARG002
        Count.one()


class TheirSyncNothing(ChannelsSyncConsumer):
    def generate(self, event: Event) -> None:  # noqa: ARG002
        Count.one()


def row(name: str, value: str, goal: str = "") -> None:
    print(f"{name:<62} {value:>30}   {goal}", flush=True)


def spread(values: list[float], unit: str, digits: int = 2) -> str:
    return f"{statistics.median(values):,.{digits}f} {unit} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def ratios(ours: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, others, strict=True)]


def write_contract(path: Path, url: str, consumer: str, channels: list[str]) -> None:
    entry = f"{{consumer: {consumer}, capacity: 10000000, events: {{generate: generate.json}}}}"
    path.write_text(f"version: 1\nlayer: {url}\nchannels:\n" + "".join(f"  {name}: {entry}\n" for name in channels))


async def seconds(call: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    async with asyncio.timeout(DEADLINE):
        await call()
    return time.perf_counter() - begun


def their_layer(url: str) -> Any:
    # It would die of redis-py 8's own time-out, and of its 100 connections.
    return ChannelsRedis(
        hosts=[{"address": url, "socket_timeout": None, "max_connections": 10_000}], capacity=10_000_000, expiry=600
    )


def bare_client(url: str) -> Any:
    return redis.asyncio.Redis.from_url(url, socket_timeout=None)


def members(count: int) -> dict[bytes, float]:
    body, now = msgpack.packb(EVENT), time.time()
    return {number.to_bytes(12, "big") + body: now + number * 1e-6 for number in range(count)}


# One send, and a thousand at once.


async def awaited(send: Callable[[], Awaitable[Any]], count: int = 1_000) -> float:
    """Microseconds for each of so many sends, one after the other."""

    async def all_of_them() -> None:
        for _ in range(count):
            await send()

    return await seconds(all_of_them) / count * 1e6


async def gathered(send: Callable[[], Awaitable[Any]], count: int = 1_000) -> float:
    """Sends a second, all issued at once."""

    async def all_of_them() -> None:
        await asyncio.gather(*(send() for _ in range(count)))

    return count / await seconds(all_of_them)


async def piped(bare: Any, count: int = 1_000) -> float:
    """Bare commands a second in one pipeline."""

    async def all_of_them() -> None:
        pipeline = bare.pipeline(transaction=False)
        for member, score in members(count).items():
            pipeline.zadd("piped", {member: score})
        await pipeline.execute()

    return count / await seconds(all_of_them)


async def piped_for_a_thousand(bare: Any, count: int = 1_000) -> float:
    """The same, each command asked for by a coroutine of its own, as sends are: what gathering itself costs."""
    asked: list[tuple[dict[bytes, float], asyncio.Future[Any]]] = []

    async def post() -> None:
        await asyncio.sleep(0)
        pipeline = bare.pipeline(transaction=False)
        for member, _ in asked:
            pipeline.zadd("piped", member)
        for (_, answer), added in zip(asked, await pipeline.execute(), strict=True):
            answer.set_result(added)

    async def send(member: dict[bytes, float]) -> None:
        answer = asyncio.get_running_loop().create_future()
        asked.append((member, answer))
        await answer

    async def all_of_them() -> None:
        sends = (send({member: score}) for member, score in members(count).items())
        await asyncio.gather(*sends, post())

    return count / await seconds(all_of_them)


async def sending(layer: ContractLayer, url: str) -> None:
    theirs, bare = their_layer(url), bare_client(url)
    script = bare.register_script("return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])")
    times: dict[str, list[float]] = {"theirs": [], "ours": [], "zadd": [], "script": []}
    rates: dict[str, list[float]] = {"theirs": [], "ours": [], "piped": [], "asked": []}
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "theirs": lambda: theirs.send("theirs", EVENT),
        "ours": lambda: layer.send("async-channel", EVENT),
        "zadd": lambda: bare.zadd("bare", {os.urandom(12): 1.0}),
        "script": lambda: script(keys=["bare"], args=[1.0, os.urandom(12)]),
    }
    for send in ways.values():
        await awaited(send, 100)
    for _ in range(ROUNDS):
        for name, send in ways.items():
            times[name].append(await awaited(send))
    for _ in range(4 * ROUNDS):
        await bare.flushdb()
        gc.collect()
        rates["piped"].append(await piped(bare))
        rates["asked"].append(await piped_for_a_thousand(bare))
        rates["ours"].append(await gathered(ways["ours"]))
    for _ in range(ROUNDS):
        # Last, for it leaves a thousand connections open.
        rates["theirs"].append(await gathered(ways["theirs"]))
    await bare.flushdb()
    for name, title in (
        ("zadd", "bare awaited ZADD"),
        ("script", "bare awaited script of one ZADD"),
        ("theirs", "channels_redis: await send"),
        ("ours", "channelmap: await send, judged"),
    ):
        row(title, spread(times[name], "us", 0))
    row("  against the bare ZADD", spread(ratios(times["ours"], times["zadd"]), "x"), "<= 1.5x")
    row("  against channels_redis", spread(ratios(times["ours"], times["theirs"]), "x"), "<= 0.33x")
    row("bare pipeline of 1,000 ZADD", spread(rates["piped"], "/s", 0))
    row("bare pipeline for 1,000 coroutines, gathered", spread(rates["asked"], "/s", 0))
    row("channels_redis: 1,000 sends gathered", spread(rates["theirs"], "/s", 0))
    row("channelmap: 1,000 sends gathered, judged", spread(rates["ours"], "/s", 0), ">= 40,000/s")
    row("  against the bare pipeline", spread(ratios(rates["ours"], rates["piped"]), "x"), ">= 0.8x")
    row("  against the bare pipeline for coroutines", spread(ratios(rates["ours"], rates["asked"]), "x"))
    await theirs.close_pools()
    await bare.aclose()


def gathered_over_how_many_connections(contract: Any, url: str) -> None:
    client = redis.Redis.from_url(url)

    async def main() -> int:
        layer = ContractLayer(contract)
        before = client.info("stats")["total_connections_received"]
        await gathered(lambda: layer.send("async-channel", EVENT))
        opened = client.info("stats")["total_connections_received"] - before
        await layer.layer.close()
        return int(opened)

    row("  connections for it", str(asyncio.run(main())), "1")
    client.flushdb()
    client.close()


# Draining.


def their_drain(consumer: Any, url: str) -> float:
    """Events a second through channels' own worker."""

    async def main() -> float:
        layer, bare = their_layer(url), bare_client(url)
        await bare.zadd("asgitheirs", members(THEIR_EVENTS))
        channel_layers.set("default", layer)
        Count.left, Count.done, Count.loop = THEIR_EVENTS, asyncio.Event(), asyncio.get_running_loop()
        worker = ChannelsWorker(ChannelsRouter({"theirs": consumer.as_asgi()}), ["theirs"], layer)

        async def drain() -> None:
            tasks.append(asyncio.ensure_future(worker.arun()))
            await Count.done.wait()

        tasks: list[asyncio.Task[Any]] = []
        took = await seconds(drain)
        tasks += asyncio.all_tasks() - {asyncio.current_task(), *tasks}  # type: ignore[arg-type]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await layer.wait_received()
        await layer.close_pools()
        await bare.aclose()
        return THEIR_EVENTS / took

    return asyncio.run(main())


def our_drain(router: ChannelNameRouter, layer: ContractLayer, channel: str, count: int = OUR_EVENTS) -> float:
    async def main() -> float:
        for _ in range(count // 1_000):
            await layer.send_many(channel, [EVENT] * 1_000)
        worker = Worker(router, [channel], layer.layer, burst=True)
        took = await seconds(worker.serve)
        await layer.layer.close()
        return count / took

    return asyncio.run(main())


async def fill_bare(bare: Any, count: int) -> None:
    for number in range(count // 10_000):
        await bare.zadd("bare", {os.urandom(12) + msgpack.packb(EVENT): number for _ in range(10_000)})


def bare_drain(url: str, count: int = OUR_EVENTS) -> float:
    """Take 256 at once, decode them, and nothing else."""

    async def main() -> float:
        bare = bare_client(url)
        await fill_bare(bare, count)

        async def drain() -> None:
            while taken := await bare.zpopmin("bare", 256):
                for member, _ in taken:
                    msgpack.unpackb(member[12:])

        took = await seconds(drain)
        await bare.aclose()
        return count / took

    return asyncio.run(main())


def draining(router: ChannelNameRouter, layer: ContractLayer, url: str) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ("bare", "async", "sync", "their async", "their sync")}
    for _ in range(3):
        rates["bare"].append(bare_drain(url))
        rates["their async"].append(their_drain(TheirAsyncNothing, url))
        rates["async"].append(our_drain(router, layer, "async-channel"))
        rates["their sync"].append(their_drain(TheirSyncNothing, url))
        rates["sync"].append(our_drain(router, layer, "sync-channel"))
    row("bare drain, 256 at once", spread(rates["bare"], "/s", 0))
    for kind, goal in (("async", ">= 100x"), ("sync", ">= 80x")):
        row(f"channels' worker on channels_redis, {kind} no-op handler", spread(rates[f"their {kind}"], "/s", 0))
        row(f"channelmap's worker, validated, {kind} no-op handler", spread(rates[kind], "/s", 0))
        row("  against channels", spread(ratios(rates[kind], rates[f"their {kind}"]), "x", 0), goal)
        row("  against the bare drain", spread(ratios(rates[kind], rates["bare"]), "x"))


def rejecting(directory: Path, url: str) -> None:
    rates, waits = zip(*(reject.serving(directory, url) for _ in range(3)), strict=True)
    row("channelmap's worker buries rejected events", spread(list(rates), "/s", 0), ">= 2,000/s")
    row("  meanwhile, p99 wait on another channel", spread([wait * 1e3 for wait in waits], "ms", 1), "< 20 ms")


# From the beginning of a send to the beginning of the handler in another, idle process.

_BARE_RECEIVER = """
import asyncio, os, sys, time
import redis.asyncio
async def main():
    client = redis.asyncio.Redis.from_url(sys.argv[1], socket_timeout=None)
    await client.ping()
    print("ready", flush=True)
    while True:
        if await client.bzpopmin("idle-bare", 5):
            os.write(1, b"%d\\n" % time.perf_counter_ns())
asyncio.run(main())
"""

_THEIR_RECEIVER = """
import os, sys, time
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["channels"], CHANNEL_LAYERS={"default": {
    "BACKEND": "channels_redis.core.RedisChannelLayer",
    "CONFIG": {"hosts": [{"address": sys.argv[1], "socket_timeout": None}]},
}})
django.setup()
from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from channels.routing import ChannelNameRouter
from channels.worker import Worker

class Stamp(AsyncConsumer):
    async def generate(self, event):
        os.write(1, b"%d\\n" % time.perf_counter_ns())

print("ready", flush=True)
Worker(ChannelNameRouter({"idle-theirs": Stamp.as_asgi()}), ["idle-theirs"], get_channel_layer()).run()
"""

_STAMP = """
import os, time
from channelmap import AsyncConsumer

class Stamp(AsyncConsumer):
    async def generate(self, event):
        os.write(1, b"%d\\n" % time.perf_counter_ns())
"""


@contextmanager
def child(command: list[str], directory: Path, stream: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of ours, once it has written its first line."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=directory, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if stream == "stderr" else None,
    )  # fmt: skip
    try:
        getattr(process, stream).readline()
        yield process
    finally:
        process.terminate()
        process.wait(20)


def idle_latency(directory: Path, url: str, count: int = 300) -> None:
    write_contract(directory / "idle.yaml", url, "redis_idle.Stamp", ["idle"])
    (directory / "redis_idle.py").write_text(_STAMP)
    ours_command = ["-m", "channelmap", "runworker", "--config", "idle.yaml"]
    with (
        child(["-c", _BARE_RECEIVER, url], directory, "stdout") as bare,
        child(["-c", _THEIR_RECEIVER, url], directory, "stdout") as theirs,
        child(ours_command, directory, "stderr") as ours,
    ):
        layer = ContractLayer(load(directory / "idle.yaml"))
        latencies = asyncio.run(_latencies(layer, url, {"bare": bare, "theirs": theirs, "ours": ours}, count))
    medians, tails = {}, {}
    titles = {
        "bare": "bare ZADD to BZPOPMIN",
        "theirs": "channels_redis: send to handler",
        "ours": "channelmap: send to handler",
    }
    for name, values in latencies.items():
        cuts = statistics.quantiles(values, n=100)
        medians[name], tails[name] = cuts[49], cuts[98]
        row(f"{titles[name]}, idle: p50, p99", f"{cuts[49]:,.0f} us, {cuts[98]:,.0f} us")
    row("  p50 against the bare", f"{medians['ours'] / medians['bare']:.2f} x", "<= 1.25x")
    row("  p50 against channels_redis", f"{medians['ours'] / medians['theirs']:.2f} x", "<= 0.5x")
    row("  p99 against channels_redis", f"{tails['ours'] / tails['theirs']:.2f} x", "<= 0.125x")


async def _latencies(
    layer: ContractLayer, url: str, processes: dict[str, "subprocess.Popen[bytes]"], count: int
) -> dict[str, list[float]]:
    their, bare = their_layer(url), bare_client(url)
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "bare": lambda: bare.zadd("idle-bare", {os.urandom(12): 1.0}),
        "theirs": lambda: their.send("idle-theirs", EVENT),
        "ours": lambda: layer.send("idle", EVENT),
    }
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    async with asyncio.timeout(DEADLINE):
        for index in range(count + 30):
            for name, send in ways.items():
                await asyncio.sleep(0.003)
                begun = time.perf_counter_ns()
                await send()
                stdout = processes[name].stdout
                assert stdout is not None
                line = await asyncio.to_thread(stdout.readline)
                if index >= 30:
                    latencies[name].append((int(line) - begun) / 1000)
    await their.close_pools()
    await bare.aclose()
    await layer.layer.close()
    return latencies


# Options: much, and many.


def memory(pid: int) -> float:
    """Resident megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu(pid: int) -> float:
    """Seconds used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_NOTHING = """
from channelmap import AsyncConsumer

class Nothing(AsyncConsumer):
    async def generate(self, event): ...
"""


def bare_paces(url: str, count: int) -> tuple[float, float]:
    """Take 1,000 at once, and nothing else: events a second at the start and at the end of a long queue."""

    async def main() -> tuple[float, float]:
        bare = bare_client(url)
        await fill_bare(bare, count)

        async def share(part: float) -> float:
            begun = time.perf_counter()
            for _ in range(int(count * part / 1_000)):
                await bare.zpopmin("bare", 1_000)
            return count * part / (time.perf_counter() - begun)

        await share(0.05)
        early = await share(0.2)
        await share(0.5)
        late = await share(0.2)
        await bare.delete("bare")
        await bare.aclose()
        return early, late

    return asyncio.run(main())


def million(directory: Path, url: str, count: int = 1_000_000) -> None:
    """Drain a million events with one worker process; look at its memory and at its pace on the way."""
    write_contract(directory / "much.yaml", url, "redis_nothing.Nothing", ["much"])
    (directory / "redis_nothing.py").write_text(_NOTHING)
    layer = ContractLayer(load(directory / "much.yaml"))

    async def fill() -> None:
        for _ in range(count // 1_000):
            await layer.send_many("much", [EVENT] * 1_000)
        await layer.layer.close()

    asyncio.run(fill())
    client: Any = redis.Redis.from_url(url)
    with child(["-m", "channelmap", "runworker", "--config", "much.yaml"], directory, "stderr") as worker:
        marks: list[tuple[float, int]] = []
        sizes: list[float] = []
        deadline = time.monotonic() + DEADLINE
        while (left := client.zcard("asgimuch")) and time.monotonic() < deadline:
            marks.append((time.perf_counter(), left))
            sizes.append(memory(worker.pid))
            time.sleep(0.05)
        marks.append((time.perf_counter(), left))

    def pace(first: float, last: float) -> float:
        """Events a second while the queue went from one share of its length to another."""
        inside = [mark for mark in marks if count * last <= mark[1] <= count * first]
        return (inside[0][1] - inside[-1][1]) / (inside[-1][0] - inside[0][0])

    bare_early, bare_late = bare_paces(url, count)
    row("1,000,000 events: left over", str(left), "0")
    row("  resident memory after 10 %, at the end", f"{sizes[len(sizes) // 10]:.1f} MB, {sizes[-1]:.1f} MB", "<= 45 MB")
    paces = [pace(0.98 - part, 0.80 - part) for part in (0.0, 0.2, 0.4, 0.6, 0.78)]
    row("  drained, fifth by fifth", " ".join(f"{one:,.0f}/s" for one in paces))
    row("  the end against the start", f"{paces[-1] / paces[0]:.2f} x", "0.9x to 1.1x")
    row("  bare client at the start, at the end", f"{bare_early:,.0f}/s, {bare_late:,.0f}/s")
    client.close()


def many_channels(directory: Path, url: str, count: int = 1_000, idle: float = 10.0) -> None:
    write_contract(directory / "many.yaml", url, "redis_nothing.Nothing", [f"c{number}" for number in range(count)])
    (directory / "redis_nothing.py").write_text(_NOTHING)
    client: Any = redis.Redis.from_url(url)
    others = len(client.client_list())
    begun = time.perf_counter()
    with child(["-m", "channelmap", "runworker", "--config", "many.yaml"], directory, "stderr") as worker:
        row(f"{count:,} channels: runworker is ready after", f"{time.perf_counter() - begun:.2f} s", "< 2 s")
        time.sleep(1)
        before = cpu(worker.pid)
        time.sleep(idle)
        row("  CPU while idle", f"{(cpu(worker.pid) - before) / idle * 100:.2f} %", "< 1 %")
        row("  connections", str(len(client.client_list()) - others), "< 10")
        row("  resident memory", f"{memory(worker.pid):.1f} MB")
    client.close()


@contextmanager
def server(directory: Path, url: str) -> Iterator[str]:
    if url:
        redis.Redis.from_url(url).flushdb()
        yield url
        return
    sys.path.insert(0, str(HERE.parent / "tests" / "layers"))
    from redis_servers import VOLATILE, Server, running

    valkey = Server(directory / "server", *VOLATILE)
    with running(valkey):
        yield valkey.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="", help="a server of your own; its database is flushed")
    parser.add_argument("--million", action="store_true", help="drain 1,000,000 events")
    parser.add_argument("--channels", action="store_true", help="serve 1,000 channels")
    parser.add_argument("--only", action="store_true", help="what the two above name and nothing else")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "async_to_sync was passed a non-async-marked callable")  # by channels
    settings.configure(INSTALLED_APPS=["channels"])
    django.setup()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as name, server(Path(name), options.url) as url:
        directory = Path(name)
        (directory / "channels.yaml").write_text(CHANNELS.format(url=url))
        (directory / "generate.json").write_text(json.dumps(SCHEMA))
        contract = load(directory / "channels.yaml")
        if not options.only:
            layer = ContractLayer(contract)
            asyncio.run(sending(layer, url))
            gathered_over_how_many_connections(contract, url)
            draining(load_router(contract), ContractLayer(contract), url)
            rejecting(directory, url)
            idle_latency(directory, url)
        if options.million:
            million(directory, url)
        if options.channels:
            many_channels(directory, url)


if __name__ == "__main__":
    main()
