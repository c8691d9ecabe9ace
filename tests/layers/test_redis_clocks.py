"""The server's clock decides; what a sender's clock says is held within a few seconds of it."""

import asyncio
import time

import pytest

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.packing import pack
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, letter, numbers
from .conformance.clocks import HOUR, STEPS, wall_clock
from .redis_drill import run
from .redis_servers import Relay, Server


def scores(server: Server, key: str = "asgijobs") -> list[float]:
    return [score for _, score in server.client.zrange(key, 0, -1, withscores=True)]


async def send_everyhow(layer: ChannelLayer) -> None:
    await layer.send("jobs", event(1))
    await asyncio.gather(*(layer.send("jobs", event(number)) for number in (2, 3)))
    await layer.send_many("jobs", [event(4), event(5)])
    layer.send_sync("jobs", event(6))
    await layer.group_add("group", "jobs")
    await layer.group_send("group", event(7))
    (planted,) = await layer.dead_letters("jobs")
    await layer.replay(planted.id)


@STEPS
def test_the_time_of_an_event_is_the_servers_within_seconds_whatever_its_sender_says(
    server: Server, step: float
) -> None:
    async def main() -> None:
        layer = open_layer(server.url)
        await layer.send("jobs", event(8))
        (taken,) = await layer.take("jobs", 1)
        await layer.bury(taken, letter("jobs", 8))
        with wall_clock() as turn:
            turn(step)
            await send_everyhow(layer)
        await layer.close()

    run(main())

    assert len(scores(server)) == 8
    assert all(abs(score - time.time()) < 60 for score in scores(server))


@STEPS
def test_a_clock_that_is_put_right_between_two_events_does_not_change_their_order(server: Server, step: float) -> None:
    async def main() -> list[int]:
        layer = open_layer(server.url)
        with wall_clock() as turn:
            for number in range(20):
                turn(number % 2 * step)
                await layer.send("jobs", event(number))
        taken = await layer.take("jobs", 20)
        await layer.close()
        return numbers(taken)

    assert run(main()) == list(range(20))


def test_a_clock_that_is_right_to_a_second_is_believed(server: Server) -> None:
    async def main() -> float:
        layer = open_layer(server.url)
        with wall_clock() as turn:
            turn(-1)
            now = time.time()
            await layer.send("jobs", event(1))
            await layer.close()
            return now

    before = run(main())
    (score,) = scores(server)
    assert before <= score < before + 0.9


def test_an_event_of_channels_redis_is_as_old_as_its_sender_says(server: Server) -> None:
    """It writes its own time, which nobody can tell from a long wait."""
    for number, age in enumerate((HOUR, 10.0)):
        body = bytes(12) + pack("jobs", event(number))
        server.client.zadd("asgijobs", {body: time.time() - age})

    async def main() -> list[int]:
        layer = open_layer(server.url, expiry=60)
        taken = await layer.take("jobs", 9)
        await layer.close()
        return numbers(taken)

    assert run(main()) == [1]


def test_the_server_is_not_asked_for_the_time_for_each_event(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        for number in range(100):
            await layer.send("jobs", event(number))
            await layer.take("jobs", 1)
        await layer.close()

    server.client.config_resetstat()
    run(main())

    # Each send asks inside its script; besides, each connection's loop asks once, and so does the upkeep of a channel.
    assert server.calls()["time"] == 100 + 2


def test_an_event_that_seems_too_old_goes_back_when_its_taker_is_cancelled_meanwhile(server: Server) -> None:
    async def main(relay: Relay) -> list[int]:
        layer = RedisChannelLayer([relay.url])
        sender = RedisChannelLayer([server.url])
        await sender.send("jobs", event(1))
        assert await layer.take("others", 1, wait=False) == []
        (state,) = layer._loops.values()
        for topology, (ahead, until) in state._clocks._offsets.items():
            state._clocks._offsets[topology] = ahead + HOUR, until
        server.client.config_resetstat()
        taking = asyncio.create_task(layer.take("jobs", 1, wait=False))
        while "time" not in server.calls():
            await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        taken = await sender.take("jobs", 1, wait=False)
        await layer.close()
        await sender.close()
        return numbers(taken)

    with Relay(server).running() as relay:
        assert run(main(relay)) == [1]
