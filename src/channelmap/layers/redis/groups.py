"""Groups: a sorted set of channel names each, as channels_redis keeps them."""

import asyncio
import logging
from collections.abc import Callable

from channelmap.asgi import Event
from channelmap.layers.redis.codec import ADDRESS, Codec
from channelmap.layers.redis.loops import InLoop
from channelmap.layers.redis.outbox import terms_of
from channelmap.layers.redis.ring import Ring, queue_of
from channelmap.layers.redis.scripts import JOIN, MEMBERS, SEND
from channelmap.terms import Limits

log = logging.getLogger("channelmap.layers.redis")


class Groups:
    """The groups of a layer; each method raises as `Links.run`.

    Args:
        ring: where everything is.
        codec: how events are written.
        expiry: seconds after which a member drops out.
        limits_of: how much of a channel is kept.

    """

    def __init__(self, ring: Ring, codec: Codec, expiry: float, limits_of: Callable[[str], Limits]) -> None:
        self._ring = ring
        self._codec = codec
        self._expiry = expiry
        self._limits_of = limits_of

    async def add(self, here: InLoop, group: str, channel: str) -> None:
        """Make the channel a member as from now."""
        place, key = self._ring.group(group)
        await here.links.run(place, JOIN, [key], repr(float(self._expiry)), channel)

    async def discard(self, here: InLoop, group: str, channel: str) -> None:
        """End the channel's membership."""
        place, key = self._ring.group(group)
        await here.links.call(place, key, "ZREM", key, channel)

    async def send(self, here: InLoop, group: str, event: Event) -> None:
        """Send to all members: one trip for their names, one for all events."""
        place, key = self._ring.group(group)
        members = await here.links.run(place, MEMBERS, [key], repr(float(self._expiry)))
        queues: dict[str, list[str]] = {}
        for member in members:
            queues.setdefault(queue_of(member.decode()), []).append(member.decode())
        full = sum(await asyncio.gather(*[self._send(here, group, names, event) for names in queues.values()]))
        if full:
            log.info("%d of %d channels over capacity in group %s", full, len(members), group)

    async def _send(self, here: InLoop, group: str, names: list[str], event: Event) -> int:
        """Send to those members that share a queue; how many of them go without."""
        place, key = self._ring.home(names[0])
        stamped = self._codec.stamped([self._codec.body(group, {**event, ADDRESS: names})])
        fits = await here.links.run(place, SEND, [key], *terms_of(self._limits_of(names[0])), 1, *stamped)
        return 0 if fits else len(names)
