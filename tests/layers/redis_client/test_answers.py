"""Unusual answers are understood: slow ones, redirections, nodes without slots, and errors that repeat the password."""

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

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis import RedisChannelLayer
from tests.layers.conformance import event
from tests.layers.redis_drill import run
from tests.layers.redis_servers import VOLATILE, Cluster, Relay, Sentinels, Server, free_port, running


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
