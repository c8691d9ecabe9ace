"""Sends that are awaited together go out together: one command for all those of a turn of the event loop.

The first of a turn goes at once, for it may be the only one.
"""

import asyncio
import math

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.links import Links
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.scripts import SEND
from channelmap.terms import Limits

#: Events that one trip carries.
CHUNK = 500

#: How a queue is to be kept: how long an event may wait, how long the key lives without a further event, capacity.
Terms = tuple[str, int | str, int]


def terms_of(limits: Limits) -> Terms:
    """Say how the queue of a channel is to be kept."""
    if limits.expiry is None:
        return "", "", limits.capacity
    return repr(float(limits.expiry)), whole(limits.expiry), limits.capacity


def whole(seconds: float) -> int:
    """Round up a key's time to live: for 0 s it would be deleted at once, and with it what others have put there."""
    return max(1, math.ceil(seconds))


_Unsent = tuple["asyncio.Future[str | None]", bytes]


class Outbox:
    """What is sent in one event loop.

    Args:
        links: the connections to send over.
        codec: makes members of bodies when they go, so of many at once.

    """

    def __init__(self, links: Links, codec: Codec) -> None:
        self._links = links
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._unsent: dict[tuple[Place, str], tuple[Limits, list[_Unsent]]] = {}
        self._posting: set[asyncio.Task[None]] = set()

    async def send(self, place: Place, key: str, limits: Limits, body: bytes) -> str | None:
        """Send one event and return its id; None when the queue is full. Raises as `Links.run`."""
        if not self._open:
            self._open = True
            self._loop.call_soon(self._post)
            stamped = self._codec.stamped([body])
            fits = await self._links.run(place, SEND, [key], *terms_of(limits), 1, *stamped)
            return self._codec.id_of(stamped[1]).hex() if fits else None
        posted: asyncio.Future[str | None] = self._loop.create_future()
        unsent = self._unsent.get((place, key))
        if unsent is None:
            unsent = self._unsent[place, key] = (limits, [])
        unsent[1].append((posted, body))
        return await posted

    def _post(self) -> None:
        self._open = False
        unsent, self._unsent = self._unsent, {}
        for (place, key), (limits, of_key) in unsent.items():
            for start in range(0, len(of_key), CHUNK):
                task = self._loop.create_task(self._send(place, key, limits, of_key[start : start + CHUNK]))
                self._posting.add(task)
                task.add_done_callback(self._posting.discard)

    async def _send(self, place: Place, key: str, limits: Limits, unsent: list[_Unsent]) -> None:
        # Whoever was cancelled meanwhile has sent nothing.
        unsent = [one for one in unsent if not one[0].done()]
        stamped = self._codec.stamped([body for _, body in unsent])
        try:
            added = await self._links.run(place, SEND, [key], *terms_of(limits), 1, *stamped)
        except LayerUnavailable as error:
            for posted, _ in unsent:
                if not posted.done():
                    posted.set_exception(LayerUnavailable(error.url, error.reason))
            return
        for number, ((posted, _), event_id) in enumerate(zip(unsent, self._codec.ids_of(stamped), strict=True)):
            if not posted.done():
                posted.set_result(event_id if number < added else None)
