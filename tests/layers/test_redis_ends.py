"""How takers, layers and deliveries end: closed, cancelled, given back, forked, or with a host that is silent."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis import RedisChannelLayer, blocking, rows
from channelmap.layers.redis.blocking import Taker

from .conformance import event, numbers
from .redis_servers import Relay, Server

StartServer = Callable[..., Server]


def adopted(layer: RedisChannelLayer, *channels: str) -> None:
    """Spare a take its first trip."""
    for channel in channels:
        layer._adopted.update(layer._queues.shards(channel))


async def let_wait() -> None:
    """A taker comes as far as to wait."""
    await asyncio.sleep(0.2)


@pytest.mark.parametrize("turns", range(6))
def test_closing_ends_a_take_that_joins_meanwhile(server: Server, turns: int) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        first = asyncio.create_task(layer.take("a", 1))
        await let_wait()
        adopted(layer, "b")
        second = asyncio.create_task(layer.take("b", 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(layer.close(), 5)
        done, _ = await asyncio.wait([first, second], timeout=3)
        second.cancel()
        assert done == {first, second}
        assert all(isinstance(task.exception(), LayerUnavailable) for task in done)
        await layer.close()

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(6))
def test_closing_does_not_wait_for_private_channels(server: Server, turns: int) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        first = asyncio.create_task(layer.take("a", 1))
        await let_wait()
        second = asyncio.create_task(layer.take(await layer.new_channel(), 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(layer.close(), 3)
        done, _ = await asyncio.wait([first, second], timeout=3)
        second.cancel()
        assert done == {first, second}
        assert all(isinstance(task.exception(), LayerUnavailable) for task in done)
        await layer.close()

    asyncio.run(main())


def close_elsewhere(layer: RedisChannelLayer) -> None:
    """Close the layer in another thread's event loop; the caller's own loop stands still meanwhile."""
    thread = threading.Thread(target=asyncio.run, args=(layer.close(),))
    thread.start()
    thread.join()


@pytest.mark.parametrize("options", [{}, {"lease": 30.0}], ids=["for good", "lease"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, None], ids=lambda turns: f"turns {turns}")
def test_closing_in_another_event_loop_ends_a_take_that_joins_meanwhile(
    server: Server, turns: int | None, options: dict[str, Any]
) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        first = asyncio.create_task(layer.take("a", 1, **options))
        await let_wait()
        adopted(layer, "b")
        if turns is None:
            close_elsewhere(layer)
        second = asyncio.create_task(layer.take("b", 1, **options))
        if turns is not None:
            for _ in range(turns):
                await asyncio.sleep(0)
            close_elsewhere(layer)
        done, _ = await asyncio.wait([first, second], timeout=5)
        second.cancel()
        assert done == {first, second}
        assert all(isinstance(task.exception(), LayerUnavailable) for task in done)
        await layer.close()

    asyncio.run(main())


def test_closing_in_another_event_loop_ends_takes_of_private_channels(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        first = asyncio.create_task(layer.take(await layer.new_channel(), 1))
        await let_wait()
        close_elsewhere(layer)
        second = asyncio.create_task(layer.take(await layer.new_channel(), 1))
        done, _ = await asyncio.wait([first, second], timeout=5)
        second.cancel()
        assert done == {first, second}
        assert all(isinstance(task.exception(), LayerUnavailable) for task in done)
        await layer.close()

    asyncio.run(main())


def test_a_layer_closed_in_another_event_loop_can_be_used_again(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        taking = asyncio.create_task(layer.take("c", 1))
        await let_wait()
        close_elsewhere(layer)
        await asyncio.wait([taking], timeout=5)
        await asyncio.wait_for(until_forgotten(layer), 5)
        await layer.send("c", event(1))
        assert numbers(await layer.take("c", 1)) == [1]
        await layer.close()
        assert not layer._loops

    async def until_forgotten(layer: RedisChannelLayer) -> None:
        while layer._loops:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_closing_forgets_an_event_loop_that_was_closed_before(server: Server) -> None:
    layer = RedisChannelLayer([server.url])
    loop = asyncio.new_event_loop()
    loop.run_until_complete(layer._loop_state())
    loop.close()
    asyncio.run(layer.close())
    assert not layer._loops


@pytest.mark.parametrize(
    ("options", "waits"),
    [({"wait": False}, False), ({}, True), ({"lease": 30.0}, False)],
    ids=["at once", "blocked", "lease"],
)
def test_a_cancelled_take_is_cancelled_soon_though_the_server_is_silent(
    start_server: StartServer, options: dict[str, Any], *, waits: bool
) -> None:
    server = start_server()
    assert server.process is not None

    async def main(process: int) -> None:
        layer = RedisChannelLayer([server.url])
        await layer.take("a", 1, **{**options, "wait": False})
        if waits:
            taking = asyncio.create_task(layer.take("a", 1, **options))
            await let_wait()
            os.kill(process, signal.SIGSTOP)
        else:
            os.kill(process, signal.SIGSTOP)
            taking = asyncio.create_task(layer.take("a", 1, **options))
            await let_wait()
        start = time.monotonic()
        taking.cancel()
        await asyncio.wait([taking])
        took = time.monotonic() - start
        os.kill(process, signal.SIGCONT)
        await layer.close()
        assert taking.cancelled()
        assert took < 3

    asyncio.run(main(server.process.pid))


def test_giving_back_again_after_a_lost_answer_doubles_nothing(server: Server) -> None:
    async def main(relay: Relay) -> None:
        layer = RedisChannelLayer([relay.url])
        await layer.send_many("c", [event(number) for number in range(3)])
        got = await layer.take("c", 3)
        await layer.give_back(got)
        got = await layer.take("c", 3)
        relay.lose_answer = True
        with pytest.raises(LayerUnavailable):
            await layer.give_back(got)
        await layer.give_back(got)
        assert numbers(await layer.take("c", 99, wait=False)) == [0, 1, 2]
        assert not layer._returns._pending
        await layer.close()

    with Relay(server).running() as relay:
        asyncio.run(main(relay))


def test_one_channel_that_cannot_be_given_back_costs_the_others_nothing(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        private = await layer.new_channel()
        await layer.send("bad", event(9))
        await layer.send_many("c", [event(number) for number in range(3)])
        await layer.send(private, event(5))
        got = [*await layer.take("bad", 1), *await layer.take("c", 3), *await layer.take(private, 1)]
        server.client.set("asgibad", "no queue")
        for _ in range(3):
            with pytest.raises(LayerUnavailable):
                await layer.give_back(got)
        assert numbers(await layer.take("c", 99, wait=False)) == [0, 1, 2]
        [once] = await layer.take(private, 99, wait=False)
        # What is taken again may be given back again.
        await layer.give_back([once])
        assert numbers(await layer.take(private, 99, wait=False)) == [5]
        server.client.delete("asgibad")
        await layer.give_back(got)
        assert numbers(await layer.take("bad", 99, wait=False)) == [9]
        assert not await layer.take("c", 99, wait=False)
        await layer.close()

    asyncio.run(main())


def test_what_comes_back_to_a_full_private_channel_costs_nothing_newer(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url], capacity=2)
        private = await layer.new_channel()
        got = []
        for number in range(2):
            await layer.send(private, event(number))
            got += await layer.take(private, 1)
        for number in range(2, 4):
            await layer.send(private, event(number))
        other = asyncio.create_task(layer.take(await layer.new_channel(), 1))  # fetches for all
        await let_wait()
        await layer.give_back(got)
        assert numbers(await layer.take(private, 99, wait=False)) == [0, 1, 2, 3]
        other.cancel()
        await asyncio.wait([other])
        await layer.close()

    asyncio.run(main())


@pytest.mark.parametrize(("expiry", "left"), [(1, []), (None, [1])])
def test_an_event_expires_in_its_box_too(server: Server, expiry: int | None, left: list[int]) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url], expiry=expiry)
        private = await layer.new_channel()
        other = asyncio.create_task(layer.take(await layer.new_channel(), 1))  # fetches for all
        await let_wait()
        await layer.send(private, event(1))
        await asyncio.sleep(1.2)
        assert numbers(await layer.take(private, 1, wait=False)) == left
        other.cancel()
        await asyncio.wait([other])
        await layer.close()

    asyncio.run(main())


def test_a_forked_process_has_private_channels_of_its_own(server: Server) -> None:
    layer = RedisChannelLayer([server.url])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, layer.client_prefix.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        prefix = told.read()
    assert len(prefix) == len(layer.client_prefix)
    assert prefix != layer.client_prefix


@pytest.mark.parametrize("options", [{}, {"lease": 30.0}], ids=["for good", "lease"])
def test_a_silent_host_is_waited_for_once(start_server: StartServer, options: dict[str, Any]) -> None:
    good, silent = start_server(), start_server()
    assert silent.process is not None

    async def main(process: int) -> None:
        filler, layer = RedisChannelLayer([good.url]), RedisChannelLayer([good.url, silent.url + "?socket_timeout=1"])
        await filler.send_many("c", [event(number) for number in range(6)])
        os.kill(process, signal.SIGSTOP)
        start = time.monotonic()
        got = [number for _ in range(6) for number in numbers(await layer.take("c", 1, **options))]
        took = time.monotonic() - start
        os.kill(process, signal.SIGCONT)
        assert got == list(range(6))
        assert took < 6
        await layer.close()
        await filler.close()

    asyncio.run(main(silent.process.pid))


def test_leases_are_taken_from_each_host_in_its_turn(start_server: StartServer) -> None:
    hosts = [start_server(), start_server()]

    async def main() -> None:
        for host in hosts:
            filler = RedisChannelLayer([host.url])
            await filler.send_many("c", [event(host.port)] * 5)
            await filler.close()
        layer = RedisChannelLayer([host.url for host in hosts])
        got = [number for _ in range(2) for number in numbers(await layer.take("c", 1, lease=30.0))]
        assert sorted(got) == sorted(host.port for host in hosts)
        await layer.close()

    asyncio.run(main())


class Backs:
    """Replaces the return of events: counts the calls, and awaits `first` before the first one."""

    def __init__(self, layer: RedisChannelLayer, first: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self._first: Callable[[], Any] | None = first
        self._really = rows.put_back
        self._url = layer.url
        monkeypatch.setattr(blocking, "put_back", self)

    async def __call__(self, *arguments: Any) -> None:
        self.begun += 1
        if self._first is not None:
            first, self._first = self._first, None
            await first()
        await self._really(*arguments)


async def abandoned(
    layer: RedisChannelLayer, first: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Backs, Any]:
    """Something comes for a taker that has gone without a word, and is to go back."""
    state = await layer._loop_state()
    [(topology, key)] = layer._queues.shards("c")
    pop, taker = state._pop_of(topology, key), Taker(state.loop.create_future(), 1, 60)
    pop.join(key, taker)
    await let_wait()
    pop.leave(key, taker)
    backs = Backs(layer, first, monkeypatch)
    await layer.send("c", event(1))
    await let_wait()
    assert backs.begun == 1
    return backs, pop


def test_a_cancel_does_not_begin_putting_back_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        backs, pop = await abandoned(layer, lambda: asyncio.sleep(0.5), monkeypatch)
        await pop.close(LayerUnavailable(layer.url, "closed"))
        assert backs.begun == 1
        assert server.client.zcard("asgic") == 1
        await layer.close()

    asyncio.run(main())


def test_what_could_not_go_back_is_kept_until_it_can(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])

        async def fail() -> None:
            raise LayerUnavailable(layer.url, "away")

        await abandoned(layer, fail, monkeypatch)
        assert server.client.zcard("asgic") == 0
        await layer.send("other", event(2))
        assert numbers(await layer.take("other", 1)) == [2]
        later = asyncio.create_task(layer.take("other", 1))
        await let_wait()
        assert numbers(await asyncio.wait_for(layer.take("c", 1), 5)) == [1]
        later.cancel()
        await asyncio.wait([later])
        await layer.close()

    asyncio.run(main())
