"""A server that version 0.1 shares: its leases are taken over, and it meets nothing that it cannot read."""

from msgpack import unpackb  # type: ignore[import-untyped]  # msgpack ships no types

from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, letter, numbers
from .redis_drill import run
from .redis_servers import Server

LEASES, LEASED = "asgijobs$leases", "asgijobs$leased"


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


def test_under_the_keys_of_version_0_1_there_is_nothing_that_it_cannot_read(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send_many("jobs", [event(number) for number in range(8)])
        await layer.take("jobs", 5, lease=0.0)
        suspects = [one for _ in range(5) for one in await layer.take("jobs", 1, lease=60.0)]
        await layer.begin(suspects[1])
        await layer.give_back(suspects[3:4])
        await layer.retry(suspects[4], 60)
        await layer.take("jobs", 1, lease=60.0)
        first, second = await layer.take("jobs", 2, lease=60.0)
        await layer.renew([first], 60)
        await layer.bury(second, letter("jobs", 6))
        await layer.close()

    run(main())
    assert {key.decode() for key in server.client.keys("*")} == {
        "asgijobs", "asgijobs$until", "asgijobs$batches", "asgijobs$scheduled", "asgijobs$dead", "asgijobs$codes"
    }  # fmt: skip
    [(_, fields)] = server.client.xrange("asgijobs$dead")
    # Version 0.1 reads the first value of an entry, and each key of it becomes a field.
    assert next(iter(fields)) == b"letter"
    assert set(unpackb(fields[b"letter"])) == {
        "channel", "code", "reason", "body", "violations", "traceback", "attempts", "sent", "died", "kept"
    }  # fmt: skip


def test_a_letter_is_kept_once_when_its_burial_is_repeated_since_the_reply_was_lost(server: Server) -> None:
    async def main() -> list[list[int]]:
        layer = RedisChannelLayer([server.url])
        await layer.send_many("jobs", [event(number) for number in range(1, 5)])
        first, second, third, fourth = await layer.take("jobs", 4, lease=60.0)
        # The second has a lease of its own from now on.
        await layer.renew([second], 60.0)
        for buried in ([first, second], [first, second, third], [fourth], [fourth]):
            await layer.bury_many([(one, letter("jobs", *numbers([one]))) for one in buried])
        kept = [one.event["id"] for one in await layer.dead_letters("jobs") if one.event]
        left = [one async for one in layer.peek("jobs")]
        await layer.close()
        return [kept, numbers(left)]

    assert run(main()) == [[1, 2, 3, 4], []]
