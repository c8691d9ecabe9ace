"""What is sent to a durable channel is on disk when the send returns."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import ChannelFull, LayerUnavailable
from channelmap.layer import ChannelLayer
from channelmap.layers.sqlite import SQLiteChannelLayer
from channelmap.layers.sqlite.connections import Connections
from channelmap.limits import Limits

from .conformance import Everything, event, letter, numbers
from .test_sqlite import OnAFile

LIMITS = {"safe": Limits(durable=True), "small": Limits(capacity=3, durable=True), "quick": Limits()}
#: What the file does for `PRAGMA synchronous` of these numbers: it waits for the disk when it commits, or not.
FULL, NORMAL = 2, 1

FORK = """
import asyncio, os, sys
from channelmap.layers import open_layer
from channelmap.limits import Limits
layer = open_layer(sys.argv[1], limits={"safe": Limits(durable=True)})
async def send():
    await asyncio.gather(*(layer.send("safe", {"type": "job", "id": number}) for number in range(3)))
asyncio.run(send())
if os.fork() == 0:
    asyncio.run(send())
    os._exit(0)
assert os.wait()[1] == 0
asyncio.run(send())
"""


class DurableLayer(SQLiteChannelLayer):
    """A layer whose channels are all durable."""

    def limits_of(self, channel: str) -> Limits:
        return replace(super().limits_of(channel), durable=True)


class TestDurable(Everything, OnAFile):
    """All the same is promised."""

    def open(self, **options: Any) -> ChannelLayer:
        return DurableLayer(f"sqlite:///{self.file}", **options)


class Traced:
    """The statements of a connection that lies idle, and the threads that gave them."""

    def __init__(self, connections: Connections) -> None:
        (self._db,) = connections._idle
        (self.synchronous,) = self._db.execute("PRAGMA synchronous").fetchone()
        self.statements: list[str] = []
        self.threads: set[int] = set()
        self._db.set_trace_callback(self._note)

    def _note(self, statement: str) -> None:
        self.statements.append(statement.split(maxsplit=1)[0])
        self.threads.add(threading.get_ident())

    def count(self, word: str) -> int:
        return self.statements.count(word)


async def opened(file: Path) -> tuple[SQLiteChannelLayer, Traced, Traced]:
    """Return a layer whose connections are open, and what its durable and its other connection do from now on."""
    layer = SQLiteChannelLayer(f"sqlite:///{file}", limits=LIMITS)
    await layer.send("safe", event(0))
    await layer.take("safe", 1, lease=60)
    return layer, Traced(layer._durable), Traced(layer._connections)


def waiting(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        return int(db.execute("SELECT count(*) FROM waiting").fetchone()[0])


class TestCommits(OnAFile):
    def test_sends_that_are_awaited_together_share_one_commit_that_waits_for_the_disk(self) -> None:
        async def main() -> None:
            layer, durable, other = await opened(self.file)
            await asyncio.gather(
                *(layer.send("safe", event(number)) for number in range(50)),
                layer.send_many("safe", [event(50), event(51)]),
            )
            assert (durable.synchronous, other.synchronous) == (FULL, NORMAL)
            assert (durable.count("COMMIT"), other.statements) == (1, [])
            assert sorted(numbers(await layer.take("safe", 99))) == list(range(52))
            await layer.close()

        asyncio.run(main())

    def test_sends_that_follow_one_another_have_a_commit_each(self) -> None:
        async def main() -> int:
            layer, durable, _ = await opened(self.file)
            for number in range(5):
                await layer.send("safe", event(number))
            await layer.close()
            return durable.count("COMMIT")

        assert asyncio.run(main()) == 5

    def test_what_is_sent_during_a_commit_goes_with_the_next_one(self) -> None:
        async def main() -> int:
            layer, durable, _ = await opened(self.file)
            with closing(sqlite3.connect(self.file, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                first = asyncio.create_task(layer.send("safe", event(0)))
                while not durable.statements:
                    await asyncio.sleep(0)
                later = [asyncio.create_task(layer.send("safe", event(number))) for number in range(9)]
                await asyncio.sleep(0)
                other.execute("COMMIT")
            await asyncio.gather(first, *later)
            await layer.close()
            return durable.count("COMMIT")

        assert asyncio.run(main()) == 2

    def test_the_event_loop_does_not_wait_for_the_disk(self) -> None:
        async def main() -> set[int]:
            layer, durable, _ = await opened(self.file)
            await layer.send("safe", event(1))
            await layer.close()
            return durable.threads

        assert threading.get_ident() not in asyncio.run(main())

    def test_every_way_of_sending_waits_for_the_disk(self) -> None:
        async def main() -> list[int]:
            layer, durable, other = await opened(self.file)
            counts = []
            layer.send_sync("safe", event(1))
            counts.append(durable.count("INSERT"))
            await layer.send_many("safe", [event(2), event(3)])
            counts.append(durable.count("INSERT"))
            await layer.group_add("group", "safe")
            await layer.group_add("group", "quick")
            await layer.group_send("group", event(4))
            counts.append(durable.count("INSERT"))
            assert other.count("INSERT") == 3
            assert [await layer.waiting(name) for name in ("safe", "quick")] == [4, 1]
            await layer.close()
            return counts

        assert asyncio.run(main()) == [1, 3, 4]

    def test_whatever_may_be_done_again_does_not_wait_for_the_disk(self) -> None:
        async def main() -> list[str]:
            layer, durable, _ = await opened(self.file)
            await layer.send_many("safe", [event(number) for number in range(4)])
            durable.statements.clear()
            settled, renewed, retried, buried = await layer.take("safe", 4, lease=60)
            await layer.settle([settled])
            await layer.renew([renewed], 60)
            await layer.give_back([renewed])
            await layer.retry(retried, 60)
            await layer.bury(buried, letter("safe", 3))
            await layer.send("quick", event(5))
            layer.send_sync("quick", event(6))
            await layer.close()
            return durable.statements

        assert asyncio.run(main()) == []

    def test_without_durable_channels_there_is_no_further_connection(self) -> None:
        async def scenario(layer: ChannelLayer) -> bool:
            assert isinstance(layer, SQLiteChannelLayer)
            await layer.send("quick", event(1))
            return layer._durable.is_open

        assert not self.run(scenario, limits=LIMITS)


class TestAnswers(OnAFile):
    def test_each_of_the_sends_in_a_commit_has_its_own_answer(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await layer.send("small", event(0))
            calls = [layer.send_many("small", [event(1), event(2), event(3)]), layer.send("small", event(4))]
            calls += [layer.send("small", event(5)), layer.send("small", event(6)), layer.send("safe", event(7))]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert numbers(await layer.take("small", 9)) == [0, 4, 5]
            assert all(isinstance(answer, str | ChannelFull) for answer in answers)
            return [isinstance(answer, str) for answer in answers]

        assert self.run(scenario, limits=LIMITS) == [False, True, True, False, True]

    def test_a_send_that_is_cancelled_before_its_commit_sends_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            sends = [asyncio.create_task(layer.send("safe", event(number))) for number in range(3)]
            await asyncio.sleep(0)
            sends[1].cancel()
            await asyncio.wait(sends)
            return numbers(await layer.take("safe", 9))

        assert self.run(scenario, limits=LIMITS) == [0, 2]

    def test_after_a_turn_in_which_all_were_cancelled_sending_goes_on(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            send = asyncio.create_task(layer.send("safe", event(1)))
            await asyncio.sleep(0)
            send.cancel()
            await asyncio.wait([send])
            await layer.send("safe", event(2))
            return numbers(await layer.take("safe", 9))

        assert self.run(scenario, limits=LIMITS) == [2]

    def test_each_of_the_sends_hears_that_the_file_cannot_be_used(self, tmp_path: Path) -> None:
        async def main() -> list[Any]:
            layer = SQLiteChannelLayer(f"sqlite:///{tmp_path}/missing/events.db", limits=LIMITS)
            calls = [layer.send("safe", event(number)) for number in range(3)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            await layer.close()
            return answers

        answers = asyncio.run(main())
        assert [type(answer) for answer in answers] == [LayerUnavailable] * 3
        assert len({id(answer) for answer in answers}) == 3

    def test_a_file_that_was_deleted_is_made_anew(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            assert isinstance(layer, SQLiteChannelLayer)
            await layer.send("safe", event(1))
            for path in self.file.parent.glob("events.db*"):
                if path.is_file():
                    path.unlink()
            layer._durable._check_at = layer._connections._check_at = 0
            await layer.send("safe", event(2))
            return numbers(await layer.take("safe", 9))

        assert self.run(scenario, limits=LIMITS) == [2]


def test_a_forked_child_sends_too(tmp_path: Path) -> None:
    file = tmp_path / "events.db"
    subprocess.run([sys.executable, "-c", FORK, f"sqlite:///{file}"], check=True, timeout=30)

    assert waiting(file) == 9


@pytest.mark.parametrize("channel", ["safe", "quick"])
def test_a_loop_that_ends_during_a_send_leaves_the_layer_usable(tmp_path: Path, channel: str) -> None:
    layer = SQLiteChannelLayer(f"sqlite:///{tmp_path}/events.db", limits=LIMITS)

    async def begin() -> asyncio.Task[str]:
        sending = asyncio.create_task(layer.send(channel, event(1)))
        await asyncio.sleep(0)
        return sending

    async def go_on() -> bool:
        await layer.send(channel, event(2))
        taken = await layer.take(channel, 9)
        await layer.close()
        return 2 in numbers(taken)

    asyncio.run(begin())
    assert asyncio.run(go_on())
