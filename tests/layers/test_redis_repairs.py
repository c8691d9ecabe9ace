"""A damaged record of leases is repaired by the next take: the channel goes on, and every event is delivered."""

import asyncio
import re
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

UNTIL, BATCHES = "asgijobs$until", "asgijobs$batches"


def end_all_leases(client: Any) -> None:
    for ticket, _ in client.zrange(UNTIL, 0, -1, withscores=True):
        client.zadd(UNTIL, {ticket: 1.0})


def tickets(client: Any) -> list[bytes]:
    return [name for name in client.hkeys(BATCHES) if not name.endswith(b":")]


def lose_a_status(client: Any) -> None:
    client.hdel(BATCHES, tickets(client)[0] + b":")
    end_all_leases(client)


def spoil_each_status(client: Any) -> None:
    # Too short a status would hide events.
    for ticket, damaged in zip(tickets(client), [b"0 - 1", b"0 -", b"none", b"0 - 11x"], strict=True):
        client.hset(BATCHES, ticket + b":", damaged)
    end_all_leases(client)


def lose_an_end_and_two_statuses(client: Any) -> None:
    """Both keys have as many entries as each other, but not of the same leases."""
    first, second, third, _ = tickets(client)
    client.zrem(UNTIL, first)
    client.hdel(BATCHES, second + b":", third + b":")
    end_all_leases(client)


def lose_ends(client: Any) -> None:
    client.delete(UNTIL)


def lose_one_end(client: Any) -> None:
    client.zrem(UNTIL, tickets(client)[0])
    end_all_leases(client)


def let_expire(client: Any) -> None:
    client.expire(UNTIL, 1_000)
    client.expire(BATCHES, 2_000)
    end_all_leases(client)


async def take_all(layer: RedisChannelLayer, client: Any) -> list[Delivery]:
    """Take and settle until the server is empty."""
    taken: list[Delivery] = []
    while client.keys("*"):
        some = await layer.take("jobs", 10, lease=0.02, wait=False)
        await layer.settle(some)
        taken += some
    return taken


async def crash(server: Server) -> None:
    """Leave four leases of two events each."""
    crashed = RedisChannelLayer([server.url])
    await crashed.send_many("jobs", [event(number) for number in range(8)])
    for _ in range(4):
        await crashed.take("jobs", 2, lease=1_000.0)
    await crashed.close()


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        (lose_a_status, 1),
        (spoil_each_status, 4),
        (lose_an_end_and_two_statuses, 3),
        (lose_ends, 4),
        (lose_one_end, 1),
        (let_expire, 2),
    ],
)
def test_damaged_leases_are_repaired_and_logged(
    server: Server, said: Said, damage: Callable[[Any], None], faults: int
) -> None:
    async def main() -> list[Delivery]:
        layer = RedisChannelLayer([server.url])
        await crash(server)
        damage(server.client)
        await layer.send("jobs", event(8))
        taken = await take_all(layer, server.client)
        await layer.close()
        return taken

    taken = run(main())
    assert set(numbers(taken)) == set(range(9))
    assert {one.attempt for one in taken} == {1}
    messages = said()
    counts = [re.search(r"repaired (\d+) faults in the leases of channel 'jobs'", message) for message in messages]
    assert sum(int(count[1]) for count in counts if count) == faults
    assert all(counts)
    assert not any(ticket.decode() in message for ticket in tickets(server.client) for message in messages)


def lose_events(client: Any) -> None:
    client.hdel(BATCHES, tickets(client)[0])


def spoil_events(client: Any) -> None:
    client.hset(BATCHES, tickets(client)[0], b"no batch")


@pytest.mark.parametrize("damage", [lose_events, spoil_events])
def test_events_that_are_lost_with_their_lease_are_reported_and_others_go_on(
    server: Server, said: Said, damage: Callable[[Any], None]
) -> None:
    async def main() -> list[Delivery]:
        layer = RedisChannelLayer([server.url])
        await crash(server)
        damage(server.client)
        end_all_leases(server.client)
        taken = await take_all(layer, server.client)
        await layer.close()
        return taken

    assert len(set(numbers(run(main())))) == 6
    [message] = said()
    assert "the events of 1 leases of channel 'jobs' are lost" in message


def test_keys_of_leases_do_not_expire_any_more_after_a_take(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send_many("jobs", [event(1), event(2)])
        await layer.take("jobs", 1, lease=1_000.0)
        server.client.expire(UNTIL, 1_000)
        server.client.expire(BATCHES, 2_000)
        await layer.take("jobs", 1, lease=1_000.0)
        await layer.close()

    run(main())
    assert (server.client.ttl(UNTIL), server.client.ttl(BATCHES)) == (-1, -1)


def test_a_worker_that_waits_repairs_leases_as_soon_as_they_are_deleted(
    server: Server, until: Until, said: Said
) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send("jobs", event(1))
        held = await layer.take("jobs", 1, lease=1_000.0)
        waiting = asyncio.create_task(layer.take("jobs", 1, lease=1_000.0))
        state = await layer._loop_state()
        await until(lambda: state._poller._waiters)
        server.client.delete(UNTIL)
        await until(lambda: server.client.exists(UNTIL))
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
        server.client.delete(UNTIL)
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
        [key] = [key for node in cluster.nodes for key in node.client.keys("*$batches")]
        client = cluster.node_of(key.decode()).client
        client.hdel(key, *[name for name in client.hkeys(key) if name.endswith(b":")])
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
        server.client.hset(BATCHES, tickets(server.client)[0] + b":", "1 ticket")
        seen = [delivery async for delivery in layer.peek("jobs")]
        await layer.close()
        return seen

    assert numbers(run(main())) == [1]


@pytest.mark.parametrize("key", [UNTIL, BATCHES])
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
