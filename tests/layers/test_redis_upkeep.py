"""Channels that are taken from for good: scheduled events come when they are due, and pauses hold, whatever happens."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis import RedisChannelLayer, upkeep

from .conformance import event, numbers, until_blocked
from .redis_drill import run
from .redis_servers import Cluster, Server

Until = Callable[..., Awaitable[None]]


async def taking_from(layer: RedisChannelLayer, until: Until, *channels: str) -> "list[asyncio.Task[list[int]]]":
    """Wait for an event of each channel, and return when the server knows."""

    async def take(channel: str) -> list[int]:
        while True:
            with contextlib.suppress(LayerUnavailable):
                return numbers(await layer.take(channel, 1))
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(take(channel)) for channel in channels]
    state = await layer._loop_state()
    await until(lambda: sum(len(pop._named) for pop in state._pops.values()) == len(channels))
    return tasks


def test_hundreds_of_channels_are_looked_at_with_a_few_commands(server: Server, until: Until) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        names = [f"channel-{number}" for number in range(600)]
        await layer.send("warm", event(0))
        await layer.take("warm", 1)
        server.client.config_resetstat()
        tasks = await taking_from(layer, until, *names)
        calls = server.calls()
        # One for each channel says what readers that crashed have left there; the others ask for all of them.
        assert calls["evalsha"] + calls.get("eval", 0) < len(names) + 20
        await layer.send(names[123], event(1), delay=0.01)
        assert await tasks[123] == [1]
        for task in tasks:
            task.cancel()
        await layer.close()

    run(main())


def test_a_delayed_event_comes_though_all_connections_were_cut(server: Server, until: Until) -> None:
    async def main() -> None:
        layer, sender = RedisChannelLayer([server.url]), RedisChannelLayer([server.url])
        (taking,) = await taking_from(layer, until, "jobs")
        server.client.client_kill_filter(_type="normal", skipme=True)
        await sender.send("jobs", event(1), delay=0.05)
        assert await taking == [1]
        await layer.close()
        await sender.close()

    run(main())


def test_a_delayed_event_comes_though_the_server_was_away_when_it_was_due(
    start_server: Callable[..., Server], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_RETRY_SECS", 0.02)
    server = start_server("--appendonly", "yes", "--appendfsync", "always")

    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        (taking,) = await taking_from(layer, until, "jobs")
        await layer.send("jobs", event(1), delay=0.2)
        server.kill()
        await asyncio.to_thread(server.start)
        assert await taking == [1]
        await layer.close()

    run(main())


def test_an_event_that_comes_while_a_pause_is_told_stays_for_the_time_after_it(server: Server, until: Until) -> None:
    async def main() -> list[int]:
        layer, other = RedisChannelLayer([server.url]), RedisChannelLayer([server.url])
        (taking,) = await taking_from(layer, until, "jobs")
        await other.pause("jobs")
        shards = layer._queues.shards("jobs")
        state = await layer._loop_state()
        await until(lambda: state.upkeep.is_paused(shards))
        # The pop that is under way at the server still names the channel.
        await other.send_many("jobs", [event(1), event(2)])
        await until(lambda: not any(pop._named for pop in state._pops.values()))
        await until(lambda: server.client.zcard("asgijobs") == 2)
        assert not taking.done()
        await other.resume("jobs")
        found = await taking + numbers(await layer.take("jobs", 1))
        await layer.close()
        await other.close()
        return found

    assert run(main()) == [1, 2]


def test_a_user_who_may_not_read_delays_and_pauses_is_told_once(
    server: Server, until: Until, said: Callable[[], list[str]]
) -> None:
    server.client.execute_command("ACL SETUSER worker on >password ~asgijobs ~asgi$wake* +@all")

    async def main() -> None:
        layer = RedisChannelLayer([server.url.replace("://", "://worker:password@")])
        with contextlib.suppress(LayerUnavailable):
            await layer.take("jobs", 1, wait=False)
        await until(said)
        server.client.execute_command("ACL SETUSER worker ~*")
        await until(lambda: len(said()) > 1)
        await layer.close()

    try:
        run(main())
    finally:
        server.client.acl_deluser("worker")
    refused, again = said()
    assert "cannot move delayed events to their queues or notice pauses" in refused
    assert "again" in again
    assert "password" not in refused + again


def test_a_queue_that_holds_something_else_does_not_keep_delayed_events_from_others(
    server: Server, until: Until
) -> None:
    async def main() -> None:
        layer, sender = RedisChannelLayer([server.url]), RedisChannelLayer([server.url])
        bad, good = await taking_from(layer, until, "bad", "good")
        await sender.send("good", event(2), delay=60)
        (entry,) = server.client.zrange("asgigood$scheduled", 0, -1)
        now = time.time()
        with server.client.pipeline() as both_at_once:
            both_at_once.set("asgibad", "no queue").zadd("asgibad$scheduled", {b"1 1.0 member": now})
            both_at_once.zadd("asgigood$scheduled", {entry: now}).execute()
        assert await good == [2]
        assert server.client.ttl("asgibad") == -1
        bad.cancel()
        await layer.close()
        await sender.close()

    run(main())


def test_one_who_waits_for_the_end_of_a_pause_can_be_cancelled_and_hears_of_a_close(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.pause("jobs")
        tasks = [asyncio.ensure_future(layer.take("jobs", 1)) for _ in range(2)]
        state = await layer._loop_state()
        while not state.upkeep._channels or not state.upkeep.is_paused(layer._queues.shards("jobs")):
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait({tasks[0]})
        await until_blocked()
        assert not tasks[1].done()
        await layer.close()
        with pytest.raises(LayerUnavailable, match="closed"):
            await tasks[1]

    run(main())


def test_channels_of_a_cluster_are_looked_after_by_their_slots(cluster: Cluster) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([cluster.url])
        names = [f"channel-{number}" for number in range(20)]
        tasks = [asyncio.ensure_future(layer.take(name, 1)) for name in names]
        for number, name in enumerate(names):
            await layer.send(name, event(number), delay=0.05)
        assert [numbers(await task) for task in tasks] == [[number] for number in range(20)]
        await layer.close()

    run(main())


@contextlib.asynccontextmanager
async def after_a_rollout(server: Server) -> AsyncIterator[tuple[RedisChannelLayer, RedisChannelLayer]]:
    """A layer whose worker takes with leases, and one that has begun to take without, before there were any."""
    leasing, popping = RedisChannelLayer([server.url]), RedisChannelLayer([server.url])
    assert not await popping.take("jobs", 1, wait=False)
    await leasing.send("jobs", event(1))
    yield leasing, popping
    await leasing.close()
    await popping.close()


def test_a_pop_leaves_the_retry_of_another_worker_which_is_taken_as_its_next_attempt(server: Server) -> None:
    async def main() -> None:
        async with after_a_rollout(server) as (leasing, popping):
            (delivery,) = await leasing.take("jobs", 1, lease=30)
            taking = asyncio.ensure_future(popping.take("jobs", 1))
            await leasing.retry(delivery, 0.05)
            assert [(one.event, one.attempt) for one in await taking] == [(event(1), 2)]

    run(main())


def test_a_waiting_pop_gets_the_events_of_a_worker_that_has_crashed(server: Server) -> None:
    async def main() -> None:
        async with after_a_rollout(server) as (leasing, popping):
            await leasing.take("jobs", 1, lease=0.05)
            assert numbers(await popping.take("jobs", 1)) == [1]

    run(main())


def test_a_retry_that_was_scheduled_before_a_pop_began_is_taken_as_its_next_attempt(server: Server) -> None:
    async def main() -> None:
        async with after_a_rollout(server) as (leasing, popping):
            (delivery,) = await leasing.take("jobs", 1, lease=30)
            await leasing.retry(delivery, 0)
            assert [one.attempt for one in await popping.take("jobs", 1)] == [2]

    run(main())


def test_delayed_events_and_pauses_hold_although_another_worker_has_leases(server: Server, until: Until) -> None:
    async def main() -> None:
        async with after_a_rollout(server) as (leasing, popping):
            (delivery,) = await leasing.take("jobs", 1, lease=30)
            taking = asyncio.ensure_future(popping.take("jobs", 1))
            await until(lambda: "jobs" in popping._leasing)
            await leasing.pause("jobs")
            await leasing.send("jobs", event(2), delay=0.01)
            await leasing.retry(delivery, 0)
            assert not await popping.take("jobs", 1, wait=False)
            assert not taking.done()
            await leasing.resume("jobs")
            assert numbers(await taking) in ([1], [2])

    run(main())
