"""Measure what it costs to see into workers: `python benchmarks/observing.py`.

The drain rate of a worker with and without metrics, and with an observer; the processor time of an idle worker with
and without heartbeats; a scrape of 1,000 channels with five event types each, and how long events wait meanwhile.
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedded import row, spread

from channelmap import AsyncConsumer, SyncConsumer, Worker
from channelmap.asgi import Application, Event, Receive, Scope, Send
from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.limits import Limits, Service
from channelmap.loader import load
from channelmap.monitor.measuring import WorkerMetrics
from channelmap.monitor.reporting import Reporter
from channelmap.monitor.reports import Reports
from channelmap.monitor.server import Monitor, Settings, listen
from channelmap.monitor.systemd import Systemd
from channelmap.observer import Step
from channelmap.routing import Gate
from channelmap.worker import Timing

EVENTS, ROUNDS = 100_000, 7
IDLE_SECS = 60.0
CHANNELS, TYPES, SCRAPES = 1_000, 5, 20
#: No heartbeat within the measurement.
NEVER = 1e9
CONTRACT = """\
version: 1
layer: memory://
channels:
  jobs:
    consumer: a.B
    events: {job: {schema: {properties: {type: {const: job}, n: {type: integer}}, required: [n]}}}
"""


class Async(AsyncConsumer):
    async def job(self, event: Event) -> None: ...


class Sync(SyncConsumer):
    def job(self, event: Event) -> None: ...


async def accept(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Handle events of any type."""
    while True:
        await receive()


def ignore(step: Step) -> None:
    """Observe nothing."""


def drain_rate(layer: ChannelLayer, application: Application, **options: Any) -> float:
    """Return the events a second that a burst handles."""

    async def main() -> float:
        for first in range(0, EVENTS, 1_000):
            await layer.send_many("jobs", [{"type": "job", "n": n} for n in range(first, first + 1_000)])
        begun = time.perf_counter()
        await Worker(application, ["jobs"], layer, burst=True, **options).serve()
        seconds = time.perf_counter() - begun
        await layer.close()
        return EVENTS / seconds

    return asyncio.run(main())


def drain(directory: Path) -> None:
    """Print the drain rates, and their ratios within each round."""
    contract = directory / "channels.yaml"
    contract.write_text(CONTRACT)
    channel = load(contract).channel("jobs")
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "nothing": dict,
        "metrics": lambda: {"metrics": WorkerMetrics({"jobs": {"job"}})},
        "an observer": lambda: {"observe": ignore},
    }
    for consumer in (Async, Sync):
        layer = open_layer(
            f"sqlite:///{directory / consumer.__name__}.db", limits={"jobs": Limits(capacity=10 * EVENTS)}
        )
        application = Gate(channel, consumer.as_asgi())
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        drain_rate(layer, application)
        for _ in range(ROUNDS):
            for name, options in kinds.items():
                rates[name].append(drain_rate(layer, application, **options()))
        for name, found in rates.items():
            ratios = [rate / base for rate, base in zip(found, rates["nothing"], strict=True)]
            row(f"drain, SQLite, {consumer.__name__.lower()} handler, with {name}", spread(found, "/s", 0), "")
            row("  against nothing", spread(ratios, "x"), ">= 0.9x" if name == "metrics" else "")


def idle_seconds(layer: ChannelLayer, timing: Timing) -> float:
    """Return the processor time of a worker that has nothing to do for a minute."""

    async def main() -> float:
        worker = Worker(Async.as_asgi(), {f"c{number}": Service() for number in range(10)}, layer, timing=timing)
        serving = asyncio.ensure_future(worker.serve())
        await asyncio.sleep(1)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(IDLE_SECS)
        after = resource.getrusage(resource.RUSAGE_SELF)
        worker.stop()
        await serving
        await layer.close()
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return asyncio.run(main())


def idle(directory: Path) -> None:
    """Print the cost of heartbeats while nothing happens."""
    layer = open_layer(f"sqlite:///{directory / 'idle.db'}")
    without, beating = idle_seconds(layer, Timing(heartbeat=NEVER)), idle_seconds(layer, Timing())
    row("processor time of an idle worker in 60 s, no heartbeats", f"{1000 * without:.0f} ms", "")
    row("  more with heartbeats", f"{1000 * (beating - without):+.0f} ms", "< 60 ms")


#: Scrapes a monitor and prints the milliseconds of each scrape.
SCRAPER = """
import sys, time, urllib.request
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics") as answer:
        answer.read()
    print(1000 * (time.perf_counter() - begun))
"""


def scrape() -> None:
    """Print how long a scrape takes, and how long the event loop of the worker in the same process waits meanwhile."""
    types = [f"t{kind}" for kind in range(TYPES)]
    channels = [f"c{number}" for number in range(CHANNELS)]
    layer = open_layer("memory://")
    metrics = WorkerMetrics(dict.fromkeys(channels, types))
    worker = Worker(accept, channels, layer, metrics=metrics)
    reports = Reports()
    listener = listen("0")
    settings = Settings(listener=listener, heartbeat_file=None, stall=30, version="", contract="")
    monitor = Monitor(settings, reports, open_layer("memory://"), channels, Systemd("", watchdog=False))

    async def events() -> None:
        for channel in channels:
            await layer.send_many(channel, [{"type": kind} for kind in types])

    async def main() -> None:
        reporter = Reporter(worker, metrics, lambda report: reports.add(0, report))
        serving, reporting = asyncio.ensure_future(worker.serve()), asyncio.ensure_future(reporter.run())
        waits: dict[str, list[float]] = {"alone": [], "during scrapes": []}

        async def tick(found: list[float], until: Callable[[], bool]) -> None:
            while not until():
                begun = time.perf_counter()
                await asyncio.sleep(0.001)
                found.append(time.perf_counter() - begun - 0.001)

        await events()
        end = time.perf_counter() + 5
        await tick(waits["alone"], lambda: time.perf_counter() > end)
        monitor.start()
        command = [sys.executable, "-c", SCRAPER, str(listener.getsockname()[1]), str(SCRAPES)]
        scraper = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        scraping = asyncio.ensure_future(scraper.communicate())
        await tick(waits["during scrapes"], scraping.done)
        printed, _ = await scraping
        row(
            f"scrape of {CHANNELS} channels, {TYPES} types each",
            spread([float(one) for one in printed.split()], " ms"),
            "< 200 ms",
        )
        for name, found in waits.items():
            p99 = statistics.quantiles(found, n=100)[98]
            row(f"  wait of the event loop, p99, {name}", f"{1000 * p99:.1f} ms", "")
        reporting.cancel()
        worker.stop()
        await serving

    asyncio.run(main())
    monitor.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        drain(Path(name))
        scrape()
        if "--idle" in sys.argv:
            idle(Path(name))


if __name__ == "__main__":
    main()
