"""Waiting under a lease costs what is leased, however many channels are declared, and no event is missed."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from msgpack import packb  # type: ignore[import-untyped]  # msgpack ships no types

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis import RedisChannelLayer, polling

from .conformance import event, numbers
from .redis_drill import run
from .redis_servers import Cluster, Server

Until = Callable[..., Awaitable[None]]

COUNT = 600


@pytest.fixture
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other so fast that a test need not wait for them."""
    monkeypatch.setattr(polling, "POLL_SECS", 0.2)


@asynccontextmanager
async def idle(server: Server, until: Until, count: int) -> AsyncIterator[list["asyncio.Task[object]"]]:
    """Take from so many empty channels under a lease; all of them wait while the block runs."""
    layer = RedisChannelLayer([server.url])
    taking: list[asyncio.Task[object]] = [
        asyncio.create_task(layer.take(f"channel-{number}", 1, lease=30.0)) for number in range(count)
    ]
    state = await layer._loop_state()
    await until(lambda: len(state._poller._waiters) == count)
    yield taking
    await layer.close()
    results = await asyncio.gather(*taking, return_exceptions=True)
    assert {type(result) for result in results} == {LayerUnavailable}


async def forget_watches(layer: RedisChannelLayer) -> None:
    """Let word of changes be lost."""
    for (_, _, purpose), connection in (await layer._loop_state()).pool._connections.items():
        if purpose == "watch":
            await connection.call("CLIENT", "TRACKING", "OFF")


async def waits(layer: RedisChannelLayer, until: Until) -> None:
    state = await layer._loop_state()
    await until(lambda: state._poller._waiters)


@pytest.mark.usefixtures("fast_polls")
def test_idle_channels_are_looked_at_together(server: Server, until: Until) -> None:
    async def main() -> dict[str, int]:
        async with idle(server, until, COUNT):
            server.client.config_resetstat()
            while (calls := await asyncio.to_thread(server.calls)).get("exists", 0) < 3 * COUNT:
                pass
            return calls

    calls = run(main())
    assert calls["evalsha"] + calls.get("eval", 0) < COUNT / 10
    assert 3 * calls["exists"] == calls["zcount"]
    assert not {"zcard", "zrange", "zpopmin", "zremrangebyscore"} & set(calls)


def test_takers_of_different_channels_wait_for_nothing_in_common(server: Server, until: Until) -> None:
    async def main() -> int:
        async with idle(server, until, 100):
            futures = [one for one in gc.get_objects() if issubclass(type(one), asyncio.Future)]  # wakes no lazy object
            return max(len(future._callbacks or ()) for future in futures)

    assert run(main()) < 10


@pytest.mark.usefixtures("fast_polls")
def test_an_event_of_which_no_word_comes_is_found(server: Server, until: Until) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        taking = [asyncio.create_task(layer.take("jobs", 1, lease=30.0)) for _ in range(2)]
        other = asyncio.create_task(layer.take("other", 1, lease=30.0))
        await waits(layer, until)
        await forget_watches(layer)
        await layer.send("jobs", event(1))
        await until(lambda: any(task.done() for task in taking))
        await layer.send("jobs", event(2))
        assert sorted([numbers(await task) for task in taking]) == [[1], [2]]
        assert not other.done()
        other.cancel()
        await layer.close()

    run(main())


@pytest.mark.usefixtures("fast_polls")
def test_a_lease_that_runs_out_without_a_word_is_found(server: Server, until: Until) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        taking = asyncio.create_task(layer.take("jobs", 1, lease=30.0))
        await waits(layer, until)
        await forget_watches(layer)
        server.client.hset(
            "asgijobs$batches", mapping={"x": packb([[b"an event", "1.0"], 0], use_bin_type=False), "x:": "0 - 1"}
        )
        server.client.zadd("asgijobs$until", {"x": 1.0})
        [delivery] = await taking
        assert (delivery.attempt, delivery.sent) == (1, 1.0)
        await layer.close()

    run(main())


@pytest.mark.usefixtures("fast_polls")
def test_a_key_that_holds_something_else_fails_its_own_taker(server: Server, until: Until) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        bad = asyncio.create_task(layer.take("bad", 1, lease=30.0))
        good = asyncio.create_task(layer.take("good", 1, lease=30.0))
        state = await layer._loop_state()
        await until(lambda: len(state._poller._waiters) == 2)
        await forget_watches(layer)
        server.client.set("asgibad$until", "no queue")
        with pytest.raises(LayerUnavailable, match="holds something else"):
            await bad
        await layer.send("good", event(1))
        assert numbers(await good) == [1]
        await layer.close()

    run(main())


@pytest.mark.usefixtures("fast_polls")
def test_channels_of_a_cluster_are_looked_at_by_slots(cluster: Cluster, until: Until) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([cluster.url])
        taking = [asyncio.create_task(layer.take(f"channel-{number}", 1, lease=30.0)) for number in range(20)]
        state = await layer._loop_state()
        await until(lambda: len(state._poller._waiters) == len(taking))
        await forget_watches(layer)
        for number in range(20):
            await layer.send(f"channel-{number}", event(number))
        assert [numbers(await task) for task in taking] == [[number] for number in range(20)]
        await layer.close()

    run(main())
