"""What servers answer is read aright: slowly, in part, under another key, with a detour, and with a password in it."""

import asyncio
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from channelmap.errors import LayerError, LayerUnavailable
from channelmap.layer import letter_for
from channelmap.layers.redis import RedisChannelLayer
from channelmap.layers.redis.client.topology import Address, SentinelService, SingleServer
from channelmap.terms import Limits

from .conformance import event
from .redis_drill import run
from .redis_servers import VOLATILE, Cluster, Relay, Sentinels, Server, free_port, running


def test_an_encrypted_event_lives_as_long_as_its_channel_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"jobs": Limits(100, 3_600.0, 10)}
    now = time.time()

    async def main() -> None:
        layer = RedisChannelLayer([server.url], expiry=1, symmetric_encryption_keys=["key"], limits=limits)
        monkeypatch.setattr(time, "time", lambda: now - 600)
        await layer.send("jobs", event(1))
        monkeypatch.setattr(time, "time", lambda: now)
        assert [taken.event for taken in await layer.take("jobs", 5, wait=False)] == [event(1)]
        await layer.close()

    run(main())


def test_a_password_that_a_refusal_repeats_is_in_no_traceback(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", *VOLATILE, "--rename-command", "HELLO", "GREETINGS")
    # The tests' own client must not say HELLO either.
    server.client = redis.Redis(port=server.port, protocol=2, client_name="tests")

    async def main() -> None:
        layer = RedisChannelLayer([f"redis://user:sEcReT@{server.address}/0"])
        with pytest.raises(LayerUnavailable) as sending:
            await layer.send("jobs", event(1))
        with pytest.raises(LayerUnavailable) as sending_sync:
            await asyncio.to_thread(layer.send_sync, "jobs", event(1))
        with pytest.raises(LayerUnavailable) as flushing:
            await layer.flush()
        await layer.close()
        for caught in (sending, sending_sync, flushing):
            assert "does not know a command" in str(caught.value)
            assert "sEcReT" not in "".join(traceback.format_exception(caught.value))
            problem: BaseException | None = caught.value
            while problem is not None:
                assert "sEcReT" not in str(problem)
                problem = problem.__context__

    with running(server):
        run(main())


def test_a_server_that_answers_steadily_is_not_taken_for_dead(server: Server) -> None:
    async def main(url: str) -> None:
        layer = RedisChannelLayer([{"address": url, "socket_timeout": 1.0}], capacity=10_000)
        await layer.send("warm", event(0))
        # Three megabytes, half of one with each command, over a line that takes one in a second.
        sends = [layer.send("jobs", {**event(n), "text": "x" * 1_000}) for n in range(3_000)]
        started = time.monotonic()
        await asyncio.gather(*sends)
        assert time.monotonic() - started > 1.5
        await layer.close()

    with Relay(server).running() as relay:
        relay.pace = lambda length: asyncio.sleep(length / 1_000_000)
        run(main(relay.url))


def test_what_is_deleted_is_not_asked_for_all_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, most = 0, 0

    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        await layer.send("jobs", event(1))
        pool = next(iter(layer._loops.values())).pool
        call = pool.call

        async def counted(*command: Any) -> Any:
            nonlocal waiting, most
            waiting += 1
            most = max(most, waiting)
            try:
                return await call(*command)
            finally:
                waiting -= 1

        monkeypatch.setattr(pool, "call", counted)
        await layer.flush()
        await layer.close()

    with server.client.pipeline(transaction=False) as pipeline:
        for number in range(10_000):
            pipeline.set(f"asgi{number}", "")
        pipeline.execute()
    run(main())
    assert server.client.dbsize() == 0
    assert 0 < most < 5_000


@contextmanager
def moving(cluster: Cluster, key: str) -> Iterator[Server]:
    """The slot of a key, which is empty, is on its way to another node, but not yet there."""
    old = cluster.node_of(key)
    new = next(node for node in cluster.nodes if node is not old)
    cluster.begin_move(key, new)
    try:
        yield new
    finally:
        cluster.break_off_move(key, new)


def test_a_key_that_is_moving_is_asked_for_where_it_goes(cluster: Cluster) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([cluster.url])
        ((_, key),) = layer._queues.shards("jobs")
        with moving(cluster, key) as new:
            new.client.script_flush()  # it must be asked twice: it does not know the script
            await layer.send("jobs", event(1))
            await asyncio.to_thread(layer.send_sync, "jobs", event(2))
            new.client.script_flush()
            await asyncio.to_thread(layer.send_sync, "jobs", event(3))
            assert await layer.waiting("jobs") == 3
            taken = await layer.take("jobs", 5, wait=False)
        assert [one.event for one in taken] == [event(1), event(2), event(3)]
        await layer.close()

    run(main())


def test_a_node_that_knows_of_no_slots_is_passed_over(cluster: Cluster, tmp_path: Path) -> None:
    alone = Server(tmp_path / "alone", *VOLATILE, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))

    async def main() -> None:
        layer = RedisChannelLayer([f"redis+cluster://{alone.address},{cluster.nodes[0].address}"])
        await layer.send("jobs", event(1))
        await layer.close()
        layer = RedisChannelLayer([f"redis+cluster://{alone.address},{cluster.nodes[0].address}"])
        await layer.flush()
        await layer.close()

    with running(alone):
        run(main())
        # Nor is one asked that has slots, but not the one that is wanted.
        ((_, key),) = RedisChannelLayer([cluster.url])._queues.shards("jobs")
        slot = key_slot(key.encode())
        alone.client.execute_command("CLUSTER ADDSLOTS", slot - 1 if slot else slot + 1)
        run(main())


def test_a_letter_of_another_key_is_listed_and_can_be_dropped(server: Server) -> None:
    async def main() -> None:
        ours, theirs = (RedisChannelLayer([server.url], symmetric_encryption_keys=[key]) for key in ("ours", "theirs"))
        for layer, channel in ((ours, "mine"), (theirs, "foreign")):
            await layer.send(channel, event(1))
            (delivery,) = await layer.take(channel, 1)
            await layer.bury(delivery, letter_for(delivery, "failed", "reason"))

        mine, foreign = sorted(await ours.dead_letters(), key=lambda letter: letter.channel, reverse=True)
        assert (mine.channel, mine.event) == ("mine", event(1))
        assert (foreign.channel, foreign.code, foreign.reason, foreign.event) == (
            "foreign", "unreadable", "cannot be read: another key", None,
        )  # fmt: skip
        assert abs(foreign.died - time.time()) < 60
        with pytest.raises(LayerError, match="cannot be read: another key"):
            await ours.replay(foreign.id)
        assert await ours.dead_letters("foreign") == [foreign]
        await ours.drop(foreign.id)
        assert await ours.dead_letters() == [mine]
        assert await theirs.dead_letters("foreign") == []
        # Nor is it ours when its key begins as ours do.
        other = RedisChannelLayer([server.url], prefix="asgi:other:", symmetric_encryption_keys=["theirs"])
        await other.send("foreign", event(1))
        (delivery,) = await other.take("foreign", 1)
        await other.bury(delivery, letter_for(delivery, "failed", "reason"))
        assert await ours.dead_letters() == [mine]
        for layer in (ours, theirs, other):
            await layer.close()

    run(main())


def test_a_silent_sentinel_is_asked_once_and_holds_up_nobody_else(sentinels: Sentinels) -> None:
    assert sentinels.sentinel.process is not None
    pid = sentinels.sentinel.process.pid

    async def main() -> None:
        layer = RedisChannelLayer([sentinels.url])
        await layer.send("jobs", event(1))
        layer._queues.topologies[0].forget()
        before = threading.active_count()
        os.kill(pid, signal.SIGSTOP)
        try:
            sends = [asyncio.ensure_future(layer.send(f"jobs{number}", event(1))) for number in range(100)]
            await asyncio.sleep(0.2)
            assert threading.active_count() <= before + 1
            started = time.monotonic()
            await asyncio.to_thread(int)
            assert time.monotonic() - started < 0.5
            await asyncio.wait(sends, timeout=5)
            assert all(isinstance(sent.exception(), LayerUnavailable) for sent in sends)
        finally:
            os.kill(pid, signal.SIGCONT)
        await layer.send("jobs", event(2))
        await layer.close()

    run(main())


def test_two_threads_may_look_up_the_master_at_the_same_time() -> None:
    sentinels = [SingleServer(f"sentinel {number}", {}, Address("host", number)) for number in range(2)]
    service = SentinelService("url", {}, "main", sentinels)
    both = threading.Barrier(2, timeout=10)

    class Meeting(list[SingleServer]):
        def remove(self, sentinel: SingleServer) -> None:
            super().remove(sentinel)
            both.wait()

    service._sentinels = Meeting(sentinels)

    def ask(*_: Any) -> Any:
        both.wait()
        return [b"host", b"6379"]

    found: list[Address] = []
    threads = [threading.Thread(target=lambda: found.append(service.find("", ask))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [Address("host", 6379)] * 2
    assert sorted(service._sentinels, key=id) == sorted(sentinels, key=id)


def test_the_last_dead_letter_leaves_no_key_behind_when_it_is_dropped_or_replayed(server: Server) -> None:
    async def main() -> None:
        layer = RedisChannelLayer([server.url])
        for number in range(3):
            await layer.send("jobs", event(number))
        for delivery in await layer.take("jobs", 3):
            await layer.bury(delivery, letter_for(delivery, "failed", "reason"))
        first, second, third = await layer.dead_letters()
        await layer.drop(first.id)
        await layer.replay(second.id)
        assert server.client.exists("asgi:jobs$dead", "asgijobs$dead") == 1
        await layer.drop(third.id)
        assert not server.client.keys("*$dead")
        with pytest.raises(KeyError):
            await layer.drop(third.id)
        await layer.send("jobs", event(4))
        for delivery in await layer.take("jobs", 1):
            await layer.bury(delivery, letter_for(delivery, "failed", "reason"))
        (letter,) = await layer.dead_letters()
        await layer.replay(letter.id)
        assert not server.client.keys("*$dead")
        await layer.close()

    run(main())
