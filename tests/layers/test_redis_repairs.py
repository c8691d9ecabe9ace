"""A damaged record of leases is repaired by the next take: the channel goes on, and every event is delivered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layer import Delivery
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, numbers
from .redis_drill import run
from .redis_servers import Cluster, Server

Said = Callable[[], list[str]]
Until = Callable[..., Awaitable[None]]

LEASES, LEASED = "asgijobs$leases", "asgijobs$leased"


def end_all_leases(client: Any) -> None:
    for member, _ in client.zrange(LEASES, 0, -1, withscores=True):
        client.zadd(LEASES, {member: 1.0})


def lose_values(client: Any) -> None:
    client.delete(LEASED)
    end_all_leases(client)


def lose_one_value(client: Any) -> None:
    client.hdel(LEASED, client.hkeys(LEASED)[0])
    end_all_leases(client)


def spoil_values(client: Any) -> None:
    damaged = [b"1 ticket 1.0.0", b"1 ticket", b"1 ticket tomorrow", b"one ticket 1.0", b"9" * 400 + b" ticket 1.0"]
    for name, value in zip(client.hkeys(LEASED), damaged, strict=True):
        client.hset(LEASED, name, value)
    end_all_leases(client)


def lose_an_end_and_another_value(client: Any) -> None:
    """Both keys have as many entries, but not of the same events."""
    first, second, *_ = client.hkeys(LEASED)
    client.zrem(LEASES, first)
    client.hdel(LEASED, second)
    end_all_leases(client)


def lose_ends(client: Any) -> None:
    client.delete(LEASES)


def lose_one_end(client: Any) -> None:
    client.zrem(LEASES, client.hkeys(LEASED)[0])
    end_all_leases(client)


def let_expire(client: Any) -> None:
    client.expire(LEASES, 1_000)
    client.expire(LEASED, 2_000)
    end_all_leases(client)


async def take_all(layer: RedisChannelLayer, client: Any) -> list[Delivery]:
    """Take and settle until the server is empty."""
    taken: list[Delivery] = []
    while client.keys("*"):
        some = await layer.take("jobs", 10, lease=0.02, wait=False)
        await layer.settle(some)
        taken += some
    return taken


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        (lose_values, 5),
        (lose_one_value, 1),
        (spoil_values, 5),
        (lose_an_end_and_another_value, 2),
        (lose_ends, 5),
        (lose_one_end, 1),
        (let_expire, 2),
    ],
)
def test_damaged_leases_are_repaired_and_logged_once(
    server: Server, said: Said, damage: Callable[[Any], None], faults: int
) -> None:
    async def main() -> list[Delivery]:
        crashed, layer = RedisChannelLayer([server.url]), RedisChannelLayer([server.url])
        await crashed.send_many("jobs", [event(number) for number in range(5)])
        await crashed.take("jobs", 5, lease=1_000.0)
        await crashed.close()
        damage(server.client)
        await layer.send("jobs", event(5))
        taken = await take_all(layer, server.client)
        await layer.close()
        return taken

    taken = run(main())
    assert set(numbers(taken)) == {0, 1, 2, 3, 4, 5}
    assert {one.attempt for one in taken} == {1}
    [message] = said()
    assert f"repaired {faults} faults in the leases of channel 'jobs'" in message
    assert "ticket" not in message


def test_keys_of_leases_do_not_expire_any_more_after_a_take(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send_many("jobs", [event(1), event(2)])
        await layer.take("jobs", 1, lease=1_000.0)
        server.client.expire(LEASES, 1_000)
        server.client.expire(LEASED, 2_000)
        await layer.take("jobs", 1, lease=1_000.0)
        await layer.close()

    run(main())
    assert (server.client.ttl(LEASES), server.client.ttl(LEASED)) == (-1, -1)


def test_a_worker_that_waits_repairs_leases_as_soon_as_they_are_deleted(
    server: Server, until: Until, said: Said
) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send("jobs", event(1))
        held = await layer.take("jobs", 1, lease=1_000.0)
        waiting = asyncio.create_task(layer.take("jobs", 1, lease=1_000.0))
        here = await layer._here()
        await until(lambda: here._rounds._waiters)
        server.client.delete(LEASES)
        await until(lambda: server.client.exists(LEASES))
        # Its holder lives: the event is not delivered twice.
        await layer.settle(held)
        assert server.client.keys("*") == []
        waiting.cancel()
        await layer.close()

    run(main())
    assert len(said()) == 1


def test_a_layer_that_leases_nothing_delivers_what_is_left_of_leases(server: Server) -> None:
    async def main() -> list[Delivery]:
        crashed, layer = RedisChannelLayer([server.url]), RedisChannelLayer([server.url])
        await crashed.send("jobs", event(1))
        await crashed.take("jobs", 1, lease=1_000.0)
        await crashed.close()
        server.client.delete(LEASES)
        taken = await layer.take("jobs", 1)
        await layer.close()
        return taken

    assert numbers(run(main())) == [1]
    assert server.client.keys("*") == []


def test_damaged_leases_in_a_cluster_are_repaired(cluster: Cluster, said: Said) -> None:
    async def main() -> list[Delivery]:
        layer = RedisChannelLayer([cluster.url])
        await layer.send("jobs", event(1))
        await layer.take("jobs", 1, lease=0.001)
        [key] = [key for node in cluster.nodes for key in node.client.keys("*$leased")]
        cluster.node_of(key.decode()).client.delete(key)
        taken = await layer.take("jobs", 1, lease=1_000.0)
        await layer.close()
        return taken

    assert numbers(run(main())) == [1]
    assert len(said()) == 1


def test_events_with_damaged_leases_can_be_looked_at(server: Server) -> None:
    async def main() -> list[Delivery]:
        layer = RedisChannelLayer([server.url])
        await layer.send("jobs", event(1))
        await layer.take("jobs", 1, lease=1_000.0)
        server.client.hset(LEASED, server.client.hkeys(LEASED)[0], "1 ticket")
        seen = [delivery async for delivery in layer.look("jobs")]
        await layer.close()
        return seen

    assert numbers(run(main())) == [1]


@pytest.mark.parametrize("key", [LEASES, LEASED])
def test_a_take_that_finds_something_else_in_a_key_of_leases_takes_nothing(server: Server, key: str) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send("jobs", event(1))
        server.client.set(key, "no lease")
        with pytest.raises(LayerUnavailable, match="holds something else"):
            await layer.take("jobs", 1, lease=30.0)
        await layer.close()

    run(main())
    assert server.client.zcard("asgijobs") == 1
