"""Looks, now and then, whether something can be taken from the channels on which takers wait under a lease.

The server tells of changes (see `watching`), but word may get lost when a node leaves a Cluster. A look asks for
hundreds of channels at once, and the looks are spread over time: idle channels cost next to nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.keys import watched_keys
from channelmap.layers.redis.lease_scripts import FIND
from channelmap.layers.redis.links import Links
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.watching import WATCH_SECS

#: Channels for which one command asks.
_BATCH = 500

_Spot = tuple[Place, str]
_Waiter = asyncio.Future[None]


class Rounds:
    """Looks at all waited-for channels in turn, at each within `WATCH_SECS`.

    Args:
        links: the connections.

    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._waiters: dict[_Spot, set[_Waiter]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed: LayerUnavailable | None = None

    def join(self, spots: Sequence[_Spot], waiter: _Waiter) -> None:
        """Finish the future when a look has found something at one of the spots; on `close` it fails."""
        if self._closed is not None:
            _fail(waiter, self._closed)
            return
        for spot in spots:
            self._waiters.setdefault(spot, set()).add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._go_round())

    def leave(self, spots: Sequence[_Spot], waiter: _Waiter) -> None:
        """Wait no longer."""
        for spot in spots:
            waiters = self._waiters.get(spot, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(spot, None)

    async def close(self, error: LayerUnavailable) -> None:
        """Tell this error to everyone who waits, or is going to."""
        self._closed = error
        for waiters in self._waiters.values():
            for waiter in waiters:
                _fail(waiter, error)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_round(self) -> None:
        while self._waiters:
            batches = self._batches()
            for place, keys in batches:
                # A waiter that joins during this round is looked at in the next one, which must not be too late either.
                await asyncio.sleep(WATCH_SECS / 2 / len(batches))
                await self._look(place, [key for key in keys if (place, key) in self._waiters])

    def _batches(self) -> list[tuple[Place, list[str]]]:
        together: dict[tuple[Place, str], list[str]] = defaultdict(list)
        for place, key in self._waiters:
            together[place, place.together(key)].append(key)
        return [
            (place, keys[start : start + _BATCH])
            for (place, _), keys in together.items()
            for start in range(0, len(keys), _BATCH)
        ]

    async def _look(self, place: Place, keys: list[str]) -> None:
        if not keys:
            return
        try:
            found = await self._links.run(place, FIND, [name for key in keys for name in watched_keys(key)])
        except LayerUnavailable:
            # The next take says what is wrong with the server.
            found = [1] * len(keys)
        for key, something in zip(keys, found, strict=True):
            if something:
                for waiter in self._waiters.get((place, key), ()):
                    if not waiter.done():
                        waiter.set_result(None)


def _fail(waiter: _Waiter, error: LayerUnavailable) -> None:
    if not waiter.done():
        waiter.set_exception(error)
        # A cancelled taker does not look.
        waiter.exception()
