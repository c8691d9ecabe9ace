"""A network that drops idle connections without a word delays events for seconds; a busy server is waited for."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer
from channelmap.layers.redis import blocking, polling
from channelmap.layers.redis.client import pool

from .conformance import event, numbers
from .redis_drill import run
from .redis_servers import SLOTS, VOLATILE, Relay, Server, free_port, running, wait_for

StartServer = Callable[..., Server]
Said = Callable[[], list[str]]
Until = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def fast_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed so fast that a test need not wait for it; nothing but a ping notices it."""
    monkeypatch.setattr(pool, "PING_SECS", 0.05)
    monkeypatch.setattr(blocking, "BLOCK_SECS", 0.05)
    monkeypatch.setattr(polling, "POLL_SECS", 3_600.0)


class Site(NamedTuple):
    """A server behind a relay, and the URL under which a layer finds it."""

    server: Server
    relay: Relay
    url: str


@pytest.fixture(params=["server", "sentinel", "cluster"])
def site(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> Iterator[Site]:
    in_cluster = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server = start_server(*VOLATILE, *(in_cluster if request.param == "cluster" else ()))
    with Relay(server).running() as relay:
        if request.param == "server":
            yield Site(server, relay, relay.url + "?socket_timeout=1")
        elif request.param == "cluster":
            server.client.config_set("cluster-announce-port", relay.port)
            server.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
            wait_for(lambda: server.client.cluster("info")["cluster_state"] == "ok", "the Cluster")
            yield Site(server, relay, f"redis+cluster://127.0.0.1:{relay.port}?socket_timeout=1")
        else:
            (tmp_path / "sentinel.conf").write_text(f"sentinel monitor main 127.0.0.1 {relay.port} 1\n")
            sentinel = Server(tmp_path / "sentinel", str(tmp_path / "sentinel.conf"), "--sentinel")
            with running(sentinel):
                yield Site(server, relay, f"redis+sentinel://{sentinel.address}/main/0?socket_timeout=1")


async def take(layer: Any, channel: str, lease: float | None, problems: list[str]) -> list[int]:
    """Take as a worker does: once more when the layer fails."""
    while True:
        try:
            return numbers(await layer.take(channel, 1, lease=lease))
        except LayerUnavailable as error:
            problems.append(str(error))


def test_connections_that_fall_silent_are_replaced(site: Site, until: Until, said: Said) -> None:
    async def main() -> None:
        layer: Any = open_layer(site.url)
        sender = open_layer(site.url)
        private = await layer.new_channel()
        problems: dict[str, list[str]] = {"leased": [], "popped": [], private: []}
        taking = {
            channel: asyncio.create_task(take(layer, channel, 30.0 if channel == "leased" else None, told))
            for channel, told in problems.items()
        }
        state = await layer._loop_state()
        await until(lambda: state._poller._waiters)
        await until(lambda: sum(len(pop._takers) for pop in state._pops.values()) == 2)
        await until(lambda: site.server.blocked() == len(state._pops))
        site.relay.silence()
        await sender.send("leased", event(1))
        # An event that is popped over a lost connection is lost, too.
        await until(lambda: problems["popped"] and problems[private])
        await sender.send("popped", event(2))
        await sender.send(private, event(3))
        assert [await task for task in taking.values()] == [[1], [2], [3]]
        assert "did not answer for 1.05 s" in problems["popped"][0]
        await layer.close()
        await sender.close()

    run(main())
    assert said()
    # One that was busy when the others were asked is found later.
    for warning in said():
        assert (
            f"idle connections to 127.0.0.1:{site.relay.port} are lost (the server did not answer for 1 s)" in warning
        )


def test_each_silence_is_logged(server: Server, until: Until, said: Said) -> None:
    async def main(relay: Relay) -> None:
        layer: Any = open_layer(f"{relay.url}?socket_timeout=0.3")
        taking = asyncio.create_task(take(layer, "jobs", 30.0, []))
        state = await layer._loop_state()
        for count in (1, 2):
            await until(lambda: state._poller._waiters)
            relay.silence()
            await until(lambda: len(said()) >= count)  # noqa: B023
            await until(lambda: not state.pool._silent)
        taking.cancel()
        await layer.close()

    with Relay(server).running() as relay:
        run(main(relay))


def test_connections_to_a_busy_server_are_kept(start_server: StartServer, until: Until, said: Said) -> None:
    """It is paused, as by a fork for saving; then it runs a script, and refuses everything else."""
    server = start_server(*VOLATILE, "--busy-reply-threshold", "10")

    def run_script() -> None:
        with redis.Redis(port=server.port) as client, suppress(redis.ResponseError):
            client.eval("while true do end", 0)

    async def main() -> None:
        layer: Any = open_layer(server.url)
        taking = asyncio.create_task(layer.take("jobs", 1, lease=30.0))
        state = await layer._loop_state()
        await until(lambda: state._poller._waiters)
        connections = dict(state.pool._connections)
        assert len(connections) == 2
        server.client.client_pause(500)
        # A ping is under way, and then answered.
        await until(lambda: not any(connection.idle for connection in connections.values()))
        await until(lambda: all(connection.idle for connection in connections.values()))
        heard = state.loop.time()
        script = threading.Thread(target=run_script)
        script.start()
        await until(lambda: all(connection._heard > heard + 0.2 for connection in connections.values()))
        server.client.script_kill()
        script.join()
        await layer.send("jobs", event(1))
        assert numbers(await taking) == [1]
        assert state.pool._connections == connections
        await layer.close()

    run(main())
    assert said() == []
