"""Measure this channelmap against another one: `python benchmarks/paired.py ../before/.venv/bin/python`.

The argument is the Python of an installation to compare with, such as a worktree of an older commit after
`make setup`. Both do small steps in turn, so that a machine whose speed changes is as fast for the one as for the
other. A process may be some percent faster than another one by chance, so each repetition starts new ones. Printed is,
for each step, how long this channelmap takes for what the other one does in 1.00: the median, the least and the most
of the repetitions.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from channelmap import AsyncConsumer, SyncConsumer, Worker, load, load_router
from channelmap.sending import ContractLayer

HERE = Path(__file__).parent
EVENT = {"type": "generate", "id": 123456789}
CHANNELS = """\
version: 1
layer: {url}
defaults: {{capacity: 10000000}}
channels:
  async-channel: {{consumer: paired.AsyncNothing, events: {{generate: generate.json}}}}
  sync-channel: {{consumer: paired.SyncNothing, events: {{generate: generate.json}}}}
"""
SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer", "minimum": 0}},
    "required": ["id"],
    "additionalProperties": False,
}


class AsyncNothing(AsyncConsumer):
    async def generate(self, event: dict[str, Any]) -> None: ...


class SyncNothing(SyncConsumer):
    def generate(self, event: dict[str, Any]) -> None: ...


class Enough(Exception):
    """The events are through."""


class Steps:
    """What one side does, a step at a time; each method is a step and returns its seconds."""

    def __init__(self, directory: Path) -> None:
        contract = load(directory / "channels.yaml")
        self._layer = ContractLayer(contract)
        self._router = load_router(contract)

    def judge_and_dispatch(self) -> float:
        return self._through_the_gate("async-channel")

    def judge_and_dispatch_sync(self) -> float:
        return self._through_the_gate("sync-channel")

    def send(self) -> float:
        async def sends() -> None:
            for _ in range(500):
                await self._layer.send("async-channel", EVENT)

        return self._sent(lambda: self._run(sends))

    def send_sync(self) -> float:
        def sends() -> None:
            for _ in range(500):
                self._layer.send_sync("async-channel", EVENT)

        return self._sent(sends)

    def send_gathered(self) -> float:
        async def sends() -> None:
            for _ in range(5):
                await asyncio.gather(*(self._layer.send("async-channel", EVENT) for _ in range(1_000)))

        return self._sent(lambda: self._run(sends))

    def drain(self) -> float:
        return self._drained("async-channel", 10_000)

    def drain_sync(self) -> float:
        return self._drained("sync-channel", 10_000)

    def _through_the_gate(self, channel: str) -> float:
        left = 20_000

        async def receive() -> dict[str, Any]:
            nonlocal left
            if not left:
                raise Enough
            left -= 1
            return EVENT

        def at_hand() -> dict[str, Any] | None:
            nonlocal left
            if not left:
                return None
            left -= 1
            return EVENT

        receive.at_hand = at_hand  # type: ignore[attr-defined]

        async def send(_event: dict[str, Any]) -> None: ...

        async def serve() -> None:
            with suppress(Enough):
                await self._router({"type": "channel", "channel": channel}, receive, send)

        return _seconds(lambda: asyncio.run(serve()))

    def _sent(self, sends: Callable[[], None]) -> float:
        seconds = _seconds(sends)
        self._drained("async-channel", 0)
        return seconds

    def _drained(self, channel: str, count: int) -> float:
        async def fill() -> None:
            for _ in range(count // 1_000):
                await self._layer.send_many(channel, [EVENT] * 1_000)

        self._run(fill)
        worker = Worker(self._router, [channel], self._layer.layer, burst=True)
        return _seconds(lambda: self._run(worker.serve))

    def _run(self, main: Callable[[], Any]) -> None:
        async def closing() -> None:
            await main()
            await self._layer.close()

        asyncio.run(closing())


STEPS = ("judge_and_dispatch", "judge_and_dispatch_sync", "send", "send_sync", "send_gathered", "drain", "drain_sync")


def _seconds(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def serve(directory: Path) -> None:
    """Be one side: do each step that is asked for, and say how long it took."""
    steps = Steps(directory)
    for line in sys.stdin:
        print(getattr(steps, line.strip())(), flush=True)


class Side:
    """One of the two, in a process of its own."""

    def __init__(self, python: str, directory: Path) -> None:
        command = [python, str(HERE / "paired.py"), "--serve", str(directory)]
        paths = os.environ | {"PYTHONPATH": str(HERE)}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=paths)

    def do(self, step: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(step, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def one_repetition(other: str, urls: tuple[str, str], rounds: int) -> dict[str, float]:
    """Return, for each step, the median of ours / theirs."""
    ratios: dict[str, list[float]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory() as name:
        sides = []
        for number, (python, url) in enumerate(zip((sys.executable, other), urls, strict=True)):
            directory = Path(name, str(number))
            directory.mkdir()
            (directory / "channels.yaml").write_text(CHANNELS.format(url=url))
            (directory / "generate.json").write_text(json.dumps(SCHEMA))
            sides.append(Side(python, directory))
        ours, theirs = sides
        for count in range(rounds + 1):
            for step in STEPS:
                # The second one finds other caches, so they take turns; the first round warms up.
                first, second = (ours, theirs) if count % 2 else (theirs, ours)
                took = {first: first.do(step), second: second.do(step)}
                if count:
                    ratios[step].append(took[ours] / took[theirs])
        for side in sides:
            side.end()
    return {step: statistics.median(values) for step, values in ratios.items()}


def report(kind: str, repetitions: list[dict[str, float]]) -> None:
    for step in STEPS:
        values = sorted(repetition[step] for repetition in repetitions)
        name, least, most = step.replace("_", " "), values[0], values[-1]
        print(f"{kind:<8}{name:<26}{statistics.median(values):>6.2f} ({least:.2f}-{most:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="?", help="the other installation's Python")
    parser.add_argument("--rounds", type=int, default=25, help="how often each step is done")
    parser.add_argument("--repeat", type=int, default=5, help="with new processes")
    parser.add_argument("--serve", metavar="DIRECTORY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve))
        return
    if options.python is None:
        parser.error("name the Python of the channelmap to compare with")
    sys.path.insert(0, str(HERE.parent / "tests" / "layers"))
    from redis_servers import VOLATILE, Server, running

    file = ("sqlite:///channels.db", "sqlite:///channels.db")
    report("SQLite", [one_repetition(options.python, file, options.rounds) for _ in range(options.repeat)])
    with tempfile.TemporaryDirectory() as name:
        valkey = Server(Path(name, "server"), *VOLATILE)
        with running(valkey):
            urls = (f"redis://{valkey.address}/1", f"redis://{valkey.address}/2")
            report("Redis", [one_repetition(options.python, urls, options.rounds) for _ in range(options.repeat)])


if __name__ == "__main__":
    main()
