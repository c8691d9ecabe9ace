"""The time of a file: the wall clock is set, the machine is started again, the file goes to another machine."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from channelmap.layer import ChannelLayer, Delivery
from channelmap.layers import open_layer
from channelmap.layers.sqlite import clock
from channelmap.layers.sqlite.clock import Database

from .conformance import event, letter, numbers
from .conformance.clocks import HOUR, STEPS, wall_clock
from .conformance.heartbeats import WORKER

#: A process whose wall clock is set before it opens the file.
ELSEWHERE = """
import asyncio, sys, time
from channelmap.layers import open_layer
real = time.time
time.time = lambda: real() + float(sys.argv[2])
async def main():
    layer = open_layer(sys.argv[1], expiry=60)
    waiting = await layer.take("jobs", 9, wait=False)
    leased = await layer.take("held", 9, lease=60, wait=False)
    print(len(waiting), len(leased))
    await layer.send("jobs", {"type": "job", "id": 9})
    await layer.close()
asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/events.db"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


class Machine:
    """Stands for the kernel: its boot id lies in a file of ours, and its uptime can be set."""

    def __init__(self, boot_id: Path, patch: pytest.MonkeyPatch) -> None:
        self._boot_id = boot_id
        self._patch = patch
        self._real = time.clock_gettime
        self._starts = 0
        patch.setattr(clock, "BOOT_ID", boot_id)

    def start(self, uptime: float) -> None:
        """Start anew; the machine says that it has run for `uptime` seconds."""
        self._starts += 1
        self._boot_id.write_text(f"start-{self._starts}\n")
        begun = self._real(time.CLOCK_MONOTONIC) - uptime
        self._patch.setattr(time, "clock_gettime", lambda _clock: self._real(time.CLOCK_MONOTONIC) - begun)

    def forget_its_starts(self) -> None:
        """Be a system that names no start."""
        self._patch.setattr(clock, "BOOT_ID", self._boot_id / "missing")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(tmp_path / "boot_id", patch)
        machine.start(1_000)
        yield machine


async def fill(url: str) -> None:
    """Send one event, and lease another, a retry of a third is due in a minute."""
    layer = open_layer(url, expiry=60)
    await layer.send("jobs", event(1))
    await layer.send_many("held", [event(2), event(3)])
    _, failed = await layer.take("held", 2, lease=60)
    await layer.retry(failed, 60)
    await layer.close()


async def take_all(url: str) -> list[list[int]]:
    """Take what waits, and what comes again by now."""
    layer = open_layer(url, expiry=60)
    taken = [await layer.take(name, 9, lease=60, wait=False) for name in ("jobs", "held")]
    taken.append(await layer.take("held", 9, lease=60, wait=False))
    await layer.close()
    return [numbers(deliveries) for deliveries in taken]


def file_time(file: Path) -> float:
    with closing(sqlite3.connect(file, factory=Database)) as db:
        db.read_clock()
        return db.time()


@STEPS
def test_a_process_that_is_started_after_the_clock_was_set_has_the_time_of_the_others(url: str, step: float) -> None:
    asyncio.run(fill(url))

    command = [sys.executable, "-c", ELSEWHERE, url, str(step)]
    done = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True)

    assert done.stdout == "1 0\n"
    assert asyncio.run(take_all(url)) == [[9], [], []]


@STEPS
def test_what_is_shown_is_wall_time_as_the_clock_says_it_now(url: str, step: float) -> None:
    async def main(layer: ChannelLayer) -> list[Delivery]:
        with wall_clock() as turn:
            await layer.send("jobs", event(1))
            await layer.send("held", event(2))
            turn(step)
            held = await layer.take("held", 1, lease=60)
            seen = [delivery for name in ("jobs", "held") async for delivery in layer.peek(name)]
            shown = [*held, *seen, *await layer.take("jobs", 1)]
            await layer.retry(held[0], 0)
            shown += await layer.take("held", 1, lease=0)
            shown += await layer.take("held", 1)
            assert all(abs(delivery.sent - time.time()) < 60 for delivery in shown)
            await layer.close()
            return shown

    assert len(asyncio.run(main(open_layer(url)))) == 6


def test_the_time_of_an_event_is_the_same_whenever_it_is_shown(url: str) -> None:
    async def main(layer: ChannelLayer) -> set[float]:
        await layer.send("jobs", event(1))
        shown = {delivery.sent for _ in range(3) async for delivery in layer.peek("jobs")}
        for _ in range(3):
            taken = await layer.take("jobs", 1)
            await layer.give_back(taken)
            shown.add(taken[0].sent)
        await layer.close()
        return shown

    assert len(asyncio.run(main(open_layer(url)))) == 1


def test_the_times_of_a_dead_letter_are_kept_as_they_were(url: str) -> None:
    async def main(layer: ChannelLayer) -> list[tuple[float, float]]:
        await layer.send("jobs", event(1))
        (taken,) = await layer.take("jobs", 1)
        await layer.bury(taken, letter("jobs", 1, sent=taken.sent, died=taken.sent + 1))
        with wall_clock() as turn:
            turn(-HOUR)
            (kept,) = await layer.dead_letters()
        await layer.close()
        return [(kept.sent, kept.died), (taken.sent, taken.sent + 1)]

    kept, written = asyncio.run(main(open_layer(url)))
    assert kept == written


@pytest.mark.parametrize(("secs", "left"), [(50, [[1], [], []]), (70, [[], [2], [3]])])
def test_after_a_start_of_the_machine_the_wall_clock_says_how_long_it_was_off(
    url: str, machine: Machine, secs: float, left: list[list[int]]
) -> None:
    asyncio.run(fill(url))
    machine.start(10)
    with wall_clock() as turn:
        turn(secs)
        assert asyncio.run(take_all(url)) == left


@pytest.mark.parametrize("uptime", [5, 5_000_000])
def test_after_a_start_the_time_of_a_file_does_not_go_back_with_the_wall_clock(
    url: str, machine: Machine, uptime: float
) -> None:
    with wall_clock() as turn:
        asyncio.run(fill(url))
        machine.start(uptime)
        turn(-HOUR)
        assert asyncio.run(take_all(url)) == [[1], [], []]
        assert file_time(Path(url.removeprefix("sqlite:///"))) > time.time() + HOUR - 60


def test_a_clock_that_was_put_right_while_a_process_ran_is_right_after_the_next_start(
    url: str, file: Path, machine: Machine
) -> None:
    """A small computer without a battery starts with an old time, and asks for the right one a minute later."""

    async def run_for_a_while(layer: ChannelLayer) -> None:
        await layer.send("others", event(1))
        turn(0)
        layer._connections._check_at = 0  # type: ignore[attr-defined]
        await layer.send("jobs", event(1))
        await layer.close()

    with wall_clock() as turn:
        turn(-8 * HOUR)
        asyncio.run(run_for_a_while(open_layer(url)))
        machine.start(10)
        assert asyncio.run(take_all(url)) == [[1], [], []]
        assert file_time(file) < time.time() - 7 * HOUR


@STEPS
def test_where_the_system_names_no_start_a_file_keeps_its_time(url: str, machine: Machine, step: float) -> None:
    machine.forget_its_starts()
    asyncio.run(fill(url))
    with wall_clock() as turn:
        turn(step)
        assert asyncio.run(take_all(url)) == [[1], [], []]


@pytest.mark.parametrize(("secs", "left"), [(50, [[1], [], []]), (70, [[], [2], [3]])])
def test_where_the_system_names_no_start_it_shows_by_times_that_lie_ahead(
    url: str, machine: Machine, secs: float, left: list[list[int]]
) -> None:
    machine.forget_its_starts()
    asyncio.run(fill(url))
    machine.start(10)
    machine.forget_its_starts()
    with wall_clock() as turn:
        turn(secs)
        assert asyncio.run(take_all(url)) == left


@pytest.mark.parametrize(("secs", "listed"), [(5, 1), (50, 0)])
def test_where_the_system_names_no_start_heartbeats_show_it_too(
    url: str, machine: Machine, secs: float, listed: int
) -> None:
    async def beat() -> None:
        layer = open_layer(url)
        await layer.heartbeat(WORKER, {}, 1)
        await layer.close()

    async def count() -> int:
        layer = open_layer(url)
        await layer.send("jobs", event(1))
        found = await layer.workers()
        await layer.close()
        return len(found)

    machine.forget_its_starts()
    asyncio.run(beat())
    machine.start(10)
    machine.forget_its_starts()
    with wall_clock() as turn:
        turn(secs)
        assert asyncio.run(count()) == listed


def test_commands_that_read_do_not_write_the_time(url: str, file: Path, machine: Machine) -> None:
    async def look() -> list[int]:
        layer = open_layer(url, expiry=60)
        seen = [delivery async for delivery in layer.peek("jobs")]
        await layer.close()
        return numbers(seen)

    asyncio.run(fill(url))
    before = file.read_bytes()
    machine.start(10)
    with wall_clock() as turn:
        turn(-HOUR)
        assert asyncio.run(look()) == [1]
    assert file.read_bytes() == before
