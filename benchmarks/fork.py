"""Fork while threads and event loops send: is every acknowledged event in the file?

Each round, a process sends from a thread and from an event loop, and forks children in the midst of it; the children
send too, every other one from an event loop. Each sender notes an id after `send` has returned. At the end the ids
are looked up in the file by SQLite alone. Exit code 1: events are missing, or a child failed or hung.
"""

import argparse
import asyncio
import itertools
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgpack

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer

PATIENCE_SECS = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--children", type=int, default=8)
    parser.add_argument("--events", type=int, default=2_000, help="for each child")
    options = parser.parse_args()
    acknowledged = missing = failed = 0
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            failed += one_round(Path(directory), options.children, options.events)
            noted = {line for file in Path(directory).glob("*.notes") for line in file.read_text().splitlines()}
            missing += len(noted - ids_in(Path(directory, "events.db")))
            acknowledged += len(noted)
    print(f"{options.rounds} rounds: {acknowledged} acknowledged, {missing} missing, {failed} children failed or hung")
    return int(missing > 0 or failed > 0)


def one_round(directory: Path, children: int, events: int) -> int:
    """Run a round in a process of its own, since its threads never stop; how many of its children failed."""
    pid = os.fork()
    if pid == 0:
        os._exit(parent(directory, children, events))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def parent(directory: Path, children: int, events: int) -> int:
    layer = open_layer(f"sqlite:///{directory / 'events.db'}", capacity=10**9)
    layer.send_sync("jobs", {"type": "job", "id": "first"})
    threading.Thread(target=send, args=(layer, directory, "thread"), daemon=True).start()
    threading.Thread(target=asyncio.run, args=(send_in_loop(layer, directory, "loop"),), daemon=True).start()
    running = set()
    for number in range(children):
        pid = os.fork()
        if pid == 0:
            child(layer, directory, number, events)
        running.add(pid)
    return failures(running)


def child(layer: ChannelLayer, directory: Path, number: int, events: int) -> None:
    """Send, and leave without the exit handlers of the process that was copied."""
    code = 1
    try:
        if number % 2:
            asyncio.run(send_in_loop(layer, directory, f"child {number}", events))
        else:
            send(layer, directory, f"child {number}", events)
        code = 0
    finally:
        os._exit(code)


def send(layer: ChannelLayer, directory: Path, sender: str, events: int | None = None) -> None:
    with notes_of(directory, sender) as notes:
        for id_ in ids(sender, events):
            layer.send_sync("jobs", {"type": "job", "id": id_})
            notes.write(f"{id_}\n")


async def send_in_loop(layer: ChannelLayer, directory: Path, sender: str, events: int | None = None) -> None:
    with notes_of(directory, sender) as notes:
        for id_ in ids(sender, events):
            await layer.send("jobs", {"type": "job", "id": id_})
            notes.write(f"{id_}\n")


def notes_of(directory: Path, sender: str) -> TextIO:
    return Path(directory, f"{sender}.notes").open("w", buffering=1)


def ids(sender: str, events: int | None) -> Iterator[str]:
    return (f"{sender} {number}" for number in (itertools.count() if events is None else range(events)))


def failures(running: set[int]) -> int:
    """Wait for the children, and end those that hang."""
    deadline, failed = time.monotonic() + PATIENCE_SECS, 0
    while running and time.monotonic() < deadline:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.discard(pid)
                failed += status != 0
        time.sleep(0.01)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return failed + len(running)


def ids_in(path: Path) -> set[str]:
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {msgpack.unpackb(body)["id"] for (body,) in db.execute("SELECT body FROM waiting")}
    finally:
        db.close()


if __name__ == "__main__":
    sys.exit(main())
