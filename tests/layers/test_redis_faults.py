"""What goes wrong with a server is said, costs only what was in hand, and is over when it is over: no restart."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from channelmap.errors import LayerError, LayerUnavailable
from channelmap.layers import open_layer

from .conformance import event, numbers
from .redis_drill import PATIENCE, drill, run
from .redis_servers import DURABLE, Relay, Server

StartServer = Callable[..., Server]
Said = Callable[[], list[str]]
Until = Callable[..., Awaitable[None]]


async def outage(seconds: float) -> None:
    """The server is away for so long: the interval is the drill."""
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("away", [0.2, 2.0])
def test_a_server_killed_under_load_costs_what_was_in_hand(start_server: StartServer, said: Said, away: float) -> None:
    server = start_server(*DURABLE)

    async def main() -> None:
        async with drill(server.url) as this:
            held = [event(number) for number in range(100)]
            await this.layer.send_many("held", held)
            load = asyncio.ensure_future(this.send_until(lambda: server.process is None))
            while len(this.acknowledged) < 300:
                await asyncio.sleep(0)
            server.kill()
            before = this.next_number
            await asyncio.wait_for(load, PATIENCE)
            await outage(away)
            await asyncio.to_thread(server.start)
            await this.go_on()
            await this.all_since(before)

            # Nobody had them in hand, so they are all there.
            assert [delivery.event for delivery in await this.layer.take("held", 1_000)] == held
            assert len(this.handled) == len(set(this.handled))
            # What was in hand is one batch: it lies in one piece, and at the end of what came before.
            lost = this.lost
            assert lost == [number for number in this.acknowledged if lost and lost[0] <= number <= lost[-1]]
            assert len(lost) <= 1_000

    run(main())
    assert any("cannot take events" in message for message in said())
    assert any("the layer is back" in message for message in said())
    assert not any("Traceback" in message for message in said())


def test_a_worker_that_was_there_before_its_server_serves_when_it_comes(start_server: StartServer, said: Said) -> None:
    server = start_server()
    server.kill()

    async def main() -> None:
        async with drill(server.url) as this:
            assert not await this.send()
            await asyncio.to_thread(server.start)
            await this.go_on(1)
            await this.all_since(0)
            assert this.lost == []

    run(main())
    assert any(server.address in message for message in said())


def test_connections_killed_every_fifty_milliseconds_cost_only_what_was_in_hand(start_server: StartServer) -> None:
    server = start_server()

    def kill_all() -> None:
        server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def main() -> None:
        async with drill(server.url) as this:
            await this.go_on(1)
            for _ in range(40):
                kill_all()
                await this.send_for(0.05)
            before = this.next_number
            await this.go_on()
            await this.all_since(before)
            while await this.layer.waiting("jobs"):
                await asyncio.sleep(0.005)

            assert len(this.handled) == len(set(this.handled))
            # A kill can hit the answer to one take.
            runs = [number for number in this.lost if number - 1 not in this.lost]
            assert len(runs) <= 40
            assert len(this.lost) < len(this.acknowledged) / 10

    run(main())


@pytest.mark.parametrize("lease", [None, 60])
def test_a_take_that_does_not_wait_never_takes_a_lost_server_for_an_empty_channel(
    lease: float | None, start_server: StartServer
) -> None:
    """The burst of a worker would end as if everything were handled."""
    server = start_server()

    async def main() -> None:
        layer = open_layer(server.url)
        await layer.send("jobs", event(1))
        server.kill()
        with pytest.raises(LayerUnavailable):
            await layer.take("jobs", 1, lease=lease, wait=False)
        await layer.close()

    asyncio.run(main())


def test_a_paused_server_is_waited_for(start_server: StartServer) -> None:
    server = start_server()

    async def main() -> None:
        async with drill(server.url) as this:
            await this.go_on(1)
            server.client.client_pause(500)
            assert await this.send()
            await this.all_since(0)
            assert this.lost == []

    run(main())


def test_a_sender_does_not_hang_on_a_server_that_does_not_answer(start_server: StartServer) -> None:
    server = start_server()
    assert server.process is not None
    pid = server.process.pid

    async def main() -> None:
        async with drill(server.url) as this:
            await this.go_on(1)
            await this.all_since(0)
            os.kill(pid, signal.SIGSTOP)
            try:
                sync = asyncio.to_thread(this.layer.send_sync, "jobs", event(-1))
                calls = [sync, *(this.send() for _ in range(5))]
                error, *sent = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE)
                assert isinstance(error, LayerUnavailable)
                assert sent == [False] * 5
            finally:
                os.kill(pid, signal.SIGCONT)
            before = this.next_number
            await this.go_on()
            await this.all_since(before)

    run(main())


def test_a_send_whose_answer_is_lost_is_not_sent_again(server: Server) -> None:
    """Nobody knows whether it was sent: whoever sends again himself accepts that it may come twice."""

    async def main(relay: Relay) -> None:
        layer = open_layer(relay.url)
        for send in (layer.send, lambda *event: asyncio.to_thread(layer.send_sync, *event)):
            await send("jobs", event(1))
            relay.lose_answer = True
            with pytest.raises(LayerUnavailable):
                await send("jobs", event(2))
            await send("jobs", event(3))
        taken = numbers(await layer.take("jobs", 9))
        await layer.close()
        assert taken == [1, 2, 3] * 2

    with Relay(server).running() as relay:
        run(main(relay))


def test_a_take_whose_answer_is_lost_costs_that_batch(server: Server) -> None:
    async def main(relay: Relay) -> None:
        layer = open_layer(relay.url)
        await layer.send_many("jobs", [event(number) for number in range(5)])
        assert numbers(await layer.take("jobs", 1)) == [0]
        relay.lose_answer = True
        with pytest.raises(LayerUnavailable):
            await layer.take("jobs", 2)
        assert numbers(await layer.take("jobs", 9)) == [3, 4]
        await layer.close()

    with Relay(server).running() as relay:
        run(main(relay))


def test_a_script_that_was_flushed_is_sent_again(start_server: StartServer, said: Said) -> None:
    server = start_server()

    def flush() -> None:
        server.client.script_flush()
        server.client.function_flush()

    async def main() -> None:
        async with drill(server.url) as this:
            await this.go_on(1)
            flush()
            assert await this.send()
            flush()
            assert all(await asyncio.gather(*(this.send() for _ in range(10))))
            flush()
            this.layer.send_sync("jobs", event(1_000))
            flush()
            await this.layer.send_many("jobs", [event(1_001), event(1_002)])
            this.acknowledged += [1_000, 1_001, 1_002]
            await this.all_since(0)
            assert this.handled == this.acknowledged

    run(main())
    assert said() == []


def test_a_key_of_another_type_is_said_and_the_other_channels_go_on(start_server: StartServer, said: Said) -> None:
    server = start_server()
    server.client.set("asgijobs", "somebody else's")

    async def main() -> None:
        async with drill(server.url, ("jobs", "other")) as this:
            with pytest.raises(LayerError) as caught:
                await this.layer.send("jobs", event(-1))
            assert "a key of the layer holds something else" in str(caught.value)
            with pytest.raises(LayerError):
                this.layer.send_sync("jobs", event(-1))
            while not said():
                await asyncio.sleep(0.005)
            await this.layer.send("other", event(7))
            while this.handled != [7]:
                await asyncio.sleep(0.005)
            assert server.client.get("asgijobs") == b"somebody else's"
            server.client.delete("asgijobs")
            await this.go_on()
            await this.all_since(0)

    run(main())
    assert any("channel 'jobs'" in message for message in said())
    assert not any("channel 'other'" in message for message in said())


def test_a_wrong_password_is_said_without_it_and_a_right_one_goes_on(start_server: StartServer, said: Said) -> None:
    server = start_server(password="right")

    async def main() -> None:
        url = f"redis://someone:opensesame@{server.address}/0".replace("someone", "default")
        async with drill(url) as this:
            assert not await this.send()
            with pytest.raises(LayerUnavailable):
                this.layer.send_sync("jobs", event(-1))
            while not said():
                await asyncio.sleep(0.005)
            server.client.config_set("requirepass", "opensesame")
            await this.go_on()
            await this.all_since(0)
            (refused, *_) = this.refused
            assert server.address in refused
            assert "password" in refused.lower()
            assert "opensesame" not in "".join([*this.refused, repr(this.layer), this.layer.url])

    run(main())
    assert "opensesame" not in "".join(said())


def test_a_server_out_of_memory_refuses_and_what_it_holds_is_still_handled(start_server: StartServer) -> None:
    server = start_server("--save", "", "--maxmemory-policy", "noeviction")

    async def main() -> None:
        async with drill(server.url, ("jobs", "held")) as this:
            await this.go_on(1)
            await this.all_since(0)
            server.client.config_set("maxmemory", 1)
            assert not await this.send()
            with pytest.raises(LayerUnavailable, match=r"(?i)memory"):
                this.layer.send_sync("jobs", event(-1))
            assert "memory" in this.refused[0].lower()
            server.client.config_set("maxmemory", 0)
            await this.go_on()
            await this.all_since(0)
            assert this.lost == []

    run(main())


def test_what_a_full_server_holds_is_taken(start_server: StartServer) -> None:
    server = start_server("--save", "", "--maxmemory-policy", "noeviction")

    async def main() -> None:
        layer = open_layer(server.url)
        await layer.send_many("jobs", [event(number) for number in range(3)])
        server.client.config_set("maxmemory", 1)
        await layer.close()
        async with drill(server.url) as this:
            while this.handled != [0, 1, 2]:
                await asyncio.sleep(0.005)

    run(main())


def test_a_replica_that_may_not_be_written_is_said_and_waited_for(start_server: StartServer, said: Said) -> None:
    server = start_server()

    async def main() -> None:
        async with drill(server.url) as this:
            await this.go_on(1)
            await this.all_since(0)
            server.client.replicaof("127.0.0.1", "1")
            assert not await this.send()
            while not said():
                await asyncio.sleep(0.005)
            server.client.replicaof("no", "one")
            before = this.next_number
            await this.go_on()
            await this.all_since(before)
            assert this.lost == []

    run(main())
    assert any("cannot take events" in message for message in said())


def test_bytes_that_are_no_event_become_a_dead_letter_and_the_worker_goes_on(start_server: StartServer) -> None:
    server = start_server()
    server.client.zadd("asgijobs", dict.fromkeys((b"short", bytes(12) + b"\xc1", bytes(12) + b"\x81\xa4"), time.time()))

    async def main() -> list[str]:
        async with drill(server.url) as this:
            await this.go_on(1)
            await this.all_since(0)
            while len(letters := await this.layer.dead_letters("jobs")) < 3:
                await asyncio.sleep(0.005)
            return [kept.code for kept in letters]

    assert set(run(main())) == {"unreadable"}


def test_a_layer_that_nobody_closed_ends_with_its_loop(
    start_server: StartServer, wait_until: Callable[..., None]
) -> None:
    server = start_server()

    async def main() -> None:
        layer = open_layer(server.url)
        taking = asyncio.ensure_future(layer.take("jobs", 1))
        while not await asyncio.to_thread(server.blocked):
            pass
        taking.cancel()

    run(main())
    wait_until(lambda: not server.connections(), "the connections to be closed")
