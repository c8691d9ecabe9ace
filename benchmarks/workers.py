"""Measure worker processes from outside: `python benchmarks/workers.py`.

Two processes of one supervisor against two that know nothing of each other, with a handler that only computes; and the
memory of a worker after 100,000 events and after 1,000,000. Every figure that has a goal is one of this run.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from embedded import row, spread

from channelmap.loader import load
from channelmap.sending import ContractLayer

CONTRACT = """\
version: 1
layer: sqlite:///workers.db
defaults: {capacity: 10000000}
channels:
  computing: {consumer: handlers.Computing, events: {job: job.json}}
  nothing: {consumer: handlers.Nothing, events: {job: job.json}}
"""
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
HANDLERS = """
import os, time
from channelmap import AsyncConsumer

TIMES = os.open("times", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Computing(AsyncConsumer):
    async def job(self, event):
        begun = time.perf_counter_ns()
        sum(number * number for number in range(20_000))
        os.write(TIMES, b"%d %d\\n" % (begun, time.perf_counter_ns()))

class Nothing(AsyncConsumer):
    async def job(self, event): ...
"""
ROUNDS, COMPUTED = 5, 3_000
#: Events after which the memory is read, both times with nothing waiting.
FIRST, LAST = 100_000, 1_000_000


async def fill(layer: ContractLayer, channel: str, count: int) -> None:
    for first in range(0, count, 1_000):
        await layer.send_many(channel, [{"type": "job", "id": number} for number in range(first, first + 1_000)])


def start(directory: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "channelmap", "runworker", "--config", "workers.yaml", *options]
    return subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)


def computing_rate(directory: Path, layer: ContractLayer, workers: list[list[str]]) -> float:
    """Return events a second, from the first handler's beginning to the last one's end, of workers with options."""
    times = directory / "times"
    times.unlink(missing_ok=True)
    asyncio.run(fill(layer, "computing", COMPUTED))
    running = [start(directory, "--burst", *options) for options in workers]
    for worker in running:
        assert worker.wait() == 0
    stamps = [tuple(map(int, line.split())) for line in times.read_text().splitlines()]
    assert len(stamps) == COMPUTED
    return COMPUTED / (max(end for _, end in stamps) - min(begun for begun, _ in stamps)) * 1e9


def processes(directory: Path, layer: ContractLayer) -> None:
    together, apart = [], []
    for _ in range(ROUNDS):
        together.append(computing_rate(directory, layer, [["--processes", "2"]]))
        apart.append(computing_rate(directory, layer, [[], []]))
    row("runworker --processes 2, a handler that computes", spread(together, "/s", 0), "")
    row("two runworkers", spread(apart, "/s", 0), "")
    row("  the first against the second", spread([a / b for a, b in zip(together, apart, strict=True)], "x"), ">= 0.9x")


def memory_of(pid: int) -> float:
    """Return the memory of a process, in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


def memory(directory: Path, layer: ContractLayer) -> None:
    async def drained() -> None:
        while await layer.layer.waiting("nothing"):  # noqa: ASYNC110  (a layer tells nobody that it is empty)
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)

    async def grow() -> tuple[float, float]:
        await fill(layer, "nothing", FIRST)
        await drained()
        first = memory_of(worker.pid)
        await fill(layer, "nothing", LAST - FIRST)
        await drained()
        return first, memory_of(worker.pid)

    worker = start(directory)
    try:
        first, last = asyncio.run(grow())
    finally:
        worker.terminate()
        worker.wait()
    row(f"memory of a worker after {FIRST:,} events", f"{first:.1f} MB", "")
    row(f"  and after {LAST:,}", f"{last - first:+.1f} MB", "<= +2 MB")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "workers.yaml").write_text(CONTRACT)
        (directory / "job.json").write_text(json.dumps(SCHEMA))
        (directory / "handlers.py").write_text(HANDLERS)
        layer = ContractLayer(load(directory / "workers.yaml"))
        processes(directory, layer)
        memory(directory, layer)
        asyncio.run(layer.close())


if __name__ == "__main__":
    main()
