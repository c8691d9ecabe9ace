"""What version 0.1 left in a file or on a server is taken over.

The fixtures were written by the code of version 0.1: six events were sent to `jobs` and one to `other`, three were
leased and not settled, one was put back for a retry, one became a dead letter.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, numbers
from .redis_servers import Server

FIXTURES = Path(__file__).with_name("version_0_1")


def fill_file(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript((FIXTURES / "sqlite.sql").read_text())
    db.close()


def fill_server(client: Any) -> None:
    for key, (kind, entries) in json.loads((FIXTURES / "redis.json").read_text()).items():
        for name, value in entries:
            match kind:
                case "zset":
                    client.zadd(key, {bytes.fromhex(name): value})
                case "hash":
                    client.hset(key, bytes.fromhex(name), value)
                case "stream":
                    client.xadd(key, {"letter": bytes.fromhex(value)}, id=name)


class VersionZeroOne:
    """What it left is taken over. A test's `make` opens a layer on it."""

    def test_every_event_of_version_0_1_is_delivered_once_with_an_id(self, make: Callable[[], ChannelLayer]) -> None:
        async def main() -> None:
            layer = make()
            assert (await layer.waiting("jobs"), await layer.waiting("other")) == (1, 1)
            assert sorted(numbers([one async for one in layer.peek("jobs")])) == [0, 1, 2, 3, 5]
            taken = []
            while some := await layer.take("jobs", 9, lease=60, wait=False):
                taken += some
            assert numbers(taken) == [0, 1, 2, 3, 5]
            # Version 0.1 does not note which handlers had started.
            assert [(one.attempt, one.suspect) for one in taken] == [(1, True)] * 4 + [(1, False)]
            taken += await layer.take("other", 9)
            assert len({one.id for one in taken if one.id}) == 6
            await layer.settle(taken)
            await layer.close()

        asyncio.run(main())

    def test_a_dead_letter_of_version_0_1_is_listed_and_replayed(self, make: Callable[[], ChannelLayer]) -> None:
        async def main() -> None:
            layer = make()
            (letter,) = await layer.dead_letters()
            assert (await layer.counts(["jobs"]))["jobs"].dead == {"failed": 1}
            assert (letter.channel, letter.reason, letter.event, letter.event_id) == ("jobs", "it broke", event(4), "")
            await layer.replay(letter.id)
            assert await layer.dead_letters() == []
            assert (await layer.counts(["jobs"]))["jobs"].dead == {}
            assert 4 in numbers([one async for one in layer.peek("jobs")])
            await layer.close()

        asyncio.run(main())


class TestSQLite(VersionZeroOne):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[[], ChannelLayer]:
        fill_file(tmp_path / "events.db")
        return lambda: open_layer(f"sqlite:///{tmp_path}/events.db", expiry=None)


class TestRedis(VersionZeroOne):
    @pytest.fixture
    def make(self, server: Server) -> Callable[[], ChannelLayer]:
        fill_server(server.client)
        return lambda: RedisChannelLayer([server.url], expiry=None)
