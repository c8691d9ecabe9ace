"""Search for lost events with random faults: `python benchmarks/chaos.py --seed 1 --minutes 5 --layer sqlite`.

Senders and workers run as processes of their own; they are killed with SIGKILL and replaced, while the layer has
troubles of its own: restarts, freezes, cut connections, fail-overs, locks, a full disk, a wall clock that jumps. Some
events are sent with a delay, some handlers raise `Retry` or `Reject`, and channels are paused and resumed. Each
process writes what it has done; at the end a checker that shares no code with channelmap says from these records, and
from what lies in the layer, where each acknowledged event is. The same seed makes the same faults in the same order.
Exit code 1: an event was lost or handled twice beyond what its channel promises, or handled before its time or during
a pause, or is still in the layer.
"""

import argparse
import collections
import json
import os
import random
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from storm.checker import PAUSE_SECS, Promise, Remaining, Verdict, judge
from storm.grounds import GROUNDS, Ground, Trouble, Troubler
from storm.history import Book

HERE = Path(__file__).parent
CONTRACT = """\
version: 1
layer: ${CHAOS_URL}
defaults: {capacity: 1000000, dead_letters: 1000000, expiry: null}
channels:
  least:
    {consumer: storm.consumers.Async, concurrency: 4, delivery: at-least-once, retry: {attempts: 20},
     events: {job: true}}
  least-sync:
    {consumer: storm.consumers.Sync, concurrency: 2, delivery: at-least-once, retry: {attempts: 20},
     events: {job: true}}
  most: {consumer: storm.consumers.Async, concurrency: 2, events: {job: true}}
"""
PROMISES: Mapping[str, Promise] = {
    "least": "at-least-once", "least-sync": "at-least-once", "most": "at-most-once",
}  # fmt: skip
SENDERS = ("async", "sync", "forked", "batches")
WORKERS = (1, 1, 2)
#: Seconds after which a worker that was told to stop cuts handlers off; at-least-once, their events come again.
DRAIN_SECS = 25.0
#: Seconds that the last worker has for what is left: longer than two leases.
PATIENCE = 150.0


class Process:
    """A process of the run, and how to start another one in its place."""

    def __init__(self, name: str, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._command = command
        self._directory = directory
        self._environment = environment
        self.start()

    def start(self) -> None:
        with (self._directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._directory, env=self._environment, stdout=log, stderr=log
            )

    def pids(self) -> list[int]:
        """It and the processes that it has started."""
        found = [self.process.pid]
        for pid in found:
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Storm:
    """One run.

    Args:
        directory: everything of the run lies here.
        ground: the layer.
        options: `seed`, `rate`, `lease`, `slow_one_in` and `clocks` of the command line.

    """

    def __init__(self, directory: Path, ground: Ground, options: argparse.Namespace) -> None:
        self._directory = directory
        self._random = random.Random(f"faults {options.seed}")
        self._seed = options.seed
        self._ground = ground
        #: By name; one of them happens at a time, so no trouble of the layer delays the news of a pause.
        self._troubles: dict[str, Trouble] = {**ground.troubles}
        if not options.slow_one_in:
            # Where an event takes 40 s, a suspect that a worker took before the pause waits for its turn as long.
            self._troubles["pause"] = self._pause_channel
        #: The last worker has the time for all that is left.
        self.must_end_empty = not options.slow_one_in
        self._interval = 60 / options.rate
        self._lease = options.lease
        self._numbers = collections.Counter[str]()
        self._troubler = Troubler()
        (directory / "channels.yaml").write_text(CONTRACT)
        self._clock = directory / "clock"
        self._clock.write_bytes(struct.pack("d", 0.0))
        self.book = Book(directory)
        self._environment = {
            **os.environ, "CHAOS_URL": ground.url, "CHAOS_HISTORY": str(self.book.path),
            "CHAOS_SLOW_ONE_IN": str(options.slow_one_in), "PYTHONPATH": f"{HERE}:{HERE / 'storm' / 'clock'}",
            **({"CHAOS_CLOCK": str(self._clock)} if options.clocks else {}),
        }  # fmt: skip
        self._clocks = options.clocks
        #: When a process was found to have ended, by its id.
        self.ends: dict[int, float] = {}
        #: When a process was told to stop, by a signal or by the end of its supervisor, by its id.
        self._stops: dict[int, float] = {}
        self.faults = collections.Counter[str]()
        self.kills = 0
        self._workers = [self._worker(processes) for processes in WORKERS]
        self._senders = [self._sender(kind) for kind in SENDERS]

    def _name(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"

    def _worker(self, processes: int) -> Process:
        if self._lease is None:
            command = ["-m", "channelmap", "runworker", "--processes", str(processes)]
        else:
            command = ["-m", "storm.workers", str(self._lease)]
        return Process(self._name("worker"), [sys.executable, *command], self._directory, self._environment)

    def _sender(self, kind: str) -> Process:
        name = self._name(kind)
        command = [sys.executable, "-m", "storm.senders", kind, name, f"{name} {self._seed}"]
        return Process(name, command, self._directory, self._environment)

    def run(self, seconds: float) -> None:
        """Let faults happen for so long, then stop the senders and let a last worker handle what is left."""
        self._wait_for_traffic()
        deadline = time.monotonic() + seconds
        due = time.monotonic()
        while due < deadline:
            due += self._interval * self._random.uniform(0.5, 1.5)
            time.sleep(max(0.0, due - time.monotonic()))
            self._replace_ended()
            self._strike()
        self._troubler.join()
        for process in (*self._senders, *self._workers):
            self._kill(process, process.pids())
        self._finish()

    def _wait_for_traffic(self) -> None:
        """Wait until each channel has had an event handled: processes that are killed before they work prove little."""
        deadline = time.monotonic() + PATIENCE
        while {record.channel for record in self.book.records() if record.what == "end"} < PROMISES.keys():
            if time.monotonic() > deadline:
                raise SystemExit(f"chaos: nothing was handled within {PATIENCE:.0f} s")
            time.sleep(0.1)

    def _strike(self) -> None:
        """Let one fault happen; which one depends on the seed alone."""
        kind = self._random.choices(
            ("worker", "sender", "ground", "stop", "disk", "clock"), (40, 30, 12, 4, 4, 4 if self._clocks else 0)
        )[0]
        choice, part = self._random.random(), self._random.random()
        if kind == "worker":
            process = self._workers[int(choice * len(self._workers))]
            pids = process.pids()
            killed = pids[int(part * len(pids))]
            self._kill(process, [killed])
            if killed == process.process.pid:
                self._note_stop(pids)
        elif kind == "sender":
            process = self._senders[int(choice * len(self._senders))]
            pids = process.pids()
            self._kill(process, [pids[int(part * len(pids))]])
        elif kind == "stop":
            process = self._workers[int(choice * len(self._workers))]
            self._note_stop(process.pids())
            process.process.send_signal(signal.SIGTERM)
        elif kind == "disk":
            self._fill_disk(self._workers[int(choice * len(self._workers))].pids(), part)
        elif kind == "clock":
            self._set_clock((part - 0.5) * 240)
        else:
            name = sorted(self._troubles)[int(choice * len(self._troubles))]
            if not self._troubler.start(self._troubles[name], random.Random(part)):
                return
            kind = name
        self.faults[kind] += 1

    def _pause_channel(self, random: random.Random) -> None:
        # Each second pause is long enough for the checker to see whether the workers obey.
        seconds = random.choice([random.uniform(0.5, PAUSE_SECS), PAUSE_SECS + 0.5])
        command = ["-m", "storm.pauses", random.choice(list(PROMISES)), str(seconds)]
        pause = Process(self._name("pause"), [sys.executable, *command], self._directory, self._environment)
        if pause.process.wait() != 0:
            self.faults["a pause that failed"] += 1

    def _set_clock(self, step: float) -> None:
        # Not written anew: who reads a mapped file that has just become empty is ended by SIGBUS.
        with self._clock.open("r+b") as file:
            file.write(struct.pack("d", step))

    def _kill(self, process: Process, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.ends[pid] = time.monotonic()
                self.kills += 1
        process.has_ended  # noqa: B018  (collects it)

    def _note_stop(self, pids: list[int]) -> None:
        for pid in pids:
            self._stops.setdefault(pid, time.monotonic())

    def gone(self) -> dict[int, float]:
        """When a process had ended, or let go of its handlers, by its id."""
        cut_off = {pid: at + DRAIN_SECS for pid, at in self._stops.items()}
        return {pid: min(end for end in (self.ends.get(pid), cut_off.get(pid)) if end) for pid in self.ends | cut_off}

    @staticmethod
    def _fill_disk(pids: list[int], part: float) -> None:
        """For up to two seconds, let no file of these processes grow."""

        def limit(most: int) -> None:
            for pid in pids:
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        limit(4_096)
        timer = threading.Timer(2 * part, limit, (resource.RLIM_INFINITY,))
        timer.daemon = True
        timer.start()

    def _replace_ended(self) -> None:
        for process in (*self._workers, *self._senders):
            if process.has_ended:
                self.ends.setdefault(process.process.pid, time.monotonic())
                process.start()

    def _finish(self) -> None:
        """Let one more worker, whom nothing happens to, handle what is left."""
        self._set_clock(0.0)
        last = self._worker(1)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._has_work() and not last.has_ended:
            time.sleep(0.5)
        last.process.send_signal(signal.SIGTERM)
        try:
            last.process.wait(60)
        except subprocess.TimeoutExpired:
            self.faults["the last worker did not stop"] += 1
            last.end()

    def _has_work(self) -> bool:
        remaining = self._ground.remaining()
        return any(remaining.unhandled(channel) for channel in PROMISES)

    def close(self) -> None:
        self._troubler.join()
        for process in (*self._workers, *self._senders):
            process.end()
        self.book.close()


def report(storm: Storm, verdicts: Mapping[str, Verdict], remaining: Remaining, *, may_lose: bool) -> list[str]:
    """Print what happened; return what must not have."""
    print(f"kills: {storm.kills}; faults: {dict(storm.faults)}")
    faults = []
    for channel, verdict in verdicts.items():
        twice = sum(verdict.twice.values())
        dead = len(remaining.dead[channel])
        print(
            f"{channel} ({verdict.promise}): {verdict.acknowledged} acknowledged, {verdict.delayed} delayed, "
            f"{len(verdict.early)} early, {verdict.handled} handled, {verdict.rejected} rejected, "
            f"{len(verdict.lost)} lost, {twice} twice, {len(verdict.twice_without_kill)} of them without a kill, "
            f"{dead} dead letters, {verdict.pauses} pauses"
        )
        if verdict.take_over:
            slowest = max(verdict.take_over)
            print(f"  take-over: median {statistics.median(verdict.take_over):.1f} s, maximum {slowest:.1f} s")
        faults += [f"{channel}: {fault}" for fault in verdict.faults(storm.kills, may_lose=may_lose)]
        if storm.must_end_empty and (left := remaining.unhandled(channel)):
            faults.append(f"{channel}: {len(left)} events are still in the layer, such as {', '.join(left[:3])}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--layer", choices=GROUNDS, default="sqlite")
    parser.add_argument("--rate", type=float, default=100, help="faults a minute")
    parser.add_argument(
        "--lease", type=float, metavar="SECONDS", help="one process a worker, with leases as short as that"
    )
    parser.add_argument("--slow-one-in", type=int, default=0, metavar="N", help="one event of N takes 40 s")
    parser.add_argument("--clocks", action="store_true", help="let the wall clock jump by up to two minutes")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep records and logs there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        ground = (
            GROUNDS[options.layer](directory / "ground") if options.layer != "sqlite" else GROUNDS["sqlite"](directory)
        )
        with ground.running():
            storm = Storm(directory, ground, options)
            try:
                storm.run(60 * options.minutes)
                remaining = ground.remaining()
            finally:
                storm.close()
        (directory / "gone.json").write_text(json.dumps(storm.gone()))
        verdicts = judge(storm.book.records(), remaining, PROMISES, storm.gone())
        print(f"chaos: layer {options.layer}, seed {options.seed}, {options.minutes} minutes")
        faults = report(storm, verdicts, remaining, may_lose=ground.may_lose)
    for fault in faults:
        print(f"FAULT {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
