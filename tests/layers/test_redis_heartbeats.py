"""Heartbeats and counts in Redis: few commands, keys that go by themselves, and what others do on the server."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis

from channelmap.errors import LayerUnavailable
from channelmap.layer import ChannelLayer
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event
from .conformance.heartbeats import OTHER, WORKER, bury, listed, totals
from .redis_drill import run
from .redis_servers import Cluster, Relay, Server, wait_for

StartServer = Callable[..., Server]


async def dead(layer: ChannelLayer) -> dict[str, int]:
    return dict((await layer.counts(["jobs"]))["jobs"].dead)


def test_the_list_of_workers_goes_by_itself_and_totals_stay(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.heartbeat(WORKER, {"jobs": {"handled": 1}, "mail": {}}, 1)
        await layer.close()

    run(main())
    kept = {key.decode(): server.client.ttl(key) for key in server.client.keys("*")}
    assert {key for key, ttl in kept.items() if ttl == -1} == {"asgijobs$totals"}
    assert {key for key, ttl in kept.items() if 15 <= ttl <= 16} == {"asgi$workers", "asgi$workers$seen"}
    assert len(kept) == 3


def test_a_worker_that_was_not_heard_of_leaves_nothing_behind(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.heartbeat(WORKER, {}, 1)
        server.client.zincrby("asgi$workers$seen", -20, WORKER.id)
        await layer.heartbeat(OTHER, {}, 1)
        await layer.close()

    run(main())
    assert server.client.hkeys("asgi$workers") == [OTHER.id.encode()]
    assert server.client.zrange("asgi$workers$seen", 0, -1) == [OTHER.id.encode()]


def test_a_heartbeat_names_at_most_five_hundred_channels_in_a_command(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.heartbeat(WORKER, {"warm": {"handled": 1}}, 1)
        server.client.config_resetstat()
        await layer.heartbeat(WORKER, {f"channel-{number}": {"handled": 1} for number in range(1_001)}, 2)
        await layer.close()

    run(main())
    assert server.calls()["evalsha"] == 3 + 1
    assert len(server.client.keys("*$totals")) == 1_002


def test_a_heartbeat_whose_answer_is_lost_is_repeated_and_adds_once(server: Server) -> None:
    async def main(relay: Relay) -> dict[str, int]:
        layer = RedisChannelLayer([relay.url])
        for number in range(1, 4):
            relay.lose_answer = True
            with pytest.raises(LayerUnavailable):
                await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, number)
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, number)
        found = await totals(layer)
        await layer.close()
        return found

    with Relay(server).running() as relay:
        assert run(main(relay)) == {"handled": 3}


def test_a_host_that_is_lost_gets_its_part_when_the_heartbeat_is_repeated(
    server: Server, start_server: StartServer
) -> None:
    lost = start_server("--appendonly", "yes", "--appendfsync", "always")
    channels = [f"channel-{number}" for number in range(20)]
    added = {channel: {"handled": 1} for channel in channels}

    async def main() -> list[dict[str, int]]:
        layer = RedisChannelLayer([server.url, lost.url])
        assert len({layer._queues.home(channel)[0] for channel in channels}) == 2
        await layer.heartbeat(WORKER, added, 1)
        lost.kill()
        for _ in range(2):
            with pytest.raises(LayerUnavailable):
                await layer.heartbeat(replace(WORKER, in_flight={"mail": 1}), added, 2)
        # The other host knows it.
        (found,) = await layer.workers()
        assert found.in_flight == {"mail": 1}
        server.client.delete("asgi$workers", "asgi$workers$seen")
        assert await layer.workers() == []
        await asyncio.to_thread(lost.start)
        await layer.heartbeat(WORKER, added, 2)
        found_totals = [await totals(layer, channel) for channel in channels]
        await layer.close()
        return found_totals

    assert run(main()) == [{"handled": 2}] * len(channels)


def test_a_worker_was_seen_when_the_last_host_heard_of_it(server: Server, start_server: StartServer) -> None:
    servers = [server, start_server()]

    async def main() -> list[float]:
        layer = RedisChannelLayer([one.url for one in servers])
        found = []
        for number, one in enumerate(servers, start=1):
            await layer.heartbeat(WORKER, {}, number)
            one.client.zincrby("asgi$workers$seen", -10, WORKER.id)
            found += [worker.seen for worker in await layer.workers()]
        await layer.close()
        return found

    assert [seen < 5 for seen in run(main())] == [True, True]


def test_without_any_host_the_workers_are_not_told(start_server: StartServer) -> None:
    servers = [start_server(), start_server()]

    async def main() -> None:
        layer = RedisChannelLayer([one.url for one in servers])
        for one in servers:
            one.kill()
        with pytest.raises(LayerUnavailable):
            await layer.workers()
        await layer.close()

    run(main())


def test_a_full_server_takes_heartbeats_and_a_purge(start_server: StartServer) -> None:
    server = start_server("--save", "", "--maxmemory-policy", "noeviction")

    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send("jobs", event(1))
        server.client.config_set("maxmemory", 1)
        await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
        assert (await listed(layer), await totals(layer)) == ([WORKER.id], {"handled": 1})
        assert (await layer.purge("jobs")).waiting == 1
        await layer.close()

    run(main())


def test_a_forked_process_is_a_worker_of_its_own(server: Server) -> None:
    layer = RedisChannelLayer([server.url])

    async def beat(worker: Any, number: int) -> list[str]:
        await layer.heartbeat(worker, {"jobs": {"handled": 1}}, number)
        found = await listed(layer)
        await layer.close()
        return found

    assert asyncio.run(beat(WORKER, 1)) == [WORKER.id]
    child = os.fork()
    if child == 0:
        is_wrong = 1
        try:
            is_wrong = asyncio.run(beat(OTHER, 1)) != [WORKER.id, OTHER.id]
        finally:
            os._exit(is_wrong)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(beat(WORKER, 2)) == [WORKER.id, OTHER.id]
    assert server.client.hget("asgijobs$totals", "t:handled") == b"3"


def test_another_layer_whose_prefix_begins_with_ours_has_workers_of_its_own(server: Server) -> None:
    async def main() -> None:
        ours, theirs = RedisChannelLayer([server.url]), RedisChannelLayer([server.url], prefix="asgi2")
        await ours.heartbeat(WORKER, {"2jobs": {"handled": 1}}, 1)
        await theirs.heartbeat(OTHER, {"jobs": {"failed": 1}}, 1)
        assert (await listed(ours), await listed(theirs)) == ([WORKER.id], [OTHER.id])
        for layer in (ours, theirs):
            assert [one async for one in layer.peek("jobs")] == []
            assert await layer.dead_letters() == []
            await layer.close()

    run(main())


def test_counting_only_reads(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
        await layer.send("jobs", event(1))
        await bury(layer, "failed")
        # As after a letter of version 0.1: all letters are read.
        server.client.delete("asgijobs$codes")
        before = {key: server.client.dump(key) for key in server.client.keys("*")}
        server.client.config_resetstat()
        await layer.counts(["jobs"])
        await layer.workers()
        calls = set(server.calls()) - {"config|resetstat", "info", "eval", "evalsha"}
        assert calls == {
            "time", "zcard", "zrange", "hgetall", "xlen", "xrange", "exists", "hget"
        }  # fmt: skip
        assert {key: server.client.dump(key) for key in server.client.keys("*")} == before
        await layer.close()

    run(main())


class TestLettersOfOthers:
    """Version 0.1 adds and deletes letters without counting them."""

    @pytest.mark.parametrize("keys", [None, ["secret"]])
    def test_a_letter_that_was_written_without_its_code_is_counted_by_it(self, server: Server, keys: Any) -> None:
        async def main() -> list[dict[str, int]]:
            layer = RedisChannelLayer([server.url], symmetric_encryption_keys=keys)
            await bury(layer, "failed", "invalid", "failed")
            older = [entry[b"letter"] for _, entry in server.client.xrange("asgijobs$dead")]
            server.client.delete("asgijobs$dead", "asgijobs$codes")
            for document in older:
                server.client.xadd("asgijobs$dead", {"letter": document})
            found = [await dead(layer)]
            await bury(layer, "invalid")
            found.append(await dead(layer))
            for one in await layer.dead_letters():
                await layer.drop(one.id)
            found.append(await dead(layer))
            await layer.close()
            return found

        assert run(main()) == [{"failed": 2, "invalid": 1}, {"failed": 2, "invalid": 2}, {}]
        assert server.client.keys() == []

    def test_letters_that_others_delete_are_not_counted(self, server: Server) -> None:
        async def main() -> list[dict[str, int]]:
            layer = RedisChannelLayer([server.url], capacity=1_000)
            await bury(layer, *["failed"] * 450, *["invalid"] * 5)
            entries = server.client.xrange("asgijobs$dead")
            server.client.xdel("asgijobs$dead", *[id_ for id_, _ in entries[40:240]])
            found = [await dead(layer)]
            await bury(layer, "unreadable")
            found.append(await dead(layer))
            await layer.close()
            return found

        assert run(main()) == [{"failed": 250, "invalid": 5}, {"failed": 250, "invalid": 5, "unreadable": 1}]
        counted = {code: int(count) for code, count in server.client.hgetall("asgijobs$codes").items()}
        assert counted == {b"failed": 250, b"invalid": 5, b"unreadable": 1}

    def test_letters_that_are_counted_are_not_read_to_count_them(self, server: Server) -> None:
        """A hundred letters are read with one command."""

        def reads() -> int:
            calls = server.calls().get("xrange", 0)
            server.client.config_resetstat()
            return calls

        async def main() -> None:
            layer = RedisChannelLayer([server.url], capacity=1_000, dead_letters=240)
            await bury(layer, *["failed"] * 240)
            first, second, *_ = await layer.dead_letters()
            reads()
            # Those beyond the limit are read, and those that are too old.
            await bury(layer, *["invalid"] * 20)
            assert reads() == 2
            first, second, *_ = await layer.dead_letters()
            reads()
            await layer.drop(first.id)
            assert reads() == 1
            # A replay reads the letter before.
            await layer.replay(second.id)
            assert reads() == 2
            assert await dead(layer) == {"failed": 218, "invalid": 20}
            assert reads() == 0
            await layer.close()

        run(main())

    def test_the_numbers_live_as_long_as_the_letters(self, server: Server) -> None:
        async def main() -> None:
            layer = RedisChannelLayer([server.url])
            await bury(layer, "failed", "failed")
            kept = server.client.pttl("asgijobs$dead") - server.client.pttl("asgijobs$codes")
            assert abs(kept) < 1_000
            # They are older than thirty days.
            entries = server.client.xrange("asgijobs$dead")
            server.client.delete("asgijobs$dead")
            for number, (_, entry) in enumerate(entries, start=1):
                server.client.xadd("asgijobs$dead", entry, id=f"{number}-0")
            await bury(layer, "invalid")
            assert await dead(layer) == {"invalid": 1}
            assert server.client.hget("asgijobs$codes", "failed") in (None, b"0")
            await layer.close()

        run(main())


@contextmanager
def reader(server: Server, key: str, database: int = 0) -> Iterator[None]:
    """Wait for a key as channels_redis does."""
    client: Any = redis.Redis(port=server.port, db=database)
    connection = client.connection_pool.get_connection()
    before = server.blocked()
    connection.send_command("BZPOPMIN", key, 0)
    wait_for(lambda: server.blocked() > before, "the reader to wait")
    try:
        yield
    finally:
        connection.disconnect()
        client.close()


class TestForeignReaders:
    def test_readers_of_channels_redis_are_counted_while_they_wait(self, server: Server) -> None:
        async def main() -> list[int | None]:
            layer = RedisChannelLayer([server.url])
            takes = [asyncio.create_task(layer.take("jobs", 1, lease=lease)) for lease in (None, 60)]
            await asyncio.to_thread(wait_for, server.blocked, "the take to wait")
            found = [await layer.foreign_readers()]
            with reader(server, "asgijobs"), reader(server, "asgijobs", database=3):
                found.append(await layer.foreign_readers())
            wait_for(lambda: server.blocked() == 1, "the readers to leave")
            # One that has waited in vain does not wait now.
            client = redis.Redis(port=server.port)
            client.bzpopmin("asgijobs", 0.01)
            found.append(await layer.foreign_readers())
            client.close()
            await layer.close()
            await asyncio.gather(*takes, return_exceptions=True)
            return found

        assert run(main()) == [0, 1, 0]

    def test_those_on_all_hosts_and_nodes_are_counted(
        self, server: Server, start_server: StartServer, cluster: Cluster
    ) -> None:
        async def count(*hosts: str) -> int | None:
            layer = RedisChannelLayer(hosts)
            found = await layer.foreign_readers()
            await layer.close()
            return found

        other = start_server()
        with reader(server, "asgijobs"), reader(other, "asgijobs"):
            assert run(count(server.url, other.url)) == 2
        key = "{asgi:1}jobs"
        with reader(cluster.node_of(key), key):
            assert run(count(cluster.url)) == 1

    def test_a_user_who_may_not_list_clients_cannot_tell_and_does_the_rest(self, start_server: StartServer) -> None:
        server = start_server()
        server.client.execute_command("ACL", "SETUSER", "worker", "on", ">pass", "~asgi*", "+@all", "-client|list")

        async def main() -> int | None:
            layer = RedisChannelLayer([f"redis://worker:pass@{server.address}/0"])
            await layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1)
            assert (await listed(layer), await totals(layer)) == ([WORKER.id], {"handled": 1})
            found = await layer.foreign_readers()
            await layer.close()
            return found

        assert run(main()) is None

    def test_a_server_that_is_lost_is_said(self, start_server: StartServer) -> None:
        server = start_server()

        async def main() -> None:
            layer = RedisChannelLayer([server.url])
            server.kill()
            with pytest.raises(LayerUnavailable, match="refused"):
                await layer.foreign_readers()
            await layer.close()

        run(main())
