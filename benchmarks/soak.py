"""Look for what grows while a worker runs: `python benchmarks/soak.py --minutes 10 --layer redis`.

One worker serves 10,000 channels, and this process sends to 50 of them; one handler in fifty fails, and every ten
seconds a Redis server drops all its connections. Memory, descriptors, threads and connections of both processes are
sampled every two seconds. Each slope is a linear regression over the ten minutes after a warm-up, in which caches of
10,000 channels fill (`--warm-up`, in minutes).
Exit code 1: a quantity grew by more than it may.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from storm.grounds import GROUNDS, Ground
from workers import memory_of

from channelmap.errors import LayerError
from channelmap.loader import load
from channelmap.sending import ContractLayer

CHANNELS, BUSY = 10_000, 50
#: One event in so many fails, each time.
FAILING = 50
HEAD = """\
version: 1
layer: ${SOAK_URL}
defaults: {dead_letters: 100, expiry: null}
channels:
"""
KINDS = ("Async", "Sync")
LEAST = ", delivery: at-least-once, retry: {attempts: 2, delay: 0.1}"
CONSUMERS = """
import os
from channelmap import AsyncConsumer, SyncConsumer

DONE = os.open("done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def work(event):
    if event["fails"]:
        raise ValueError("as the event says")
    os.write(DONE, b".")

class Async(AsyncConsumer):
    async def job(self, event):
        work(event)

class Sync(SyncConsumer):
    def job(self, event):
        work(event)
"""
SAMPLE_SECS, CUT_SECS, PAUSE_SECS = 2.0, 10.0, 0.005
#: What may grow within ten minutes: MB of memory, and so many of each of the others.
MOST_GROWTH = {"memory, MB": 2.0, "descriptors": 1.0, "threads": 1.0, "connections": 1.0}


def contract() -> str:
    """Write the channels; the busy ones are of all kinds."""
    lines = [
        f"  c{number:05}: {{consumer: consumers.{KINDS[number % 2]}, events: {{job: true}}"
        f"{LEAST if number % 4 < 2 else ''}}}\n"
        for number in range(CHANNELS)
    ]
    return HEAD + "".join(lines)


def measure(pid: int) -> dict[str, float]:
    """Measure a process."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(str(path.readlink()))
    return {
        "memory, MB": memory_of(pid),
        "descriptors": len(links),
        "threads": len([*Path(f"/proc/{pid}/task").iterdir()]),
        "connections": sum("socket:" in link or link.endswith(".db") for link in links),
    }


class Soak:
    """One run of so many seconds, after a warm-up, on a layer in a directory."""

    def __init__(self, directory: Path, ground: Ground, warm_up: float, seconds: float) -> None:
        self._directory = directory
        self._ground = ground
        self._warm_up = warm_up
        self._seconds = seconds
        self._random = random.Random(0)
        self.sent: Counter[str] = Counter()
        self.noted: dict[str, list[tuple[float, dict[str, float]]]] = {"worker": [], "sender": []}

    async def run(self) -> None:
        (self._directory / "channels.yaml").write_text(contract())
        (self._directory / "consumers.py").write_text(CONSUMERS)
        os.environ["SOAK_URL"] = self._ground.url
        with (self._directory / "worker.log").open("wb") as log:
            worker = subprocess.Popen(  # noqa: ASYNC220  (nothing else runs yet)
                [sys.executable, "-m", "channelmap", "runworker"], cwd=self._directory, stdout=log, stderr=log
            )
        layer = ContractLayer(load(self._directory / "channels.yaml"))
        begun = time.monotonic()
        tasks = [asyncio.ensure_future(one) for one in (self._send(layer), self._note(worker.pid), self._cut())]
        try:
            whole = self._warm_up + self._seconds
            done, _ = await asyncio.wait(tasks, timeout=whole, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            for task in done:
                task.result()
            print(f"sent {sum(self.sent.values())} events in {time.monotonic() - begun:.0f} s: {dict(self.sent)}")
            while self._has_work():  # noqa: ASYNC110  (a layer tells nobody that it is empty)
                await asyncio.sleep(0.5)
        finally:
            worker.send_signal(signal.SIGTERM)
            print(f"worker ended with {worker.wait(60)}")
            await layer.close()

    def _has_work(self) -> bool:
        remaining = self._ground.remaining()
        return any(remaining.waiting.values()) or any(remaining.leased.values())

    async def _send(self, layer: ContractLayer) -> None:
        for number in itertools.count():
            busy = self._random.randrange(BUSY)
            channel = f"c{busy * (CHANNELS // BUSY) + busy % 4:05}"
            fails = self._random.randrange(FAILING) == 0
            try:
                await layer.send(channel, {"type": "job", "id": number, "fails": fails})
            except LayerError:
                self.sent["refused"] += 1
                await asyncio.sleep(0.1)
            else:
                self.sent["failing" if fails else "good"] += 1
            await asyncio.sleep(PAUSE_SECS)

    async def _note(self, worker: int) -> None:
        begun = time.monotonic()
        while True:
            for name, pid in (("worker", worker), ("sender", os.getpid())):
                self.noted[name].append((time.monotonic() - begun, measure(pid)))
            await asyncio.sleep(SAMPLE_SECS)

    async def _cut(self) -> None:
        cut = self._ground.troubles.get("cut")
        while True:
            await asyncio.sleep(CUT_SECS)
            if cut is not None:
                await asyncio.to_thread(cut, self._random)

    def report(self) -> list[str]:
        """Print the slopes; return the quantities that grew."""
        faults = []
        for name, samples in self.noted.items():
            late = [sample for sample in samples if sample[0] >= self._warm_up]
            for quantity, most in MOST_GROWTH.items():
                times, values = [at for at, _ in late], [values[quantity] for _, values in late]
                slope = statistics.linear_regression(times, values).slope * 600
                print(
                    f"{name}: {quantity:<12} first {samples[0][1][quantity]:8.1f}, {min(values):8.1f} to "
                    f"{max(values):8.1f}, last {values[-1]:8.1f}, slope {slope:+8.2f} in ten minutes (<= {most:g})"
                )
                if slope > most:
                    faults.append(f"{name}: {quantity} grew")
        handled = (self._directory / "done").stat().st_size
        print(f"handled {handled} of {self.sent['good']} good events")
        return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=8)
    parser.add_argument("--layer", choices=("sqlite", "redis"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ground = GROUNDS[options.layer](directory if options.layer == "sqlite" else directory / "ground")
        with ground.running():
            soak = Soak(directory, ground, 60 * options.warm_up, 60 * options.minutes)
            asyncio.run(soak.run())
            faults = soak.report()
    for fault in faults:
        print(f"FAULT {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
