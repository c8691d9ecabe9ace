"""Compatibility with the real `channels_redis`: each layer reads the data of the other, byte for byte."""

import asyncio
import gc
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.consumer import AsyncConsumer as ChannelsConsumer
from channels.exceptions import ChannelFull as ChannelsFull
from channels.layers import channel_layers, get_channel_layer
from channels.routing import ChannelNameRouter
from channels.worker import Worker as ChannelsWorker
from channels_redis.core import RedisChannelLayer as ChannelsRedis  # type: ignore[import-untyped]
from django.test import override_settings

from channelmap import AsyncConsumer, Worker
from channelmap.asgi import Event
from channelmap.contract import Channel, EventType
from channelmap.errors import ChannelFull
from channelmap.gate import Gate
from channelmap.layer import DeadLetter, current_layer
from channelmap.layers.redis import RedisChannelLayer
from channelmap.limits import RetryPolicy, Service

from ..layers.redis_servers import BINARIES, VOLATILE, Server, running  # noqa: TID252  (tests are no package to import by its name)

Until = Callable[..., Awaitable[None]]

#: The same arguments for both layers.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "msgpack": {},
    "json": {"serializer_format": "json"},
    "msgpack, encrypted": {"symmetric_encryption_keys": ["a-test-key"]},
    "json, encrypted": {"serializer_format": "json", "symmetric_encryption_keys": ["new", "old"]},
    "other prefixes": {"prefix": "my.site-", "random_prefix_length": 4},
}
NESTED: Event = {
    "type": "test.print", "text": "ü\U0001f600", "big": 2**40, "float": 1.5, "no": None, "yes": True,
    "deep": {"list": [1, {"x": [False, []]}], "empty": {}}, "pair": (1, "two"),
}  # fmt: skip
CHANNEL_NAME = (
    "Channel name must be a valid unicode string with length < 100 containing only ASCII alphanumerics, "
    "hyphens, underscores, or periods."
)


@pytest.fixture(scope="module", params=BINARIES, ids=[Path(binary).name for binary in BINARIES])
def _server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("compat") / "server", *VOLATILE, binary=request.param)
    with running(server):
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.client.flushall()
    return _server


class Pair:
    """Our layer and that of channels_redis, with the same configuration and server."""

    def __init__(self, server: Server, **config: Any) -> None:
        # Without this, channels_redis fails with redis-py 8's default time-out. Our layer accepts it too.
        hosts = [{"address": server.url, "socket_timeout": None}]
        self.ours = RedisChannelLayer(hosts=hosts, **config)
        self.theirs = ChannelsRedis(hosts=hosts, **config)

    def ends(self, sender: str) -> tuple[Any, Any]:
        """Return the sending and the receiving layer."""
        return (self.ours, self.theirs) if sender == "ours" else (self.theirs, self.ours)

    async def settled(self) -> None:
        await self.theirs.wait_received()

    async def close(self) -> None:
        await self.settled()
        await self.theirs.close_pools()
        await self.ours.close()


@pytest.fixture
def pair(server: Server) -> Callable[..., Any]:
    @asynccontextmanager
    async def make(**config: Any) -> AsyncIterator[Pair]:
        both = Pair(server, **config)
        try:
            async with asyncio.timeout(20):
                yield both
        finally:
            await both.close()

    return make


both_ways = pytest.mark.parametrize("sender", ["ours", "theirs"])
all_configurations = pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


@both_ways
@all_configurations
def test_events_of_one_layer_are_received_by_the_other_in_order_and_nothing_is_left(
    server: Server, pair: Any, config: dict[str, Any], sender: str
) -> None:
    event = NESTED if config.get("serializer_format") == "json" else {**NESTED, "raw": b"\x00\xff"}

    async def main() -> list[Event]:
        async with pair(**config) as both:
            send, receive = both.ends(sender)
            for number in range(3):
                await send.send("thumbs", {**event, "number": number})
            got = [await receive.receive("thumbs") for _ in range(3)]
            await both.settled()
            assert server.client.keys("*") == []
            return got

    assert asyncio.run(main()) == [{**event, "pair": [1, "two"], "number": number} for number in range(3)]


@both_ways
@all_configurations
def test_a_group_send_of_one_layer_reaches_named_and_private_channels_of_the_other(
    pair: Any, config: dict[str, Any], sender: str
) -> None:
    async def main() -> list[Event]:
        async with pair(**config) as both:
            send, receive = both.ends(sender)
            private = await receive.new_channel()
            await receive.group_add("chat", "room")
            await send.group_add("chat", private)  # whoever adds it
            await send.group_send("chat", {"type": "a", "n": 1})
            await send.send(private, {"type": "a", "n": 2})
            return [await receive.receive("room"), await receive.receive(private), await receive.receive(private)]

    assert asyncio.run(main()) == [{"type": "a", "n": 1}, {"type": "a", "n": 1}, {"type": "a", "n": 2}]


@both_ways
def test_a_member_discarded_by_one_layer_gets_no_group_sends_of_the_other(
    server: Server, pair: Any, sender: str
) -> None:
    async def main() -> None:
        async with pair() as both:
            send, receive = both.ends(sender)
            await receive.group_add("chat", "room")
            await send.group_discard("chat", "room")
            await receive.group_send("chat", {"type": "a"})
            assert server.client.keys("*") == []

    asyncio.run(main())


@both_ways
def test_several_private_channels_of_one_process_are_kept_apart(pair: Any, sender: str) -> None:
    async def main() -> list[Event]:
        async with pair() as both:
            send, receive = both.ends(sender)
            names = [await receive.new_channel() for _ in range(3)]
            waiting = [asyncio.ensure_future(receive.receive(name)) for name in names]
            for number, name in reversed(list(enumerate(names))):
                await send.send(name, {"type": "a", "n": number})
            return list(await asyncio.gather(*waiting))

    assert asyncio.run(main()) == [{"type": "a", "n": number} for number in range(3)]


@both_ways
def test_each_layer_sees_the_queue_length_and_expiry_set_by_the_other(server: Server, pair: Any, sender: str) -> None:
    async def main() -> None:
        async with pair(capacity=3, expiry=40) as both:
            first, second = both.ends(sender)
            for number in range(3):
                await first.send("jobs", {"type": "a", "n": number})
                assert server.client.ttl("asgijobs") in {39, 40}
            with pytest.raises((ChannelFull, ChannelsFull)):
                await second.send("jobs", {"type": "a"})
            assert server.client.zcard("asgijobs") == 3
            server.client.persist("asgijobs")
            await first.receive("jobs")
            await second.send("jobs", {"type": "a"})
            assert server.client.ttl("asgijobs") in {39, 40}

    asyncio.run(main())


@both_ways
def test_an_expired_event_of_one_layer_does_not_count_towards_the_capacity_of_the_other(
    server: Server, pair: Any, sender: str
) -> None:
    async def main() -> list[Event]:
        async with pair(capacity=1, expiry=30) as both:
            send, receive = both.ends(sender)
            server.client.zadd("asgijobs", {b"r" * 12 + msgpack.packb({"type": "old"}): time.time() - 32})
            await send.send("jobs", {"type": "new"})
            return [await receive.receive("jobs")]

    assert asyncio.run(main()) == [{"type": "new"}]


# Workers of both kinds, one for each side.


class Theirs(ChannelsConsumer):  # type: ignore[misc,unused-ignore]
    seen: list[Any] = []

    async def join(self, event: Event) -> None:
        await self.channel_layer.group_add("chat", self.channel_name)
        self.seen.append("joined")

    async def say(self, event: Event) -> None:
        await self.channel_layer.group_send("chat", {"type": "said", "text": event["text"]})

    async def said(self, event: Event) -> None:
        self.seen.append(event)


class Ours(AsyncConsumer):
    seen: list[Any] = []

    async def join(self, event: Event) -> None:
        await self.channel_layer.group_add("chat", self.channel_name)
        self.seen.append("joined")

    async def say(self, event: Event) -> None:
        await self.channel_layer.group_send("chat", {"type": "said", "text": event["text"]})

    async def said(self, event: Event) -> None:
        self.seen.append(event)


def test_workers_of_both_kinds_reach_the_consumers_of_each_other_through_groups(pair: Any, until: Until) -> None:
    Ours.seen, Theirs.seen = [], []

    async def main() -> None:
        async with pair() as both:
            channel_layers.set("default", both.theirs)
            current_layer.set(both.ours)
            worker = Worker(Ours.as_asgi(), ["ours"], both.ours)
            serving = asyncio.ensure_future(worker.serve())
            application = ChannelNameRouter({"theirs": Theirs.as_asgi()})
            channels_serving = asyncio.ensure_future(ChannelsWorker(application, ["theirs"], both.theirs).arun())
            try:
                await both.theirs.send("ours", {"type": "join"})
                await both.ours.send("theirs", {"type": "join"})
                await until(lambda: Ours.seen == Theirs.seen == ["joined"])
                await both.theirs.send("ours", {"type": "say", "text": "from ours"})
                await until(lambda: len(Ours.seen) == len(Theirs.seen) == 2)
                await both.ours.send("theirs", {"type": "say", "text": "from theirs"})
                await until(lambda: len(Ours.seen) == len(Theirs.seen) == 3)
            finally:
                worker.stop(5)
                await serving
                channels_serving.cancel()
                await asyncio.gather(channels_serving, return_exceptions=True)

    asyncio.run(main())
    said = [{"type": "said", "text": "from ours"}, {"type": "said", "text": "from theirs"}]
    assert Ours.seen[1:] == Theirs.seen[1:] == said


def test_in_django_settings_only_the_dotted_path_changes(server: Server) -> None:
    config = {"hosts": [{"address": server.url, "socket_timeout": None}], "capacity": 5, "prefix": "site"}
    settings = {"default": {"BACKEND": "channelmap.layers.redis.RedisChannelLayer", "CONFIG": config}}

    async def main() -> Event:
        layer = get_channel_layer()
        assert isinstance(layer, RedisChannelLayer)
        await layer.send("jobs", {"type": "a"})
        assert server.client.keys("*") == [b"sitejobs"]
        got: Event = await layer.receive("jobs")
        await layer.close_pools()
        return got

    with override_settings(CHANNEL_LAYERS=settings):
        assert asyncio.run(main()) == {"type": "a"}


@both_ways
def test_a_flush_of_one_layer_empties_the_other(server: Server, pair: Any, sender: str) -> None:
    async def main() -> None:
        async with pair() as both:
            first, second = both.ends(sender)
            server.client.set("elsewhere", 1)
            await second.send("jobs", {"type": "a"})
            await second.group_add("chat", "jobs")
            await first.flush()
            assert server.client.keys("*") == [b"elsewhere"]

    asyncio.run(main())


# The checks 15 to 20 of the reference.


@pytest.mark.parametrize("name", ["a" * 100, "", "a b", "a/b", b"a", None, "a!b!c"])
def test_15_invalid_names_are_rejected_with_the_messages_of_channels(pair: Any, name: Any) -> None:
    async def main() -> list[str]:
        said = []
        async with pair() as both:
            for layer in (both.ours, both.theirs):
                for call in (layer.send(name, {"type": "a"}), layer.receive(name)):
                    with pytest.raises(TypeError) as caught:
                        await call
                    said.append(str(caught.value))
        return said

    assert asyncio.run(main()) == [CHANNEL_NAME] * 4


def test_15_a_name_may_have_ninety_nine_characters(pair: Any) -> None:
    async def main() -> Event:
        async with pair() as both:
            await both.ours.send("a" * 99, {"type": "a"})
            got: Event = await both.theirs.receive("a" * 99)
            return got

    assert asyncio.run(main()) == {"type": "a"}


def test_16_a_value_that_is_not_a_message_is_rejected_as_by_channels(pair: Any) -> None:
    async def main() -> Event:
        async with pair() as both:
            with pytest.raises(AssertionError, match="^message is not a dict$"):
                await both.ours.send("c", [1])
            with pytest.raises(AssertionError):
                await both.ours.send("c", {"__asgi_channel__": "x"})
            await both.ours.send("c", {})
            got: Event = await both.theirs.receive("c")
            return got

    assert asyncio.run(main()) == {}


def test_17_capacities_are_those_of_channels(pair: Any) -> None:
    async def fits(layer: RedisChannelLayer, channel: str) -> int:
        for number in range(10):
            try:
                await layer.send(channel, {"type": "a"})
            except ChannelFull:
                return number
        raise AssertionError("never full")

    async def main() -> list[int]:
        async with pair(capacity=3, channel_capacity={"tiny": 1, "big*": 5}) as both:
            counts = [await fits(both.ours, name) for name in ("other", "tiny", "bigone")]
            await both.ours.receive("other")
            return [*counts, await fits(both.ours, "other")]

    assert asyncio.run(main()) == [3, 1, 5, 1]


def test_18_the_bytes_in_redis_are_those_of_channels_redis(server: Server, pair: Any) -> None:
    async def main() -> Event:
        async with pair() as both:
            await both.ours.send("thumbs", {"type": "x"})
            ((member, score),) = server.client.zrange("asgithumbs", 0, -1, withscores=True)
            assert len(member) == 12 + 8
            assert member[12:] == bytes.fromhex("81a474797065a178")
            assert abs(score - time.time()) < 1
            assert server.client.ttl("asgithumbs") == 60
            assert server.client.keys("*") == [b"asgithumbs"]
            got: Event = await both.theirs.receive("thumbs")
            await both.settled()
            assert server.client.keys("*") == []
            return got

    assert asyncio.run(main()) == {"type": "x"}


def test_18_the_random_prefixes_of_equal_events_differ(server: Server, pair: Any) -> None:
    async def main() -> None:
        async with pair() as both:
            await both.ours.send_many("thumbs", [{"type": "x"}] * 50)
            await asyncio.gather(*(both.ours.send("thumbs", {"type": "x"}) for _ in range(50)))
            members = server.client.zrange("asgithumbs", 0, -1)
            assert len({member[:12] for member in members}) == 100
            assert {len(member) for member in members} == {20}

    asyncio.run(main())


def test_19_members_written_by_hand_are_taken_in_the_order_of_their_scores(server: Server, pair: Any) -> None:
    now = time.time()
    for number, age in enumerate([1.0, 3.0, 2.0]):
        body = msgpack.packb({"type": "x", "n": number, "pair": (1, 2), "raw": b"\xff"})
        server.client.zadd("asgithumbs", {struct.pack("12s", bytes([255 - number])) + body: now - age})

    async def main() -> list[Event]:
        async with pair() as both:
            return [await both.ours.receive("thumbs") for _ in range(3)]

    assert asyncio.run(main()) == [{"type": "x", "n": n, "pair": [1, 2], "raw": b"\xff"} for n in (1, 2, 0)]


def test_19_the_key_that_group_send_adds_is_removed(server: Server, pair: Any) -> None:
    async def main() -> Event:
        async with pair() as both:
            await both.theirs.group_add("chat", "room")
            await both.theirs.group_send("chat", {"type": "x"})
            ((member),) = server.client.zrange("asgiroom", 0, -1)
            assert msgpack.unpackb(member[12:]) == {"type": "x", "__asgi_channel__": ["room"]}
            got: Event = await both.ours.receive("room")
            return got

    assert asyncio.run(main()) == {"type": "x"}


def test_events_of_a_crashed_reader_of_channels_redis_are_returned_to_the_queue(server: Server, pair: Any) -> None:
    now = time.time()
    for key, number, age in (("asgijobs$inflight", 1, 2.0), ("asgijobs", 2, 1.0)):
        server.client.zadd(key, {bytes(11) + bytes([number]) + msgpack.packb({"type": "x", "n": number}): now - age})

    async def main() -> list[int]:
        async with pair() as both:
            return [(await both.ours.receive("jobs"))["n"] for _ in range(2)]

    assert asyncio.run(main()) == [1, 2]
    assert server.client.keys("*") == []


def test_events_of_a_running_reader_of_channels_redis_are_left_to_it(server: Server, pair: Any) -> None:
    """Its own readers take it from each other, and handle it twice; once ours has looked, it looks no more."""

    held = bytes(12) + msgpack.packb({"type": "held"})

    async def main() -> list[Event]:
        async with pair() as both:
            await both.ours.send("jobs", {"type": "x"})
            got = [await both.ours.receive("jobs")]
            server.client.zadd("asgijobs$inflight", {held: time.time()})
            await both.ours.send("jobs", {"type": "x"})
            return [*got, await both.ours.receive("jobs")]

    assert asyncio.run(main()) == [{"type": "x"}, {"type": "x"}]
    assert server.client.zrange("asgijobs$inflight", 0, -1) == [held]


# Ids, delayed events and leases beside readers and senders of channels_redis.


@all_configurations
def test_an_event_of_channels_redis_has_a_stable_id(server: Server, pair: Any, config: dict[str, Any]) -> None:
    prefix, digits = config.get("prefix", "asgi"), 2 * config.get("random_prefix_length", 12)

    async def main() -> None:
        async with pair(**config) as both:
            await both.theirs.send("jobs", {"type": "x"})
            await both.theirs.send("jobs", {"type": "x"})
            members = server.client.zrange(f"{prefix}jobs", 0, -1)
            taken = await both.ours.take("jobs", 2, lease=0)
            ids = [one.id for one in taken]
            if digits == 24:
                assert ids == [member[:12].hex() for member in members]
            again = [one for _ in range(2) for one in await both.ours.take("jobs", 2, lease=60)]
            assert [one.id for one in again] == ids
            assert len(set(ids)) == 2
            assert all(len(id_) == 24 for id_ in ids)

    asyncio.run(main())


@pytest.mark.parametrize("length", [0, 4, 8, 12, 16])
def test_events_have_ids_and_the_same_format_with_any_length_of_the_random_prefix(
    server: Server, pair: Any, length: int
) -> None:
    async def main() -> None:
        async with pair(random_prefix_length=length) as both:
            sent = await both.ours.send("jobs", {"type": "x", "n": 1})
            (member,) = server.client.zrange("asgijobs", 0, -1)
            assert member[length:] == msgpack.packb({"type": "x", "n": 1})
            (delivery,) = await both.ours.take("jobs", 1, lease=60)
            assert delivery.id == sent
            assert len(delivery.id) == (2 * length if length >= 8 else 24)
            await both.ours.give_back([delivery])
            assert await both.theirs.receive("jobs") == {"type": "x", "n": 1}

    asyncio.run(main())


@pytest.mark.parametrize("lease", [None, 60.0])
def test_a_reader_of_channels_redis_gets_a_delayed_event_if_our_worker_serves_the_channel(
    pair: Any, until: Until, lease: float | None
) -> None:
    async def main() -> list[Event]:
        async with pair() as both:
            # A worker of ours with a full prefetch.
            serving = asyncio.ensure_future(both.ours.take("jobs", 1, lease=lease))
            await until(lambda: both.ours._loops)
            await both.ours.send("jobs", {"type": "x", "n": 1})
            await serving
            serving = asyncio.ensure_future(both.ours.take("jobs", 1, lease=lease))
            await both.ours.send("jobs", {"type": "x", "n": 2}, delay=0.05)
            found = [*await serving]
            if lease is None:
                # A worker moves due events of its channels even while it takes none.
                await both.ours.send("jobs", {"type": "x", "n": 3}, delay=0.05)
                return [one.event for one in found] + [await both.theirs.receive("jobs")]
            await both.ours.give_back(found)
            return [await both.theirs.receive("jobs"), {"type": "x", "n": 3}]

    assert asyncio.run(main()) == [{"type": "x", "n": 2}, {"type": "x", "n": 3}]


def test_readers_of_channels_redis_get_no_retries(pair: Any, server: Server) -> None:
    async def main() -> int:
        async with pair() as both:
            await both.theirs.send("jobs", {"type": "x"})
            (delivery,) = await both.ours.take("jobs", 1, lease=60)
            await both.ours.retry(delivery, 0)
            assert server.client.zcard("asgijobs") == 0
            (again,) = await both.ours.take("jobs", 1, lease=60)
            return int(again.attempt)

    assert asyncio.run(main()) == 2


# Check 20: senders without an event loop.


@pytest.fixture
def ours(server: Server) -> RedisChannelLayer:
    return RedisChannelLayer([server.url])


def test_20_async_to_sync_sends_twice_from_a_plain_thread_and_leaves_no_connection(
    server: Server, ours: RedisChannelLayer, wait_until: Callable[..., None]
) -> None:
    before = server.connections()

    def send() -> None:
        for number in range(2):
            async_to_sync(ours.send)("jobs", {"type": "x", "n": number})

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(20)
    send()

    assert server.client.zcard("asgijobs") == 4
    wait_until(lambda: server.connections() == before, "the connections to be closed")
    gc.collect()  # a ResourceWarning about an open connection would be an error


def test_20_async_to_sync_sends_from_a_thread_of_the_loop_over_one_connection(
    server: Server, ours: RedisChannelLayer, wait_until: Callable[..., None]
) -> None:
    before = server.connections()

    async def main() -> int:
        loops = []

        async def send(number: int) -> None:
            loops.append(asyncio.get_running_loop())
            await ours.send("jobs", {"type": "x", "n": number})

        for number in range(2):
            await sync_to_async(async_to_sync(send))(number)
        assert loops == [asyncio.get_running_loop()] * 2
        connections = len(server.connections()) - len(before)
        await ours.close()
        return connections

    assert asyncio.run(main()) == 1
    assert server.client.zcard("asgijobs") == 2
    wait_until(lambda: server.connections() == before, "the connections to be closed")
    gc.collect()


def test_20_async_to_sync_in_a_running_loop_raises(ours: RedisChannelLayer) -> None:
    async def main() -> None:
        async_to_sync(ours.send)("jobs", {"type": "x"})

    with pytest.raises(RuntimeError, match="You cannot use AsyncToSync in the same thread as an async event loop"):
        asyncio.run(main())


def test_20_a_loop_that_ends_without_closing_leaves_no_connection(
    server: Server, ours: RedisChannelLayer, wait_until: Callable[..., None]
) -> None:
    before = server.connections()

    async def main() -> None:
        await ours.send("jobs", {"type": "x"})
        await ours.receive("jobs")

    for _ in range(3):
        asyncio.run(main())

    wait_until(lambda: server.connections() == before, "the connections to be closed")
    gc.collect()


def test_20_threads_send_without_a_loop_and_close_their_connections_with_the_layer(
    server: Server, ours: RedisChannelLayer, wait_until: Callable[..., None]
) -> None:
    before = server.connections()
    threads = [threading.Thread(target=ours.send_sync, args=("jobs", {"type": "x", "n": n})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert server.client.zcard("asgijobs") == 8
    asyncio.run(ours.close())
    wait_until(lambda: server.connections() == before, "the connections to be closed")
    gc.collect()


@pytest.mark.parametrize("service", [Service(), Service(retry=RetryPolicy(attempts=1))], ids=["most", "least"])
def test_a_deeply_nested_event_of_channels_redis_does_not_block_the_events_behind_it(
    pair: Any, until: Until, service: Service
) -> None:
    handled: list[int] = []

    class Jobs(AsyncConsumer):
        async def job(self, event: Event) -> None:
            handled.append(event["n"])

    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    channel = Channel("jobs", "a.Jobs", {"job": EventType("job")})

    async def main() -> list[DeadLetter]:
        async with pair() as both:
            await both.theirs.send("jobs", {"type": "job", "n": deep})
            for number in range(20):
                await both.theirs.send("jobs", {"type": "job", "n": number})
            worker = Worker(Gate(channel, Jobs.as_asgi()), {"jobs": service}, both.ours)
            serving = asyncio.ensure_future(worker.serve())
            await until(lambda: len(handled) == 20)
            worker.stop(5)
            await serving
            letters: list[DeadLetter] = await both.ours.dead_letters()
            return letters

    (letter,) = asyncio.run(main())
    assert handled == list(range(20))
    assert (letter.code, letter.event) == ("invalid", {"type": "job", "n": deep})
