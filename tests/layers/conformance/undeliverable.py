"""A worker handles the events behind undeliverable ones, and keeps each of those as a dead letter."""

import json
from typing import Any, ClassVar

import msgpack  # type: ignore[import-untyped]
import pytest

from channelmap import AsyncConsumer, Worker
from channelmap.asgi import Event
from channelmap.contract import Channel, EventType
from channelmap.gate import Gate
from channelmap.layer import ChannelLayer, DeadLetter
from channelmap.limits import RetryPolicy, Service

from .suite import Suite, event

GOOD = 20


def nested(levels: int) -> Any:
    """Return nested lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def packed(levels: int) -> bytes:
    """Pack an event of nested lists as other programs do: deeper than channelmap itself can pack it."""
    return msgpack.packb({"type": "job", "id": None})[:-1] + b"\x91" * levels + b"\x01"  # type: ignore[no-any-return]


class Undeliverable(Suite):
    """Undeliverable events of other programs."""

    bodies: ClassVar[list[bytes]] = [
        packed(500),
        packed(1_000),
        packed(5_000),
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb({"type": ["job"], "id": 1}),
        msgpack.packb({"type": "job", "id": b"\x00"}),
        msgpack.packb({"type": "job", "id": 2**64 - 1}),
        msgpack.packb({"type": "job", "id": msgpack.Timestamp(1)}),
        msgpack.packb({"type": "job", "id": float("nan")}),
        b"\x82\xa4type\xa3job\xa2id\xa3\xed\xa0\x80",
    ]
    json_bodies: ClassVar[list[bytes]] = [
        b'{"type": "job", "id": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"type": "job", "id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type": "job", "id": ' + b"9" * 4_000 + b"}",
        b'{"type": "job", "id": 1e400}',
        b'{"type": "job", "id": "\\ud800"}',
        b'{"type": "\\ud800"}',
        b'{"type": "job", "id": 0, "\\ud800": 1}',
        json.dumps([1]).encode(),
        b"\xff",
    ]

    @pytest.mark.parametrize("service", [Service(), Service(retry=RetryPolicy(attempts=1))])
    def test_a_worker_handles_events_behind_undeliverable_ones(self, service: Service) -> None:
        handled: list[int] = []

        class Jobs(AsyncConsumer):
            async def job(self, event: Event) -> None:
                number = event["id"]
                if type(number) is not int or number >= GOOD:
                    raise ValueError(f"not a number of a job: {number}")
                handled.append(number)

        channel = Channel("jobs", "a.Jobs", {"job": EventType("job")})

        async def scenario(layer: ChannelLayer) -> list[DeadLetter]:
            for body in self.bodies:
                await self.plant(layer, body)
            await layer.send_many("jobs", [event(number) for number in range(GOOD)])
            await Worker(Gate(channel, Jobs.as_asgi()), {"jobs": service}, layer, burst=True).serve()
            letters = await layer.dead_letters()
            for letter in letters:
                await layer.replay(letter.id)
            replayed = await layer.take("jobs", 100, wait=False)
            assert [one.body for one in replayed] == [letter.body for letter in letters]
            return letters

        letters = self.run(scenario)
        assert handled == list(range(GOOD))
        assert sorted(letter.body for letter in letters) == sorted(self.bodies)
