"""Commands and scripts over a pool, in an event loop and outside of one, on real servers."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client import CLOSED, ConnectionPool, Script, SyncPool, Topology, Watcher, read_hosts
from tests.layers.redis_drill import run
from tests.layers.redis_servers import Cluster, Relay, Sentinels, Server

StartServer = Callable[..., Server]
#: Returns its key and its argument.
ECHO = Script("return {KEYS[1], ARGV[1]}")
#: Sets a key and returns the old value.
SET = Script("return redis.call('SET', KEYS[1], ARGV[1], 'GET')")


def topology(url: str) -> Topology:
    (read,) = read_hosts([url])
    return read


@pytest.fixture(params=["server", "sentinels", "cluster"])
def anywhere(request: pytest.FixtureRequest) -> Topology:
    """One server, a service of Sentinel and a Cluster."""
    if request.param == "server":
        return topology(request.getfixturevalue("start_server")().url)
    return topology(request.getfixturevalue(request.param).url)


def test_scripts_and_commands_run_where_the_key_is(anywhere: Topology) -> None:
    async def main() -> None:
        pool, sync_pool = ConnectionPool(), SyncPool()
        for number in range(20):
            key = f"key-{number}"
            assert await pool.run(anywhere, SET, [key], number) is None
            assert await asyncio.to_thread(sync_pool.run, anywhere, SET, [key], "new") == str(number).encode()
            assert await pool.call(anywhere, key, "GET", key) == b"new"
        assert sorted(await pool.keys(anywhere, "key-1", "")) == sorted(
            key.encode() for key in ("key-1", *(f"key-{number}" for number in range(10, 20)))
        )
        await pool.delete_all(anywhere, "key-")
        assert await pool.keys(anywhere, "") == []
        await pool.close()
        sync_pool.close()

    run(main())


def test_a_script_that_the_server_does_not_know_is_sent_with_its_text(server: Server) -> None:
    async def main() -> None:
        pool, sync_pool, one = ConnectionPool(), SyncPool(), topology(server.url)
        for _ in range(2):
            server.client.script_flush()
            assert await pool.run(one, ECHO, ["key"], "text") == [b"key", b"text"]
            server.client.script_flush()
            assert await asyncio.to_thread(sync_pool.run, one, ECHO, ["key"], "text") == [b"key", b"text"]
        server.client.config_resetstat()
        await pool.run(one, ECHO, ["key"], "text")
        assert "eval" not in server.calls()
        await pool.close()
        sync_pool.close()

    run(main())


def test_prefix_and_suffix_are_no_patterns(server: Server) -> None:
    names = ["a*b-end", "axb-end", "a?b-end", "a[x]b-end", "a\\b-end", "a^b-end"]

    async def main() -> None:
        pool, one = ConnectionPool(), topology(server.url)
        for name in names:
            await pool.call(one, name, "SET", name, "")
        for name in names:
            assert await pool.keys(one, name[:-4], "-end") == [name.encode()]
            assert await pool.keys(one, "", name) == [name.encode()]
        await pool.delete_all(one, "a*b")
        assert len(await pool.keys(one, "a")) == len(names) - 1
        await pool.close()

    run(main())


def test_concurrent_callers_share_one_connection(server: Server) -> None:
    async def main() -> None:
        pool, one = ConnectionPool(), topology(server.url)
        replies = await asyncio.gather(*[pool.call(one, "key", "ECHO", str(number)) for number in range(200)])
        assert replies == [str(number).encode() for number in range(200)]
        assert len(server.connections()) == 1
        assert await pool.connection(one, "key") is await pool.connection(one, "other")
        assert await pool.connection(one, "key", "subscription") is not await pool.connection(one, "key")
        assert len(server.connections()) == 2
        await pool.close()

    run(main())


def test_a_caller_that_is_cancelled_while_connecting_leaves_the_connection_to_others(server: Server) -> None:
    async def main() -> None:
        pool, one = ConnectionPool(), topology(server.url)
        first = asyncio.ensure_future(pool.call(one, "key", "PING"))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(pool.call(one, "key", "PING"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"PONG"
        assert len(server.connections()) == 1
        await pool.close()

    run(main())


def test_the_next_call_after_a_lost_connection_opens_a_new_one(server: Server) -> None:
    def kill_all() -> None:
        server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def main() -> None:
        pool, sync_pool, one = ConnectionPool(), SyncPool(), topology(server.url)
        for _ in range(3):
            connection = await pool.connection(one, "key")
            assert await pool.call(one, "key", "PING") == b"PONG"
            assert await asyncio.to_thread(sync_pool.run, one, ECHO, ["key"], "") == [b"key", b""]
            kill_all()
            await connection.closed()
        assert await pool.call(one, "key", "PING") == b"PONG"
        await pool.close()
        sync_pool.close()

    run(main())


def test_a_command_whose_answer_is_lost_fails_and_is_not_sent_again(server: Server) -> None:
    async def main(relay: Relay) -> None:
        pool, sync_pool, one = ConnectionPool(), SyncPool(), topology(relay.url)
        increase = Script("return redis.call('INCR', KEYS[1])")
        assert await pool.run(one, increase, ["key"]) == 1
        relay.lose_answer = True
        with pytest.raises(LayerUnavailable, match="the server closed the connection"):
            await pool.run(one, increase, ["key"])
        assert await asyncio.to_thread(sync_pool.run, one, increase, ["key"]) == 3
        relay.lose_answer = True
        with pytest.raises(LayerUnavailable):
            await asyncio.to_thread(sync_pool.run, one, increase, ["key"])
        assert await pool.run(one, increase, ["key"]) == 5
        await pool.close()
        sync_pool.close()

    with Relay(server).running() as relay:
        run(main(relay))


def test_a_server_that_is_down_is_named_with_the_reason(start_server: StartServer) -> None:
    server = start_server()
    server.kill()

    async def main() -> None:
        pool, sync_pool, one = ConnectionPool(), SyncPool(), topology(server.url)
        told = f"{one.url}.*the connection was refused; is the server running\\?"
        for call in (pool.run(one, ECHO, ["key"], ""), pool.call(one, "key", "PING"), pool.keys(one, "")):
            with pytest.raises(LayerUnavailable, match=told):
                await call
        with pytest.raises(LayerUnavailable, match=told):
            await asyncio.to_thread(sync_pool.run, one, ECHO, ["key"], "")
        await asyncio.to_thread(server.start)
        assert await pool.call(one, "key", "PING") == b"PONG"
        await pool.close()

    run(main())


def test_what_is_no_redis_is_said_to_be_none() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        pool = ConnectionPool()
        with pytest.raises(LayerUnavailable, match="the server does not speak the Redis protocol"):
            await pool.call(topology(f"redis://127.0.0.1:{port}"), "key", "PING")
        await pool.close()
        listener.close()

    run(main())


def test_a_closed_pool_refuses(server: Server) -> None:
    async def main() -> None:
        pool, one = ConnectionPool(), topology(server.url)
        await pool.call(one, "key", "PING")
        blocked = (await pool.connection(one, "key", "blocking", block_secs=60)).call("BLPOP", "none", 60)
        await pool.close()
        with pytest.raises(Exception, match=CLOSED):
            await blocked
        with pytest.raises(LayerUnavailable, match=CLOSED):
            await pool.call(one, "key", "PING")

    run(main())


def test_a_service_is_looked_up_once_for_concurrent_callers(
    sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        pool, service = ConnectionPool(), topology(sentinels.url)
        find, found = service.find, []

        def counted(key: str, ask: Any) -> Any:
            found.append(find(key, ask))
            return found[-1]

        monkeypatch.setattr(service, "find", counted)
        await asyncio.gather(*[pool.call(service, f"key-{number}", "PING") for number in range(50)])
        assert [address.port for address in found] == [sentinels.master.port]
        await pool.close()

    run(main())


def test_a_slot_that_has_moved_is_followed(cluster: Cluster) -> None:
    async def main() -> None:
        pool, sync_pool, nodes = ConnectionPool(), SyncPool(), topology(cluster.url)
        await pool.run(nodes, SET, ["moving"], "first")
        await asyncio.to_thread(sync_pool.run, nodes, SET, ["moving"], "first")
        old = cluster.node_of("moving")
        for target in [node for node in cluster.nodes if node is not old] + [old]:
            await asyncio.to_thread(cluster.move, "moving", target)
            assert await pool.call(nodes, "moving", "GET", "moving") == b"first"
            assert await asyncio.to_thread(sync_pool.run, nodes, SET, ["moving"], "first") == b"first"
        await pool.close()
        sync_pool.close()

    run(main())


def test_a_forked_process_uses_no_connection_of_its_parent(server: Server) -> None:
    sync_pool, one = SyncPool(), topology(server.url)
    assert sync_pool.run(one, ECHO, ["key"], "parent") == [b"key", b"parent"]
    child = os.fork()
    if child == 0:
        try:
            os._exit(sync_pool.run(one, ECHO, ["key"], "child") != [b"key", b"child"])
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sync_pool.run(one, ECHO, ["key"], "parent") == [b"key", b"parent"]
    sync_pool.close()


class TestWatcher:
    def test_a_change_by_another_client_is_noticed(self, anywhere: Topology) -> None:
        async def main() -> None:
            pool, other = ConnectionPool(), ConnectionPool()
            watcher = Watcher(pool, anywhere)
            key = anywhere.key("watched", "name")
            first = await watcher.watch([key, key + "$more"])
            assert await watcher.watch([key, key + "$more"]) is first
            await other.call(anywhere, key, "SET", key, "")
            await asyncio.wait_for(first, 10)
            second = await watcher.watch([key, key + "$more"])
            assert second is not first
            await other.call(anywhere, key, "SET", key + "$more", "")
            await asyncio.wait_for(second, 10)
            third = await watcher.watch([key])
            assert not third.done()
            watcher.forget([key])
            assert third.done()
            await pool.close()
            await other.close()

        run(main())

    def test_a_lost_connection_counts_as_a_change(self, server: Server) -> None:
        async def main() -> None:
            pool, one = ConnectionPool(), topology(server.url)
            watcher = Watcher(pool, one)
            change = await watcher.watch(["key"])
            server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.wait_for(change, 10)
            change = await watcher.watch(["key"])
            server.client.set("key", "")
            await asyncio.wait_for(change, 10)
            await pool.close()

        run(main())

    def test_a_watch_that_fails_leaves_no_waiter_behind(self, start_server: StartServer) -> None:
        server = start_server()
        server.kill()

        async def main() -> None:
            pool = ConnectionPool()
            watcher = Watcher(pool, topology(server.url))
            watches: Any = await asyncio.gather(watcher.watch(["key"]), watcher.watch(["key"]), return_exceptions=True)
            # The second one shares the future of the first, which is done.
            assert isinstance(watches[0], Exception)
            assert watches[1].done()
            await pool.close()

        run(main())


def test_nothing_is_logged_without_a_fault(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pool = ConnectionPool()
        await pool.call(topology(server.url), "key", "PING")
        await pool.close()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []
