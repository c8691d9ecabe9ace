"""`RedisChannelLayer`, which keeps the promises of `ChannelLayer` in Redis or Valkey."""
# ruff: noqa: D102  (`ChannelLayer` says what each method promises)

import asyncio
import os
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from weakref import WeakSet

from channelmap.asgi import Event
from channelmap.errors import ChannelFull, LayerUnavailable
from channelmap.layer import ChannelLayer, Counts, DeadLetter, Delivery, Purged, WorkerInfo, seconds_until
from channelmap.layers.batches import note_ended
from channelmap.layers.redis import counting, leases, peeking
from channelmap.layers.redis.client import CLOSED, ConnectionPool, SyncPool, Topology, read_hosts
from channelmap.layers.redis.codec import ADDRESS, Codec
from channelmap.layers.redis.deliveries import deliveries_of
from channelmap.layers.redis.groups import Groups
from channelmap.layers.redis.heartbeats import Heartbeats
from channelmap.layers.redis.keys import keys_of, paused_of, record_of, scheduled_of
from channelmap.layers.redis.letters import Letters
from channelmap.layers.redis.loop_state import LoopState
from channelmap.layers.redis.private import PrivateChannels
from channelmap.layers.redis.queues import Queues, Shards
from channelmap.layers.redis.returns import Returns
from channelmap.layers.redis.rows import Rows
from channelmap.layers.redis.scripts import ADOPT, PURGE, SCHEDULE, SEND
from channelmap.layers.redis.sender import CHUNK, limit_arguments
from channelmap.layers.redis.upkeep import Interrupted
from channelmap.limits import Limits

_UNLIMITED = 2**53


class RedisChannelLayer(ChannelLayer):
    """A layer on one or several servers, on the master of a Sentinel service, or on a Cluster.

    The defaults of capacity and expiry are those of channels_redis, whose processes may use the same keys.

    Args:
        hosts: entries as channels_redis takes them, or URLs; `None` for one server on this machine.
        prefix: the prefix of all keys.
        expiry: seconds after which a waiting event is dropped; `None` for never.
        group_expiry: seconds after which a membership of a group ends.
        capacity: the maximum number of waiting events on a channel without a capacity of its own.
        channel_capacity: capacities by name, as in `ChannelLayer`.
        symmetric_encryption_keys: the first encrypts, any decrypts.
        random_prefix_length: random bytes at the beginning of each member; the same for all processes.
        serializer_format: `msgpack` or `json`; the same for all processes.
        dead_letters: the maximum number of dead letters per channel; `None` for the channel's capacity, at least 1,000.
        limits: exact limits by channel name.

    Raises:
        ValueError: `hosts` is not a list, or serializer or encryption keys cannot be used.
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
        self._queues = Queues(read_hosts(hosts), prefix)
        self.url = ",".join(topology.url for topology in self._queues.topologies)
        self._codec = Codec(serializer_format, random_prefix_length, symmetric_encryption_keys)
        self._sync_pool = SyncPool()
        self._loops: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self._own_private_channels()
        _layers.add(self)
        self._groups = Groups(self._queues, self._codec, group_expiry, self.limits_of)
        self._letters = Letters(self._queues, self._codec, self.url, self.limits_of)
        self._heartbeats = Heartbeats(self._queues)
        self._returns = Returns(self._queues, self._codec, self.limits_of)
        #: Shards whose events of crashed readers have returned.
        self._adopted: set[object] = set()
        #: Channels from which events are taken with a lease, here or by another process.
        self._leasing: set[str] = set()

    def _own_private_channels(self) -> None:
        """Make private channels of this process alone: a forked process must not take its parent's events."""
        self.client_prefix = uuid.uuid4().hex
        self._private = PrivateChannels(self._queues, self._codec, self.client_prefix, self.limits_of)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url})"

    # Send events.

    async def send(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        if delay is not None or at is not None:
            return (await self.send_many(channel, [event], delay=delay, at=at))[0]
        limits = self.limits_of(channel)
        (topology, key), body = self._queues.destination(channel), self._body(channel, event)
        state = self._loops.get(asyncio.get_running_loop()) or await self._loop_state()
        event_id = await state.sender.send(topology, key, limits, body)
        if event_id is None:
            raise ChannelFull(self.url, channel, limits.capacity)
        return event_id

    def send_sync(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        wait, limits = seconds_until(delay, at), self.limits_of(channel)
        (topology, key), body = self._queues.destination(channel), self._body(channel, event)
        stamped = self._codec.stamped([body])
        if wait is None:
            fits = self._sync_pool.run(topology, SEND, [key], *limit_arguments(limits), 1, *stamped)
        else:
            fits = self._sync_pool.run(topology, SCHEDULE, [scheduled_of(key)], limits.capacity, repr(wait), stamped[1])
        if not fits:
            raise ChannelFull(self.url, channel, limits.capacity)
        return self._codec.id_of(stamped[1]).hex()

    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str]:
        """Send several events to one host, 500 in each round trip.

        The first trip checks that all events fit. If the server is lost between two trips, the events of the earlier
        trips are sent and the others are not.
        """
        wait, limits = seconds_until(delay, at), self.limits_of(channel)
        (topology, key), bodies = self._queues.destination(channel), [self._body(channel, event) for event in events]
        state = await self._loop_state()
        ids: list[str] = []
        for start in range(0, len(bodies), CHUNK):
            stamped = self._codec.stamped(bodies[start : start + CHUNK])
            # The first trip has checked the room for all events.
            checked = limits if start == 0 else replace(limits, capacity=_UNLIMITED)
            if wait is None:
                fits = await state.pool.run(topology, SEND, [key], *limit_arguments(checked), len(bodies), *stamped)
            else:
                arguments = (checked.capacity, repr(wait))
                fits = await state.pool.run(topology, SCHEDULE, [scheduled_of(key)], *arguments, *stamped[1::2])
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
        await self._groups.add(await self._loop_state(), group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._groups.discard(await self._loop_state(), group, channel)

    async def group_send(self, group: str, event: Event) -> None:
        self.require_valid_group_name(group)
        self.require_valid_event(event)
        await self._groups.send(await self._loop_state(), group, event)

    # Take events.

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        limits = self.limits_of(channel)
        state = await self._loop_state()
        if "!" in channel:
            return await self._private.take(state, channel, limit, wait=wait)
        shards = self._queues.shards(channel)
        await self._adopt(state, channel)
        if lease is not None:
            self._leasing.add(channel)
        if channel not in self._leasing:
            rows = await self._pop(state, shards, limit, limits, wait=wait)
            if rows is not None:
                return deliveries_of(self._codec, channel, leases.Taken(rows))
            self._leasing.add(channel)
        expiry, ttl, _ = limit_arguments(limits)
        request = leases.TakeRequest(channel, limit, expiry, lease, ttl)
        return deliveries_of(self._codec, channel, await leases.take(state, shards, request, wait=wait))

    async def _pop(self, state: LoopState, shards: Shards, limit: int, limits: Limits, *, wait: bool) -> Rows | None:
        """Take without a script, which is faster; return `None` if the channel has leases, which a pop cannot take."""
        await state.upkeep.begin(shards, limit_arguments(limits)[1])
        while not state.upkeep.has_leases(shards):
            if state.upkeep.is_paused(shards):
                if not wait:
                    return []
                await state.upkeep.until_resumed(shards)
            with suppress(Interrupted):
                return (await state.pop(shards, limit, limits, wait=wait)).rows
        return None

    async def _adopt(self, state: LoopState, channel: str) -> None:
        """Return, once, the events that crashed readers of channels_redis had in flight; notice existing leases."""
        for topology, key in self._queues.shards(channel):
            if (topology, key) not in self._adopted:
                # If the server is down, the take below raises.
                with suppress(LayerUnavailable), state.asking(topology, skip=True):
                    keys = [key, f"{key}$inflight", *record_of(key), *keys_of(key)[-2:]]
                    if await state.pool.run(topology, ADOPT, keys):
                        self._leasing.add(channel)
                    self._adopted.add((topology, key))

    # End deliveries.

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        await leases.settle((await self._loop_state()).pool, deliveries)
        note_ended(deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        await self._returns.give_back((await self._loop_state()).pool, deliveries, self._private.local)
        note_ended(deliveries)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        await leases.retry((await self._loop_state()).pool, self.url, delivery, delay)
        note_ended([delivery])

    async def begin(self, delivery: Delivery) -> bool:
        return await leases.begin((await self._loop_state()).pool, self.url, delivery)

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        await leases.renew((await self._loop_state()).pool, self.url, deliveries, lease)

    async def waiting(self, channel: str) -> int | None:
        self.require_valid_channel_name(channel)
        if "!" in channel:
            return None
        pool = (await self._loop_state()).pool
        counts: list[int] = [
            await pool.call(topology, key, "ZCARD", key) for topology, key in self._queues.shards(channel)
        ]
        return sum(counts)

    async def pause(self, channel: str) -> None:
        for topology, key, pool in await self._shards(channel):
            await pool.call(topology, key, "SET", paused_of(key), "1")

    async def resume(self, channel: str) -> None:
        for topology, key, pool in await self._shards(channel):
            await pool.call(topology, key, "DEL", paused_of(key))

    def keys_of(self, channel: str) -> list[tuple[str, str]]:
        """Return kind and name of the keys that grow with the events of a channel, for autoscalers.

        `ZCARD` counts the waiting and the scheduled events, and the leases; a lease has one event or several.
        """
        kinds = (("waiting", lambda key: key), ("leased", lambda key: record_of(key)[0]), ("scheduled", scheduled_of))
        # Several hosts have keys of the same name.
        keys = dict.fromkeys(key for _, key in self._queues.shards(channel))
        return [(kind, name(key)) for kind, name in kinds for key in keys]

    async def is_paused(self, channel: str) -> bool:
        found = [
            await pool.call(topology, key, "EXISTS", paused_of(key))
            for topology, key, pool in await self._shards(channel)
        ]
        return any(found)

    async def _shards(self, channel: str) -> list[tuple[Topology, str, ConnectionPool]]:
        self.require_valid_channel_name(channel)
        pool = (await self._loop_state()).pool
        return [(topology, key, pool) for topology, key in self._queues.shards(channel)]

    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        await self._heartbeats.add((await self._loop_state()).pool, worker, totals, number, last=last)

    async def workers(self) -> list[WorkerInfo]:
        return await self._heartbeats.workers((await self._loop_state()).pool)

    async def foreign_readers(self) -> int | None:
        return await counting.foreign_readers((await self._loop_state()).pool, self._queues.topologies)

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        pool = (await self._loop_state()).pool
        found = await counting.counts(pool, self._queues, channels)
        for channel, counts in found.items():
            if "" in counts.dead:
                # Version 0.1 wrote letters without their codes; the codes are in the letters, which may be encrypted.
                codes = Counter[str](letter.code for letter in await self._letters.read_all(pool, channel))
                found[channel] = replace(counts, dead=dict(codes))
        return found

    async def purge(self, channel: str) -> Purged:
        self._require_purgeable(channel)
        found = [
            await pool.run(topology, PURGE, [key, scheduled_of(key)])
            for topology, key, pool in await self._shards(channel)
        ]
        return Purged(sum(waiting for waiting, _ in found), sum(scheduled for _, scheduled in found))

    async def peek(self, channel: str) -> AsyncIterator[Delivery]:
        expiry = self.limits_of(channel).expiry
        if "!" not in channel:
            async for taken in peeking.peek((await self._loop_state()).pool, self._queues.shards(channel), expiry):
                for delivery in deliveries_of(self._codec, channel, taken):
                    delivery.due = taken.due
                    yield delivery

    # Dead letters.

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self.bury_many([(delivery, letter)])

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        dropped = await self._letters.keep((await self._loop_state()).pool, buried)
        note_ended([delivery for delivery, _ in buried])
        self._warn_of_dropped_letters(dropped)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        return await self._letters.read_all((await self._loop_state()).pool, channel)

    async def replay(self, id: str) -> None:  # noqa: A002
        await self._letters.replay((await self._loop_state()).pool, id)

    async def drop(self, id: str) -> None:  # noqa: A002
        await self._letters.drop((await self._loop_state()).pool, id)

    # Flush and close.

    async def flush(self) -> None:
        """Delete all keys with the prefix, in small steps that do not block the server."""
        self._private.local.clear()
        pool = (await self._loop_state()).pool
        for topology in self._queues.topologies:
            for prefix in self._queues.prefixes(topology):
                await pool.delete_all(topology, prefix)

    async def close(self) -> None:
        self._sync_pool.close()
        current = asyncio.get_running_loop()
        for loop, state in list(self._loops.items()):
            if loop is current:
                await state.close()
                continue
            try:
                loop.call_soon_threadsafe(state.close_soon)
            except RuntimeError:  # a closed loop has closed its connections
                self._forget(state)

    def _forget(self, closed: LoopState) -> None:
        if self._loops.get(closed.loop) is closed:
            del self._loops[closed.loop]

    # Further methods that code for channels_redis calls.

    def consistent_hash(self, value: str | bytes) -> int:
        """Return the position in `hosts` of the server that a private channel or a group belongs to."""
        return self._queues.index(value.encode() if isinstance(value, str) else value)

    def _group_key(self, group: str) -> bytes:
        """Return the key that holds the members of a group."""
        return self._queues.group(group)[1].encode()

    def get_capacity(self, channel: str) -> int:
        """Return the maximum number of waiting events on a channel."""
        return self.limits_of(channel).capacity

    def valid_channel_name(self, channel_name: object, receive: bool = False) -> bool:  # noqa: FBT001, FBT002  (Channels' signature)
        """Return True for a valid channel name, or raise TypeError: the old name of `require_valid_channel_name`."""
        return self.require_valid_channel_name(channel_name, receive)

    def valid_group_name(self, group_name: object) -> bool:
        """Return True for a valid group name, or raise TypeError: the old name of `require_valid_group_name`."""
        return self.require_valid_group_name(group_name)

    async def close_pools(self) -> None:
        """Close the layer: channels_redis' name for `close`."""
        await self.close()

    async def wait_received(self) -> None:
        """Do nothing: receiving leaves no tasks behind."""

    async def _loop_state(self) -> LoopState:
        loop = asyncio.get_running_loop()
        state = self._loops.get(loop)
        if state is not None and state.closing:
            raise LayerUnavailable(self.url, CLOSED)
        if state is None:
            for other in [other for other in list(self._loops) if other.is_closed()]:
                self._loops.pop(other, None)
            state = self._loops[loop] = LoopState(self.prefix, self.url, self._codec, self._forget)
            await state.enter()
        return state


#: All layers of this process, for `_after_fork`.
_layers: "WeakSet[RedisChannelLayer]" = WeakSet()


def _after_fork() -> None:
    for layer in list(_layers):
        layer._own_private_channels()  # noqa: SLF001  (a method of this module)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
