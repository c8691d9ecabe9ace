"""What only reads the file changes nothing beside it, whoever reads and whatever the file was left in."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layer import ChannelLayer, letter_for
from channelmap.layers import open_layer
from channelmap.layers.sqlite import SQLiteChannelLayer

from .conformance import event

#: Sends and leaves in order: nothing is left in the log.
SEND = """
import asyncio, sys
from channelmap.layers import open_layer
layer = open_layer(sys.argv[1])
layer.send_sync("jobs", {"type": "job", "id": 2})
asyncio.run(layer.close())
"""

#: Sends, and is killed with everything open: the log and its index stay.
KILLED = """
import os, signal, sys
from channelmap.layers import open_layer
layer = open_layer(sys.argv[1])
layer.send_sync("jobs", {"type": "job", "id": 2})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "events.db"


async def fill(layer: ChannelLayer) -> None:
    await layer.send("jobs", event(1))
    await layer.send("jobs", event(0))
    (delivery,) = await layer.take("jobs", 1)
    await layer.bury(delivery, letter_for(delivery, "failed", "by hand"))
    await layer.close()


async def read(url: str) -> tuple[int | None, list[int], list[str]]:
    layer = open_layer(url)
    shown = [delivery.event["id"] async for delivery in layer.peek("jobs") if delivery.event]
    letters = [letter.reason for letter in await layer.dead_letters()]
    waiting = await layer.waiting("jobs")
    await layer.close()
    return waiting, shown, letters


def listing(file: Path) -> dict[str, tuple[int, ...]]:
    """Describe the directory and what is in it; in the index of a log (-shm) even readers note their locks."""
    found = {path.name: path.stat() for path in [file.parent, *file.parent.rglob("*")]}
    return {
        name: (each.st_ino, each.st_uid, each.st_mode, each.st_size, 0 if name.endswith("-shm") else each.st_mtime_ns)
        for name, each in found.items()
    }


def closed(file: Path) -> None:
    asyncio.run(fill(open_layer(f"sqlite:///{file}")))


def killed(file: Path) -> None:
    closed(file)
    subprocess.run([sys.executable, "-c", KILLED, f"sqlite:///{file}"], check=False, timeout=30)
    assert Path(f"{file}-wal").stat().st_size
    shutil.rmtree(f"{file}-wake", ignore_errors=True)


def empty(file: Path) -> None:
    file.touch()


def missing(_file: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("leave", "expected"),
    [
        (closed, (1, [0], ["by hand"])),
        (killed, (2, [0, 2], ["by hand"])),
        (empty, (0, [], [])),
        (missing, (0, [], [])),
    ],
)
def test_reading_changes_nothing_in_the_directory(leave: Callable[[Path], None], expected: object, file: Path) -> None:
    leave(file)
    before = listing(file)

    assert asyncio.run(read(f"sqlite:///{file}")) == expected

    assert listing(file) == before


def test_what_a_running_process_has_just_committed_is_read(file: Path) -> None:
    writer = open_layer(f"sqlite:///{file}")
    for number in range(3):
        writer.send_sync("jobs", event(number))
        before = listing(file)
        script = "import asyncio, sys; from channelmap.layers import open_layer; l = open_layer(sys.argv[1])\n"
        script += "print(asyncio.run(l.waiting('jobs')))"
        done = subprocess.run(
            [sys.executable, "-c", script, f"sqlite:///{file}"], capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout == f"{number + 1}\n"
        assert {name: status[1:3] for name, status in listing(file).items()} == {
            name: status[1:3] for name, status in before.items()
        }
    asyncio.run(writer.close())


def test_what_cannot_be_read_is_told_in_words(file: Path) -> None:

    file.write_text("not a database, and long enough to be looked at by SQLite" * 10)
    with pytest.raises(LayerUnavailable, match="the file is not a SQLite database"):
        asyncio.run(read(f"sqlite:///{file}"))
    with pytest.raises(LayerUnavailable, match="does not exist; create it"):
        asyncio.run(read(f"sqlite:///{file.parent}/none/{file.name}"))


def test_a_file_that_changes_while_it_is_read_is_read_again(file: Path) -> None:
    closed(file)
    layer = SQLiteChannelLayer(f"sqlite:///{file}")
    seen: list[int] = []

    def read_and_change(db: sqlite3.Connection) -> None:
        seen.append(db.execute("SELECT count(*) FROM waiting").fetchone()[0])
        if len(seen) == 1:
            subprocess.run([sys.executable, "-c", SEND, f"sqlite:///{file}"], check=True, timeout=30)

    layer._readers.run_sync(read_and_change)

    assert seen == [1, 2]


def test_a_file_with_a_time_in_the_future_is_read_at_once(file: Path) -> None:
    closed(file)
    ahead = time.time() + 3_600
    os.utime(file, (ahead, ahead))

    assert asyncio.run(asyncio.wait_for(read(f"sqlite:///{file}"), 5)) == (1, [0], ["by hand"])
