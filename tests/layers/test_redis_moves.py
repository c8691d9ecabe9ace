"""A slot of a Cluster moves to another node: who waits for events under a lease waits there, and at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer, polling

from .conformance import event, numbers
from .redis_drill import PATIENCE, run
from .redis_servers import Cluster, Server

LEASE = 60.0
Until = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _no_look_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told, or hears nothing until the test has failed."""
    monkeypatch.setattr(polling, "POLL_SECS", 3_600.0)


class Slot:
    """The slot of the channel `jobs`, and the nodes between which it moves."""

    def __init__(self, cluster: Cluster) -> None:
        ((_, self.key),) = RedisChannelLayer([cluster.url])._queues.shards("jobs")
        self._cluster = cluster
        self.old = cluster.node_of(self.key)
        self.new, self.third = (node for node in cluster.nodes if node is not self.old)

    async def move(self, to: Server) -> None:
        await asyncio.to_thread(self._cluster.move, self.key, to)


@pytest.fixture
def slot(cluster: Cluster) -> Iterator[Slot]:
    """At the end it is where it was."""
    slot = Slot(cluster)
    yield slot
    if cluster.node_of(slot.key) is not slot.old:
        cluster.move(slot.key, slot.old)


async def waiting(layer: Any, node: Server) -> "asyncio.Task[Any]":
    """Take under a lease, and wait on this node already."""
    await asyncio.to_thread(node.client.config_resetstat)
    taking: asyncio.Task[Any] = asyncio.ensure_future(take(layer, "jobs"))
    await looked(node)
    return taking


async def take(layer: Any, channel: str) -> Any:
    """Take, as a worker does: again when a server refuses while keys of the channel are on both nodes."""
    while True:
        try:
            return await layer.take(channel, 9, lease=LEASE)
        except LayerUnavailable:
            await asyncio.sleep(0.005)


async def looked(node: Server) -> None:
    """Wait until somebody who asked the node to be told has looked once more."""
    while not await asyncio.to_thread(looks_since_watching, node):
        pass


def looks_since_watching(node: Server) -> bool:
    calls = node.calls()
    # Two in each look, and one that asks to be told.
    return calls.get("exists", 0) >= 5 and calls.get("evalsha", 0) + calls.get("eval", 0) >= 2


async def gets(taking: "asyncio.Task[Any]") -> list[int]:
    async with asyncio.timeout(PATIENCE):
        return numbers(await taking)


def test_an_event_that_is_sent_after_the_move_is_taken(cluster: Cluster, slot: Slot) -> None:
    async def main() -> None:
        layer, sender = open_layer(cluster.url), open_layer(cluster.url)
        for node, target in ((slot.old, slot.new), (slot.new, slot.third), (slot.third, slot.old)):
            taking = await waiting(layer, node)
            await slot.move(target)
            await sender.send("jobs", event(target.port))
            assert await gets(taking) == [target.port]
        await layer.close()
        await sender.close()

    run(main())


def test_all_channels_of_the_slot_are_waited_for_on_the_new_node(cluster: Cluster, slot: Slot) -> None:
    shards = RedisChannelLayer([cluster.url])._queues.shards
    tag = slot.key.partition("}")[0] + "}"
    other = next(name for name in (f"jobs-{n}" for n in range(10_000)) if shards(name)[0][1].startswith(tag))

    async def main() -> None:
        layer, sender = open_layer(cluster.url), open_layer(cluster.url)
        taking = await waiting(layer, slot.old)
        await asyncio.to_thread(slot.old.client.config_resetstat)
        taking_other = asyncio.ensure_future(take(layer, other))
        await looked(slot.old)
        await slot.move(slot.new)
        await sender.send("jobs", event(1))
        await sender.send(other, event(2))
        assert [await gets(taking), await gets(taking_other)] == [[1], [2]]
        await layer.close()
        await sender.close()

    run(main())


def test_a_watch_that_is_given_up_before_the_server_heard_of_it_is_begun_anew(cluster: Cluster, slot: Slot) -> None:
    async def main() -> None:
        layer, sender = RedisChannelLayer([cluster.url]), open_layer(cluster.url)
        assert await layer.take("jobs", 1, wait=False) == []
        ((topology, key),) = layer._queues.shards("jobs")
        (state,) = layer._loops.values()
        watching = asyncio.ensure_future(state.watch(topology, [key]))
        await asyncio.sleep(0)  # it is connecting
        watching.cancel()
        taking = await waiting(layer, slot.old)
        await sender.send("jobs", event(1))
        assert await gets(taking) == [1]
        await layer.close()
        await sender.close()

    run(main())


async def send_on(layer: Any, sent: list[int], over: asyncio.Event) -> None:
    """Send events, and note those that were acknowledged."""
    number = 0
    while not over.is_set():
        number += 1
        try:
            await layer.send("jobs", event(number))
        except LayerUnavailable:  # for a moment, while keys of the channel are on both nodes
            continue
        sent.append(number)


async def take_on(layer: Any, handled: set[int]) -> None:
    """Take and settle events."""
    while True:
        try:
            taken = await layer.take("jobs", 9, lease=LEASE)
            handled.update(numbers(taken))
            await layer.settle(taken)
        except LayerUnavailable:
            await asyncio.sleep(0.005)


def test_under_traffic_a_moving_slot_loses_nothing(cluster: Cluster, slot: Slot, until: Until) -> None:
    sent: list[int] = []
    handled: set[int] = set()

    async def main() -> None:
        # While a slot moves, nothing can be taken under a lease; meanwhile the events wait.
        layer, sender, over = open_layer(cluster.url), open_layer(cluster.url, capacity=100_000), asyncio.Event()
        taking = asyncio.ensure_future(take_on(layer, handled))
        sending = asyncio.ensure_future(send_on(sender, sent, over))
        for target in (slot.new, slot.third, slot.old, slot.new):
            enough = len(handled) + 50
            await until(lambda enough=enough: len(handled) >= enough)
            await slot.move(target)
        over.set()
        await sending
        await until(lambda: handled >= set(sent))
        taking.cancel()
        await layer.close()
        await sender.close()

    run(main())


def test_the_node_that_a_refusal_names_is_believed(cluster: Cluster, slot: Slot) -> None:
    """Another node may not have heard yet that the slot has moved."""

    async def main() -> None:
        layer = open_layer(cluster.url)
        await layer.send("jobs", event(1))
        await asyncio.to_thread(layer.send_sync, "jobs", event(2))
        for node, send in (
            (slot.new, layer.send),
            (slot.third, lambda *event: asyncio.to_thread(layer.send_sync, *event)),
        ):
            await slot.move(node)
            for one in cluster.nodes:
                one.client.config_resetstat()
            await send("jobs", event(3))
            assert not any("cluster|slots" in one.calls() for one in cluster.nodes)
        assert numbers(await layer.take("jobs", 9)) == [1, 2, 3, 3]
        await layer.close()

    run(main())


def test_a_user_who_may_not_subscribe_takes_all_the_same(cluster: Cluster, slot: Slot) -> None:
    for node in cluster.nodes:
        node.client.execute_command("ACL SETUSER worker on >password ~asgi* ~{asgi:* +@all resetchannels")

    async def main() -> None:
        layer, sender = open_layer(cluster.url.replace("://", "://worker:password@")), open_layer(cluster.url)
        taking = await waiting(layer, slot.old)
        await sender.send("jobs", event(1))
        assert await gets(taking) == [1]
        await layer.close()
        await sender.close()

    try:
        run(main())
    finally:
        for node in cluster.nodes:
            node.client.acl_deluser("worker")
