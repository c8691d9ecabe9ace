"""Groups: each is a sorted set of channel names, as in channels_redis."""

import asyncio
import logging
from collections.abc import Callable

from channelmap.asgi import Event
from channelmap.layers.redis.codec import ADDRESS, Codec
from channelmap.layers.redis.loop_state import LoopState
from channelmap.layers.redis.queues import Queues, queue_of
from channelmap.layers.redis.scripts import JOIN, MEMBERS, SEND
from channelmap.layers.redis.sender import limit_arguments
from channelmap.limits import Limits

log = logging.getLogger("channelmap.layers.redis")


class Groups:
    """The groups of a layer; each method raises as `ConnectionPool.run`.

    Args:
        queues: where the queues and groups are.
        codec: packs the events.
        expiry: seconds after which a membership ends.
        limits_of: returns a channel's limits.

    """

    def __init__(self, queues: Queues, codec: Codec, expiry: float, limits_of: Callable[[str], Limits]) -> None:
        self._queues = queues
        self._codec = codec
        self._expiry = expiry
        self._limits_of = limits_of

    async def add(self, state: LoopState, group: str, channel: str) -> None:
        """Add the channel, or renew its membership."""
        topology, key = self._queues.group(group)
        await state.pool.run(topology, JOIN, [key], repr(float(self._expiry)), channel)

    async def discard(self, state: LoopState, group: str, channel: str) -> None:
        """Remove the channel."""
        topology, key = self._queues.group(group)
        await state.pool.call(topology, key, "ZREM", key, channel)

    async def send(self, state: LoopState, group: str, event: Event) -> None:
        """Send to all members: one round trip for their names, one for all events."""
        topology, key = self._queues.group(group)
        members = await state.pool.run(topology, MEMBERS, [key], repr(float(self._expiry)))
        queues: dict[str, list[str]] = {}
        for member in members:
            queues.setdefault(queue_of(member.decode()), []).append(member.decode())
        full = sum(await asyncio.gather(*[self._send(state, group, names, event) for names in queues.values()]))
        if full:
            log.info("%d of %d channels over capacity in group %s", full, len(members), group)

    async def _send(self, state: LoopState, group: str, names: list[str], event: Event) -> int:
        """Send to the members that share a queue; return how many did not get the event."""
        topology, key = self._queues.home(names[0])
        stamped = self._codec.stamped([self._codec.body(group, {**event, ADDRESS: names})])
        fits = await state.pool.run(topology, SEND, [key], *limit_arguments(self._limits_of(names[0])), 1, *stamped)
        return 0 if fits else len(names)
