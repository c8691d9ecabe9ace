"""Sentinel names a new master, a Cluster loses a node or moves a slot: senders and workers follow."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer

from .conformance import event
from .redis_drill import PATIENCE, drill, run
from .redis_servers import Cluster, Sentinels, Server, wait_for


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Sentinels]:
    with Sentinels(tmp_path).running() as sentinels:
        yield sentinels


def test_a_new_master_in_the_middle_of_traffic_is_found_by_sender_and_worker(
    breakable: Sentinels, caplog: pytest.LogCaptureFixture
) -> None:
    old = breakable.master

    async def main() -> None:
        async with drill(breakable.url) as this:
            load = asyncio.ensure_future(
                this.send_until(lambda: len(this.acknowledged) >= 200 and breakable.master is not old)
            )
            while len(this.acknowledged) < 200:
                await asyncio.sleep(0)
            last = this.acknowledged[-1]
            await asyncio.to_thread(old.kill)
            await asyncio.wait_for(load, PATIENCE)
            await this.go_on()
            await this.all_since(last + 2)

            # A replica follows a moment later: at the end of what the old master acknowledged some may be missing,
            # and some whose taking it had not heard of come again.
            twice = {number for number in this.handled if this.handled.count(number) > 1}
            around = [number for number in this.acknowledged if number <= last + 1]
            assert set(this.lost) | twice <= set(around[-100:])

    run(main())
    assert "cannot take events" in caplog.text


def test_the_old_master_that_comes_back_as_a_replica_is_left_alone(breakable: Sentinels) -> None:
    old = breakable.master

    async def main() -> None:
        async with drill(breakable.url) as this:
            await this.go_on(1)
            old.kill()
            await this.go_on(1)
            assert breakable.master is not old
            # Sentinel cuts all connections to the server that it promotes; what one of them was carrying is lost. The
            # worker has its new one when it handles what is sent now.
            promoted = this.next_number
            await this.send_until(lambda: this.handled and this.handled[-1] >= promoted)
            await asyncio.to_thread(old.start)
            before = this.next_number
            await this.go_on()
            await this.all_since(before)

    run(main())


def test_a_sentinel_that_knows_no_such_service_is_said(sentinels: Sentinels) -> None:
    layer = open_layer(f"redis+sentinel://{sentinels.sentinel.address}/nothing/0")

    async def main() -> None:
        with pytest.raises(LayerUnavailable, match="nothing"):
            async with asyncio.timeout(PATIENCE):
                await layer.send("jobs", event(1))
        await layer.close()

    run(main())


def test_the_first_sentinel_that_answers_is_enough(sentinels: Sentinels) -> None:
    layer = open_layer(f"redis+sentinel://127.0.0.1:1,{sentinels.sentinel.address}/{sentinels.SERVICE}/0")

    async def main() -> None:
        await layer.send("jobs", event(1))
        assert await layer.receive("jobs") == event(1)
        await layer.close()

    run(main())


def place_of(cluster: Cluster, channel: str) -> tuple[Server, str]:
    """The node on which a channel's events wait, and the key of its slot."""
    layer = open_layer(cluster.url)
    layer.send_sync(channel, event(0))
    asyncio.run(layer.close())
    ((node, key),) = [(node, key.decode()) for node in cluster.nodes for key in node.client.keys("*")]
    cluster.flush()
    return node, key


def channel_on(cluster: Cluster, node: Server) -> str:
    return next(name for name in (f"jobs-{n}" for n in range(1_000)) if place_of(cluster, name)[0] is node)


def test_channels_are_spread_over_the_nodes_of_a_cluster(cluster: Cluster) -> None:
    async def main() -> None:
        layer = open_layer(cluster.url)
        await asyncio.gather(*(layer.send(f"jobs-{number}", event(number)) for number in range(60)))
        assert all(node.client.dbsize() for node in cluster.nodes)
        got = [await layer.receive(f"jobs-{number}") for number in range(60)]
        await layer.close()
        assert got == [event(number) for number in range(60)]

    run(main())


@pytest.mark.parametrize("node", [0, 1, 2])
def test_one_node_of_a_cluster_is_enough_to_find_the_others(cluster: Cluster, node: int) -> None:
    async def main() -> None:
        layer = open_layer(f"redis+cluster://{cluster.nodes[node].address}")
        for number in range(3):
            await layer.send(f"jobs-{number}", event(number))
        layer.send_sync("jobs-0", event(3))
        await layer.close()

    run(main())


def test_a_group_spans_the_nodes_of_a_cluster(cluster: Cluster) -> None:
    names = [channel_on(cluster, node) for node in cluster.nodes]

    async def main() -> list[Any]:
        layer = open_layer(cluster.url)
        for name in names:
            await layer.group_add("all", name)
        await layer.group_send("all", event(1))
        got = [await layer.receive(name) for name in names]
        await layer.close()
        return got

    assert run(main()) == [event(1)] * 3


def test_a_lost_node_of_a_cluster_costs_its_own_channels_and_only_while_it_is_away(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    lost, *others = cluster.nodes
    theirs = [channel_on(cluster, node) for node in others]
    its = channel_on(cluster, lost)

    async def main() -> None:
        async with drill(cluster.url, (its, *theirs)) as this:
            lost.kill()
            try:
                for number, name in enumerate(theirs):
                    async with asyncio.timeout(PATIENCE):
                        await this.layer.send(name, event(number))
                async with asyncio.timeout(PATIENCE):
                    while sorted(this.handled) != [0, 1]:
                        await asyncio.sleep(0.005)
                    with pytest.raises(LayerUnavailable):
                        await this.layer.send(its, event(-1))
            finally:
                await asyncio.to_thread(lost.start)
            await asyncio.to_thread(wait_for, lambda: all(map(cluster.sees_all, cluster.nodes)), "the Cluster")
            async with asyncio.timeout(PATIENCE):
                while not await back(this.layer, its):
                    await asyncio.sleep(0.02)
                while 99 not in this.handled:
                    await asyncio.sleep(0.005)

    async def back(layer: Any, channel: str) -> bool:
        try:
            await layer.send(channel, event(99))
        except LayerUnavailable:
            return False
        return True

    run(main())
    assert f"channel '{its}': cannot take events" in caplog.text


def test_a_slot_that_moves_is_followed_by_sender_and_waiting_worker(cluster: Cluster) -> None:
    old, key = place_of(cluster, "jobs")
    new = next(node for node in cluster.nodes if node is not old)

    async def main() -> None:
        async with drill(cluster.url) as this:
            await this.go_on(1)
            await this.all_since(0)
            while not await asyncio.to_thread(old.blocked):
                pass
            try:
                cluster.move(key, new)
                assert await this.send()
                this.layer.send_sync("jobs", event(1_000))
                await this.layer.send_many("jobs", [event(1_001)])
                this.acknowledged += [1_000, 1_001]
                await this.all_since(0)
            finally:
                cluster.move(key, old)
            before = this.next_number
            await this.go_on(3)
            await this.all_since(before)

    run(main())
