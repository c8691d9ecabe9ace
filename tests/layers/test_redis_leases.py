"""Leases on a server that workers of version 0.1 share: each version reads what the other writes."""

import re

from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, numbers
from .redis_drill import run
from .redis_servers import Server

LEASES, LEASED = "asgijobs$leases", "asgijobs$leased"
#: What the scripts of version 0.1 expect.
VERSION_0_1 = re.compile(rb"(\d+) (\S+) (\S+)")


def lease_of_0_1(server: Server, number: int, attempt: int, ticket: str) -> None:
    """Write a lease that has run out, as version 0.1 does."""
    layer = RedisChannelLayer([server.url])
    member = layer._codec.member(layer._codec.body("jobs", event(number)))
    server.client.hset(LEASED, member, f"{attempt} {ticket} {number}.5")
    server.client.zadd(LEASES, {member: float(number)})


def test_leases_of_version_0_1_are_taken_as_not_begun_and_what_it_gave_back_as_before(server: Server) -> None:
    for number, (attempt, ticket) in enumerate([(2, "-"), (1, "0123456789abcdef"), (3, "0123456789abcdef")]):
        lease_of_0_1(server, number, attempt, ticket)

    async def main() -> list[tuple[list[int], int, bool, float]]:
        layer = RedisChannelLayer([server.url])
        taken = [await layer.take("jobs", 9, lease=60.0) for _ in range(3)]
        await layer.close()
        return [(numbers(some), some[0].attempt, some[0].suspect, some[0].sent) for some in taken]

    assert run(main()) == [([0], 3, False, 0.5), ([1], 1, True, 1.5), ([2], 3, True, 2.5)]


def test_version_0_1_can_read_every_lease(server: Server) -> None:
    async def main() -> list[bytes]:
        layer = RedisChannelLayer([server.url])
        await layer.send_many("jobs", [event(number) for number in range(6)])
        await layer.take("jobs", 5, lease=0.0)
        suspects = [one for _ in range(5) for one in await layer.take("jobs", 1, lease=60.0)]
        await layer.begin(suspects[1])
        await layer.begin(suspects[2])
        await layer.give_back(suspects[3:4])
        await layer.retry(suspects[4], 60)
        await layer.take("jobs", 2, lease=60.0)
        await layer.renew(suspects[2:3], 0)
        await layer.take("jobs", 1, lease=60.0)
        await layer.close()
        values: list[bytes] = server.client.hvals(LEASED)
        return values

    parts = [match.groups() for value in run(main()) if (match := VERSION_0_1.fullmatch(value))]
    holders = [re.sub(rb"^[0-9a-f]+", b"T", holder) for _, holder, _ in parts]
    assert sorted(holders) == sorted([b"T+0", b"T+0+begun", b"T+1", b"T+0", b"-"])
    assert all(float(sent) > 1 for _, _, sent in parts)
