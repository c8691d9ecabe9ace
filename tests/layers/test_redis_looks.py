"""A look into Redis only reads, wherever events lie there."""

import asyncio
from collections.abc import Callable
from typing import Any

from channelmap.layer import ChannelLayer, Delivery
from channelmap.layers import open_layer
from channelmap.layers.packing import pack
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, numbers
from .redis_servers import Server


def member(number: int) -> bytes:
    """Make what channels_redis would put into a queue."""
    return b"%012d" % number + pack("jobs", event(number))


def state(server: Server) -> dict[bytes, Any]:
    """Everything that the server has, and when it goes."""
    keys = server.client.keys()
    return {key: (server.client.dump(key), server.client.pexpiretime(key)) for key in keys}


def look(layer: ChannelLayer) -> list[Delivery]:
    async def main() -> list[Delivery]:
        async with asyncio.timeout(20):
            shown = [delivery async for delivery in layer.peek("jobs")]
        await layer.close()
        return shown

    return asyncio.run(main())


def test_a_look_only_reads_and_leaves_every_key_and_its_time_as_they_are(server: Server) -> None:
    async def fill() -> None:
        layer = open_layer(server.url, expiry=60)
        await layer.send_many("jobs", [event(number) for number in range(4)])
        await layer.take("jobs", 2, lease=0)
        await layer.take("jobs", 2, lease=0)
        await layer.close()

    asyncio.run(fill())
    server.client.zadd("asgijobs$inflight", {member(9): 2e9})
    server.client.zadd("asgijobs", {member(8): 1.5})
    before = state(server)
    server.client.config_resetstat()

    assert numbers(look(open_layer(server.url, expiry=60))) == [1, 0, 2, 3, 9]

    assert set(server.calls()) - {"hello", "config|resetstat", "info"} == {"zrange", "hmget", "time"}
    assert state(server) == before


def test_what_a_reader_of_channels_redis_has_in_hand_is_shown_in_its_place(server: Server) -> None:
    server.client.zadd("asgijobs", {member(1): 1.0, member(3): 3.0})
    server.client.zadd("asgijobs$inflight", {member(0): 0.5, member(2): 2.0})

    assert numbers(look(open_layer(server.url, expiry=None))) == [0, 1, 2, 3]


def test_events_with_the_same_score_are_shown_once_each(server: Server) -> None:
    scores = {member(number): 2.0 for number in range(1, 350)}
    server.client.zadd("asgijobs", {member(0): 1.0, **scores, member(350): 3.0})

    assert numbers(look(open_layer(server.url, expiry=None))) == list(range(351))


def test_what_lies_on_several_hosts_is_shown_oldest_first(server: Server, start_server: Callable[..., Server]) -> None:
    servers = [server, start_server(), start_server()]
    for number in range(250):
        servers[number % 2].client.zadd("asgijobs", {member(number): float(number)})

    layer = RedisChannelLayer(hosts=[one.url for one in servers], expiry=None)
    assert numbers(look(layer)) == list(range(250))
