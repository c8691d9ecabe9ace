"""Sends that are awaited together go out together: one command for all those of a turn of the event loop.

The first of a turn goes at once, for it may be the only one.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

from channelmap.errors import LayerUnavailable
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


_Letter = tuple["asyncio.Future[bool]", bytes]


class Outbox:
    """What is sent in one event loop.

    Args:
        links: the connections to send over.
        stamp: makes score and member of each body; called when they go, so once for many.

    """

    def __init__(self, links: Links, stamp: Callable[[Sequence[bytes]], list[Any]]) -> None:
        self._links = links
        self._stamp = stamp
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._letters: dict[tuple[Place, str], tuple[Limits, list[_Letter]]] = {}
        self._posting: set[asyncio.Task[None]] = set()

    async def send(self, place: Place, key: str, limits: Limits, body: bytes) -> bool:
        """Send one event; False when the queue is full. Raises as `Links.run`."""
        if not self._open:
            self._open = True
            self._loop.call_soon(self._post)
            return bool(await self._links.run(place, SEND, [key], *terms_of(limits), 1, *self._stamp([body])))
        posted: asyncio.Future[bool] = self._loop.create_future()
        letters = self._letters.get((place, key))
        if letters is None:
            letters = self._letters[place, key] = (limits, [])
        letters[1].append((posted, body))
        return await posted

    def _post(self) -> None:
        self._open = False
        letters, self._letters = self._letters, {}
        for (place, key), (limits, of_key) in letters.items():
            for start in range(0, len(of_key), CHUNK):
                task = self._loop.create_task(self._send(place, key, limits, of_key[start : start + CHUNK]))
                self._posting.add(task)
                task.add_done_callback(self._posting.discard)

    async def _send(self, place: Place, key: str, limits: Limits, letters: list[_Letter]) -> None:
        # Whoever was cancelled meanwhile has sent nothing.
        letters = [letter for letter in letters if not letter[0].done()]
        parts = self._stamp([body for _, body in letters])
        try:
            added = await self._links.run(place, SEND, [key], *terms_of(limits), 1, *parts)
        except LayerUnavailable as error:
            for posted, _ in letters:
                if not posted.done():
                    posted.set_exception(LayerUnavailable(error.url, error.reason))
            return
        for number, (posted, _) in enumerate(letters):
            if not posted.done():
                posted.set_result(number < added)
