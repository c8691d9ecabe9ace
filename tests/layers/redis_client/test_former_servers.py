"""No connection to the former master of a service is kept."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.layers.redis import RedisChannelLayer
from tests.layers.conformance import event, numbers
from tests.layers.redis_drill import run
from tests.layers.redis_servers import Server, running, wait_for

StartServer = Callable[..., Server]
Until = Callable[..., Awaitable[None]]
SERVICE = "mymaster"


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "sentinel.conf").write_text("")
    server = Server(tmp_path / "sentinel", str(tmp_path / "sentinel.conf"), "--sentinel")
    with running(server):
        yield server


def move(sentinel: Server, old: Server | None, new: Server) -> None:
    """Let the Sentinel name another server; the old one is a replica from now on."""
    if old is not None:
        old.client.replicaof("127.0.0.1", new.port)
        sentinel.client.sentinel_remove(SERVICE)
    sentinel.client.sentinel_monitor(SERVICE, "127.0.0.1", new.port, 1)


def of_layers(server: Server) -> list[dict[str, Any]]:
    """The server's clients, without the tests' own, Sentinels and replication."""
    return [one for one in server.connections() if not one["name"] and not set(one["flags"]) & {"M", "S"}]


def wait_until_left(servers: list[Server]) -> None:
    wait_for(lambda: not any(of_layers(server) for server in servers), "the connections to be closed")


def test_an_event_loop_keeps_no_connection_to_where_a_service_was(
    sentinel: Server, start_server: StartServer, until: Until
) -> None:
    servers = [start_server() for _ in range(6)]

    async def main() -> None:
        layer = RedisChannelLayer([f"redis+sentinel://{sentinel.address}/{SERVICE}/0"])
        state = await layer._loop_state()
        for number, (old, new) in enumerate(zip([None, *servers], servers, strict=False)):
            await asyncio.to_thread(move, sentinel, old, new)
            taking = [layer.take("popped", 1), layer.take("leased", 1, lease=30.0)]
            tasks = [asyncio.ensure_future(one) for one in taking]
            await until(lambda: state._poller._waiters)
            await asyncio.to_thread(wait_for, new.blocked, "a take to wait")
            await layer.send("popped", event(number))
            await layer.send("leased", event(number))
            assert [numbers(await task) for task in tasks] == [[number], [number]]
        await asyncio.to_thread(wait_until_left, servers[:-1])
        assert len(state.pool._connections) <= 3
        await layer.close()

    run(main())


def test_a_service_that_is_forgotten_as_its_look_up_ends_is_looked_up_once_more(
    sentinel: Server, start_server: StartServer
) -> None:
    """Who asks between the end of a look-up and the turn in which others hear of it must not wait for that one."""
    server = start_server()
    move(sentinel, None, server)

    async def main() -> None:
        layer = RedisChannelLayer([f"redis+sentinel://{sentinel.address}/{SERVICE}/0"])
        pool = (await layer._loop_state()).pool
        topology = layer._queues.topologies[0]
        first = asyncio.ensure_future(pool.connection(topology, "asgijobs"))
        while not pool._finding:
            await asyncio.sleep(0)
        [finding] = pool._finding.values()
        while not finding.done():
            await asyncio.sleep(0)
        topology.forget()
        assert await pool.connection(topology, "asgijobs") is await first
        await layer.close()

    def give_up(*_: object) -> None:
        raise TimeoutError("the event loop does not turn")

    # An event loop that spins hears only signals.
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        run(main())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_threads_keep_no_connection_to_where_a_service_was(sentinel: Server, start_server: StartServer) -> None:
    servers = [start_server() for _ in range(6)]
    layer = RedisChannelLayer([f"redis+sentinel://{sentinel.address}/{SERVICE}/0"])
    for number, (old, new) in enumerate(zip([None, *servers], servers, strict=False)):
        move(sentinel, old, new)
        layer.send_sync("jobs", event(number))
        assert new.client.zcard("asgijobs") == 1
        new.client.flushall()
    wait_until_left(servers[:-1])
    assert len(of_layers(servers[-1])) == 1
    asyncio.run(layer.close())
    wait_until_left(servers)
