"""How often the layer in Redis speaks to its server, and over how many connections: the server itself says so."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from channelmap.asgi import Receive, Scope, Send
from channelmap.errors import ChannelFull
from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer
from channelmap.worker import Timing, Worker

from .conformance import event, numbers
from .redis_servers import Server

Until = Callable[..., Awaitable[None]]


@contextmanager
def commands_of_clients(server: Server) -> Iterator[list[str]]:
    """Note the commands that clients send meanwhile; what a script calls is part of the script."""
    commands: list[str] = []
    with server.client.monitor() as monitor:
        yield commands
        others = {client["addr"] for client in server.connections()}
        server.client.echo("that was all")
        for entry in monitor.listen():
            if entry["command"] == "ECHO that was all":
                return
            if f"{entry['client_address']}:{entry['client_port']}" in others:
                commands.append(entry["command"].split()[0].upper())


def run(server: Server, scenario: Callable[[ChannelLayer], Awaitable[Any]], **options: Any) -> Any:
    """Run a scenario with a layer that has its connections and its scripts already."""

    async def main() -> Any:
        layer = open_layer(server.url, **options)
        try:
            async with asyncio.timeout(20):
                await layer.send("warm-1", event(0))
                layer.send_sync("warm-2", event(0))
                await layer.send_many("warm-3", [event(0)])
                await layer.take("warm-1", 1)
                await layer.take("jobs", 1, wait=False)
                return await scenario(layer)
        finally:
            await layer.close()

    return asyncio.run(main())


async def no_application(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        await receive()


def test_a_send_is_one_command(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        with commands_of_clients(server) as commands:
            for number in range(3):
                await layer.send("jobs", event(number))
        return commands

    assert len(run(server, scenario)) == 3


def test_a_send_without_a_loop_is_one_command(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        with commands_of_clients(server) as commands:
            for number in range(3):
                layer.send_sync("jobs", event(number))
        return commands

    assert len(run(server, scenario)) == 3


def test_a_refused_send_is_one_command(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        await layer.send("jobs", event(0))
        with commands_of_clients(server) as commands, pytest.raises(ChannelFull):
            await layer.send("jobs", event(1))
        return commands

    assert len(run(server, scenario, capacity=1)) == 1


def test_a_hundred_events_are_sent_by_one_command(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        with commands_of_clients(server) as commands:
            await layer.send_many("jobs", [event(number) for number in range(100)])
        assert await layer.waiting("jobs") == 100
        return commands

    assert len(run(server, scenario, capacity=100)) == 1


def test_a_batch_is_taken_by_one_command(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        await layer.send_many("jobs", [event(number) for number in range(60)])
        with commands_of_clients(server) as commands:
            assert numbers(await layer.take("jobs", 50)) == list(range(50))
            assert numbers(await layer.take("jobs", 50)) == list(range(50, 60))
        return commands

    assert len(run(server, scenario)) == 2


def test_an_event_for_one_who_waits_costs_one_command_on_each_side(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        with commands_of_clients(server) as commands:
            taking = asyncio.create_task(layer.take("jobs", 50))
            while not await asyncio.to_thread(server.blocked):
                pass
            await layer.send("jobs", event(1))
            assert numbers(await taking) == [1]
        return commands

    assert len(run(server, scenario)) == 2


def test_an_idle_worker_sends_at_most_one_command_for_a_channel_in_five_seconds(server: Server) -> None:
    channels = ["one", "two", "three"]

    async def scenario(layer: ChannelLayer) -> list[str]:
        # Without heartbeats, which cost one command every five seconds, for all channels, and one for new totals.
        worker = Worker(no_application, channels, layer, timing=Timing(heartbeat=1e9))
        serving = asyncio.ensure_future(worker.serve())
        while not await asyncio.to_thread(server.blocked):
            pass
        await layer.send_many("three", [event(1)])
        while await layer.waiting("three"):
            pass
        assert isinstance(layer, RedisChannelLayer)
        (pop,) = (await layer._loop_state())._pops.values()
        while len(pop._named) < len(channels) or not await asyncio.to_thread(server.blocked):
            await asyncio.sleep(0)
        with commands_of_clients(server) as commands:
            # The interval is the thing that is measured.
            await asyncio.to_thread(threading.Event().wait, 5)
        worker.stop(5)
        await serving
        return commands

    assert len(run(server, scenario)) <= len(channels)


def test_a_take_that_is_cancelled_leaves_nobody_waiting_at_the_server(server: Server, until: Until) -> None:
    async def scenario(layer: ChannelLayer) -> list[int]:
        for _ in range(5):
            taking = asyncio.create_task(layer.take("jobs", 1))
            while not await asyncio.to_thread(server.blocked):
                pass
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
        await layer.send("jobs", event(1))
        return numbers(await layer.take("jobs", 1))

    assert run(server, scenario) == [1]
    assert server.blocked() == 0


def test_sends_that_are_gathered_go_over_one_connection_and_keep_their_order(server: Server) -> None:
    async def main() -> list[int]:
        layer = open_layer(server.url, capacity=1_000)
        before = server.client.info("stats")["total_connections_received"]
        await asyncio.gather(*(layer.send("jobs", event(number)) for number in range(1_000)))
        assert server.client.info("stats")["total_connections_received"] == before + 1
        taken = numbers(await layer.take("jobs", 1_000))
        await layer.close()
        return taken

    assert asyncio.run(main()) == list(range(1_000))


def test_each_of_the_gathered_sends_gets_its_own_answer(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[type]:
        calls = [layer.send("jobs", event(number)) for number in range(5)]
        bad: Any = {"type": "job", "value": {1, 2}}
        answers = await asyncio.gather(*calls, layer.send("jobs", bad), return_exceptions=True)
        return [type(answer).__name__ for answer in answers]  # type: ignore[misc]

    expected = ["str"] * 3 + ["ChannelFull"] * 2 + ["EventRejected"]
    assert run(server, scenario, capacity=3) == expected


@pytest.mark.parametrize("step", [-3_600, 0, 3_600])
def test_the_order_of_one_sender_is_kept_when_its_clock_stands_still(
    server: Server, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    now = time.time() + step

    async def scenario(layer: ChannelLayer) -> list[int]:
        monkeypatch.setattr(time, "time", lambda: now)
        for number in range(100):
            await layer.send("jobs", event(number))
        await asyncio.gather(*(layer.send("jobs", event(number)) for number in range(100, 200)))
        await layer.send_many("jobs", [event(number) for number in range(200, 300)])
        for number in range(300, 400):
            layer.send_sync("jobs", event(number))
        monkeypatch.undo()
        scores = [score for _, score in server.client.zrange("asgijobs", 0, -1, withscores=True)]
        assert len(set(scores)) == 400
        return numbers(await layer.take("jobs", 400))

    assert run(server, scenario, capacity=400) == list(range(400))


def test_a_take_that_waits_for_the_end_of_a_lease_asks_no_more_than_it_must(server: Server) -> None:
    async def scenario(layer: ChannelLayer) -> list[str]:
        await layer.send("jobs", event(1))
        await layer.take("jobs", 1, lease=0.5)
        with commands_of_clients(server) as commands:
            assert numbers(await layer.take("jobs", 1, lease=60)) == [1]
        return [command for command in commands if command == "EVALSHA"]

    # Before it watches, behind that, and when the lease has ended, perhaps a moment too early.
    assert 2 <= len(run(server, scenario)) <= 4
