"""Events in Redis or Valkey, byte for byte as channels_redis 4.3 keeps them: senders and takers of both mix freely.

`places` says where the servers are, `wire` and `plain` speak with them, `scripts` and `lease_scripts` say what is done
there, each in one step. `links` holds the connections of an event loop, `blocking`, `watching`, `rounds` and `upkeep`
wait over them, `loops` keeps it all.
"""
# ruff: noqa: D102  (`ChannelLayer` says what each method promises)

import asyncio
import os
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from operator import add
from typing import Any
from weakref import WeakSet

from channelmap.asgi import Event
from channelmap.errors import ChannelFull, LayerUnavailable
from channelmap.layer import ChannelLayer, Counts, DeadLetter, Delivery, seconds_until
from channelmap.layers.batches import Batch, note_ended
from channelmap.layers.redis import leases, looking
from channelmap.layers.redis.codec import ADDRESS, Codec
from channelmap.layers.redis.faults import CLOSED
from channelmap.layers.redis.groups import Groups
from channelmap.layers.redis.hosts import read_hosts
from channelmap.layers.redis.keys import counted_keys, keys_of, paused_of, record_of, scheduled_of
from channelmap.layers.redis.lease_scripts import COUNT
from channelmap.layers.redis.letters import Letters
from channelmap.layers.redis.links import Links, Rows
from channelmap.layers.redis.loops import InLoop, Spots
from channelmap.layers.redis.outbox import CHUNK, terms_of
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.plain import Plain
from channelmap.layers.redis.private import PrivateChannels
from channelmap.layers.redis.ring import Ring
from channelmap.layers.redis.scripts import ADOPT, SCHEDULE, SEND
from channelmap.layers.redis.upkeep import Paused
from channelmap.terms import Limits

_UNLIMITED = 2**53
#: Channels whose events one command counts.
_COUNTED = 500

#: Deliveries that are remembered at most because giving them back failed.
_RETURNING = 10_000


@dataclass(slots=True)
class _Returning:
    """A delivery on its way back: where to and as what, so that the same once more changes nothing."""

    delivery: Delivery
    place: Place
    key: str
    member: bytes
    done: bool = False


class RedisChannelLayer(ChannelLayer):
    """A layer on one or several servers, on what Sentinel watches over, or on a Cluster.

    Capacity and expiry are channels_redis' by default, not channelmap's, because its peers on the same keys have them.

    Args:
        hosts: what channels_redis takes, or URLs; `None` for a server on this machine.
        prefix: what all keys begin with.
        expiry: seconds after which a waiting event is dropped; `None` for never.
        group_expiry: seconds after which a member drops out of its group.
        capacity: events that may wait on a channel for which nothing else is said.
        channel_capacity: capacities by name, as in `ChannelLayer`.
        symmetric_encryption_keys: the first encrypts, any decrypts.
        random_prefix_length: random bytes that each member begins with; as its peers have it.
        serializer_format: `msgpack` or `json`; as its peers have it.
        dead_letters: how many dead letters are kept per channel; `None` for as many as its capacity, at least 1,000.
        limits: exact limits by channel name.

    Raises:
        ValueError: `hosts` is no list, or serializer or encryption are none.
        LayerUnavailable: a host cannot be read.

    """

    def __init__(  # noqa: PLR0913, PLR0917  (channels_redis' arguments)
        self,
        hosts: Sequence[Any] | None = None,
        prefix: str = "asgi",
        expiry: float | None = 60,
        group_expiry: float = 86_400,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        random_prefix_length: int = 12,
        serializer_format: str = "msgpack",
        *,
        dead_letters: int | None = None,
        limits: Mapping[str, Limits] | None = None,
    ) -> None:
        super().__init__(
            capacity=capacity,
            expiry=expiry,
            channel_capacity=channel_capacity,
            group_expiry=group_expiry,
            dead_letters=dead_letters,
            limits=limits,
        )
        assert isinstance(prefix, str), "Prefix must be unicode"
        self.prefix = prefix
        self._ring = Ring(read_hosts(hosts), prefix)
        self.url = ",".join(place.url for place in self._ring.places)
        self._codec = Codec(serializer_format, random_prefix_length, symmetric_encryption_keys)
        self._plain = Plain()
        self._loops: dict[asyncio.AbstractEventLoop, InLoop] = {}
        self._own_private_channels()
        _layers.add(self)
        self._groups = Groups(self._ring, self._codec, group_expiry, self.limits_of)
        self._letters = Letters(self._ring, self._codec, self.url, self.limits_of)
        #: Queues that were looked through for what readers have left that crashed.
        self._adopted: set[object] = set()
        self._leasing: set[str] = set()
        #: What was to be given back when something failed, by identity: the same call comes again.
        self._returning: dict[int, _Returning] = {}

    def _own_private_channels(self) -> None:
        """Begin with private channels that no other process shares: a forked one must not take its parent's events."""
        self.client_prefix = uuid.uuid4().hex
        self._private = PrivateChannels(self._ring, self._codec, self.client_prefix, self.limits_of)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url})"

    # Sending.

    async def send(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        if delay is not None or at is not None:
            return (await self.send_many(channel, [event], delay=delay, at=at))[0]
        limits = self.limits_of(channel)
        (place, key), body = self._ring.destination(channel), self._body(channel, event)
        here = self._loops.get(asyncio.get_running_loop()) or await self._here()
        event_id = await here.outbox.send(place, key, limits, body)
        if event_id is None:
            raise ChannelFull(self.url, channel, limits.capacity)
        return event_id

    def send_sync(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        wait, limits = seconds_until(delay, at), self.limits_of(channel)
        (place, key), body = self._ring.destination(channel), self._body(channel, event)
        stamped = self._codec.stamped([body])
        if wait is None:
            fits = self._plain.run(place, SEND, [key], *terms_of(limits), 1, *stamped)
        else:
            fits = self._plain.run(place, SCHEDULE, [scheduled_of(key)], limits.capacity, repr(wait), stamped[1])
        if not fits:
            raise ChannelFull(self.url, channel, limits.capacity)
        return self._codec.id_of(stamped[1]).hex()

    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str]:
        """Send several events, one trip for every 500, all to one host.

        The first trip asks for room for all of them. If the server is lost between two trips, what the first ones
        carried is sent and the rest is not.
        """
        wait, limits = seconds_until(delay, at), self.limits_of(channel)
        (place, key), bodies = self._ring.destination(channel), [self._body(channel, event) for event in events]
        here = await self._here()
        ids: list[str] = []
        for start in range(0, len(bodies), CHUNK):
            stamped = self._codec.stamped(bodies[start : start + CHUNK])
            # What has had its room checked is not to be refused half-way.
            checked = limits if start == 0 else replace(limits, capacity=_UNLIMITED)
            if wait is None:
                fits = await here.links.run(place, SEND, [key], *terms_of(checked), len(bodies), *stamped)
            else:
                terms = (checked.capacity, repr(wait))
                fits = await here.links.run(place, SCHEDULE, [scheduled_of(key)], *terms, *stamped[1::2])
            if not fits:
                raise ChannelFull(self.url, channel, limits.capacity, len(bodies))
            ids += self._codec.ids_of(stamped)
        return ids

    def _body(self, channel: str, event: Event) -> bytes:
        self.require_valid_event(event)
        return self._codec.body(channel, {**event, ADDRESS: channel} if "!" in channel else event)

    # Groups.

    async def new_channel(self, prefix: str = "specific") -> str:
        return f"{prefix}.{self.client_prefix}!{uuid.uuid4().hex}"

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._groups.add(await self._here(), group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._groups.discard(await self._here(), group, channel)

    async def group_send(self, group: str, event: Event) -> None:
        self.require_valid_group_name(group)
        self.require_valid_event(event)
        await self._groups.send(await self._here(), group, event)

    # Taking.

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        limits = self.limits_of(channel)
        here = await self._here()
        if "!" in channel:
            return await self._private.take(here, channel, limit, wait=wait)
        spots = self._ring.spots(channel)
        await self._adopt(here, channel)
        if lease is not None:
            self._leasing.add(channel)
        if channel in self._leasing:
            expiry, ttl, _ = terms_of(limits)
            wish = leases.Wish(channel, limit, expiry, lease, ttl)
            return self._deliveries(channel, await leases.take(here, spots, wish, wait=wait))
        rows = await self._pop(here, spots, limit, limits, wait=wait)
        return self._deliveries(channel, leases.Taken(rows))

    async def _pop(self, here: InLoop, spots: Spots, limit: int, limits: Limits, *, wait: bool) -> Rows:
        await here.upkeep.begin(spots, terms_of(limits)[1])
        while True:
            if here.upkeep.is_paused(spots):
                if not wait:
                    return []
                await here.upkeep.until_resumed(spots)
            with suppress(Paused):
                return (await here.pop(spots, limit, limits, wait=wait)).rows

    async def _adopt(self, here: InLoop, channel: str) -> None:
        """Take over, once, what readers that crashed have left: channels_redis' in hand, ours under a lease."""
        for place, key in self._ring.spots(channel):
            if (place, key) not in self._adopted:
                # Of a place that is lost, the taking itself tells.
                with suppress(LayerUnavailable), here.asking(place, shun=True):
                    keys = [key, f"{key}$inflight", *record_of(key), *keys_of(key)[-2:]]
                    if await here.links.run(place, ADOPT, keys):
                        self._leasing.add(channel)
                    self._adopted.add((place, key))

    def _deliveries(self, channel: str, taken: leases.Taken) -> list[Delivery]:
        batch, rows = taken.batch, taken.rows
        opened = self._codec.open_all([member for member, _ in rows])
        if opened is None:
            deliveries = [self._read(channel, member, sent, batch) for member, sent in rows]
        else:
            # The way of nearly all events.
            deliveries = [
                Delivery(channel, event, body, sent, 1, "", batch, False, False, 0, event_id)  # noqa: FBT003
                for (event_id, event, body), (_, sent) in zip(opened, rows, strict=True)
            ]
        if batch is not None:
            for number, delivery in enumerate(deliveries):
                delivery.number = number
        for delivery, attempt in zip(deliveries, taken.attempts, strict=False):
            delivery.attempt = attempt
        if taken.crashes is not None:
            deliveries[0].suspect, deliveries[0].crashes = True, taken.crashes
        return deliveries

    def _read(self, channel: str, member: bytes, sent: float, batch: Batch | None) -> Delivery:
        body, event, problem, encrypted = self._codec.open(member)
        return Delivery(channel, event, body, sent, 1, problem, batch, encrypted, raw_id=self._codec.id_of(member))

    # What becomes of deliveries.

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        await leases.settle((await self._here()).links, deliveries)
        note_ended(deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put events to the front again.

        When one channel fails, the others have theirs back all the same; the same call may come again, and then
        brings back only what is missing.
        """
        links = (await self._here()).links
        while len(self._returning) > _RETURNING:
            del self._returning[next(iter(self._returning))]
        by_channel: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_channel.setdefault(delivery.channel, []).append(delivery)
        problem = None
        for channel, given in by_channel.items():
            try:
                await self._give_back(links, channel, given)
            except LayerUnavailable as error:
                problem = error
        if problem is not None:
            raise problem
        for delivery in deliveries:
            self._returning.pop(id(delivery), None)
        note_ended(deliveries)

    async def _give_back(self, links: Links, channel: str, given: Sequence[Delivery]) -> None:
        ttl = terms_of(self.limits_of(channel))[1]
        await leases.give_back(links, given, ttl)
        place, key = self._ring.destination(channel)
        for one in given:
            if one.ticket is None and id(one) not in self._returning:
                member = b"" if "!" in channel else self._codec.member(one.body, bytes.fromhex(one.id))
                self._returning[id(one)] = _Returning(one, place, key, member)
        missing: dict[tuple[Place, str], list[_Returning]] = {}
        for one in given:
            returning = self._returning.get(id(one))
            if returning is not None and not returning.done:
                missing.setdefault((returning.place, returning.key), []).append(returning)
        for (there, its_key), some in missing.items():
            if "!" in channel:
                # Other objects: whoever takes them may give them back in his turn.
                self._private.mailroom.deliver([replace(one.delivery) for one in reversed(some)], front=True)
            else:
                await links.put_back(there, its_key, [(one.member, one.delivery.sent) for one in some], ttl)
            for returning in some:
                returning.done = True

    async def retry(self, delivery: Delivery, delay: float) -> None:
        await leases.retry((await self._here()).links, self.url, delivery, delay)
        note_ended([delivery])

    async def begin(self, delivery: Delivery) -> bool:
        return await leases.begin((await self._here()).links, self.url, delivery)

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        await leases.renew((await self._here()).links, self.url, deliveries, lease)

    async def waiting(self, channel: str) -> int | None:
        self.require_valid_channel_name(channel)
        if "!" in channel:
            return None
        links = (await self._here()).links
        counts: list[int] = [await links.call(place, key, "ZCARD", key) for place, key in self._ring.spots(channel)]
        return sum(counts)

    async def pause(self, channel: str) -> None:
        for place, key, links in await self._spots(channel):
            await links.call(place, key, "SET", paused_of(key), "1")

    async def resume(self, channel: str) -> None:
        for place, key, links in await self._spots(channel):
            await links.call(place, key, "DEL", paused_of(key))

    async def is_paused(self, channel: str) -> bool:
        found = [
            await links.call(place, key, "EXISTS", paused_of(key)) for place, key, links in await self._spots(channel)
        ]
        return any(found)

    async def _spots(self, channel: str) -> list[tuple[Place, str, Links]]:
        self.require_valid_channel_name(channel)
        links = (await self._here()).links
        return [(place, key, links) for place, key in self._ring.spots(channel)]

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        links = (await self._here()).links
        together: dict[tuple[Place, str], list[tuple[str, str]]] = {}
        found: dict[str, list[int]] = {}
        for channel in channels:
            found[channel] = [0, 0, 0, 0]
            for place, key in self._ring.spots(channel):
                together.setdefault((place, place.together(key)), []).append((channel, key))

        async def count(place: Place, some: Sequence[tuple[str, str]]) -> None:
            keys = [name for _, key in some for name in counted_keys(key)]
            for (channel, _), row in zip(some, await links.run(place, COUNT, keys), strict=True):
                found[channel] = [*map(add, found[channel], row)]

        batches = [
            count(place, some[start : start + _COUNTED])
            for (place, _), some in together.items()
            for start in range(0, len(some), _COUNTED)
        ]
        await asyncio.gather(*batches)
        return {channel: Counts(*row) for channel, row in found.items()}

    async def look(self, channel: str) -> AsyncIterator[Delivery]:
        expiry = self.limits_of(channel).expiry
        if "!" not in channel:
            async for taken in looking.look((await self._here()).links, self._ring.spots(channel), expiry):
                for delivery in self._deliveries(channel, taken):
                    delivery.due = taken.due
                    yield delivery

    # Dead letters.

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self.bury_many([(delivery, letter)])

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        dropped = await self._letters.keep((await self._here()).links, buried)
        note_ended([delivery for delivery, _ in buried])
        self._warn_of_lost_letters(dropped)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        return await self._letters.read_all((await self._here()).links, channel)

    async def replay(self, id: str) -> None:  # noqa: A002
        await self._letters.replay((await self._here()).links, id)

    async def drop(self, id: str) -> None:  # noqa: A002
        await self._letters.drop((await self._here()).links, id)

    # The end.

    async def flush(self) -> None:
        """Delete everything whose key begins with the prefix, step by step: no server stands still for it."""
        self._private.mailroom.clear()
        links = (await self._here()).links
        for place in self._ring.places:
            await links.delete_all(place, self.prefix)

    async def close(self) -> None:
        self._plain.close()
        here = asyncio.get_running_loop()
        for loop, open_there in list(self._loops.items()):
            if loop is here:
                await open_there.close()
                continue
            try:
                loop.call_soon_threadsafe(open_there.close_soon)
            except RuntimeError:  # a loop that is closed has closed what was open in it
                self._forget(open_there)

    def _forget(self, closed: InLoop) -> None:
        if self._loops.get(closed.loop) is closed:
            del self._loops[closed.loop]

    # What else code written for channels_redis calls.

    def consistent_hash(self, value: str | bytes) -> int:
        """Return the position in `hosts` of the server that a private channel or a group belongs to."""
        return self._ring.index(value.encode() if isinstance(value, str) else value)

    def _group_key(self, group: str) -> bytes:
        """Return the key that holds the members of a group."""
        return self._ring.group(group)[1].encode()

    def get_capacity(self, channel: str) -> int:
        """Return how many events may wait on a channel."""
        return self.limits_of(channel).capacity

    def valid_channel_name(self, channel_name: object, receive: bool = False) -> bool:  # noqa: FBT001, FBT002  (Channels' signature)
        """Return True for a channel's name, or raise TypeError: the old name of `require_valid_channel_name`."""
        return self.require_valid_channel_name(channel_name, receive)

    def valid_group_name(self, group_name: object) -> bool:
        """Return True for a group's name, or raise TypeError: the old name of `require_valid_group_name`."""
        return self.require_valid_group_name(group_name)

    async def close_pools(self) -> None:
        """Let go of what is open: channels_redis' name for `close`."""
        await self.close()

    async def wait_received(self) -> None:
        """Do nothing: what was received leaves nothing behind that would have to be waited for."""

    async def _here(self) -> InLoop:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is not None and here.closing:
            raise LayerUnavailable(self.url, CLOSED)
        if here is None:
            for other in [other for other in list(self._loops) if other.is_closed()]:
                self._loops.pop(other, None)
            here = self._loops[loop] = InLoop(self.prefix, self.url, self._codec, self._forget)
            await here.enter()
        return here


#: All layers of this process.
_layers: "WeakSet[RedisChannelLayer]" = WeakSet()


def _after_fork() -> None:
    for layer in list(_layers):
        layer._own_private_channels()  # noqa: SLF001  (our own)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
