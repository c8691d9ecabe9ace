"""Learns that a channel has changed without taking anything from it.

What is taken under a lease must come and be leased in one step, and no blocking command does that. So the server is
asked to tell when a key changes that we have looked at (CLIENT TRACKING), whoever changes it.
"""

import asyncio
from typing import Any

from channelmap.layers.redis.links import Links
from channelmap.layers.redis.places import Place

#: Seconds within which `Rounds` looks at a channel: word may get lost when a node leaves a Cluster.
WATCH_SECS = 30.0


class Watcher:
    """Waits for changes of keys of one place."""

    def __init__(self, links: Links, place: Place) -> None:
        self._links = links
        self._place = place
        self._changes: dict[str, asyncio.Future[None]] = {}

    async def watch(self, keys: list[str]) -> "asyncio.Future[None]":
        """Return a future that is done when one of a channel's keys has changed since now."""
        change = self._changes.get(keys[0])
        if change is not None and not change.done():
            return change
        wire = await self._links.line(
            self._place, keys[0], "watch", told=self._told, then=[("CLIENT", "TRACKING", "ON")]
        )
        change = asyncio.get_running_loop().create_future()
        self._changes |= dict.fromkeys(keys, change)
        await asyncio.gather(*[wire.call("ZCARD", key) for key in keys])
        return change

    def forget(self, keys: list[str]) -> None:
        """Look at the keys anew next time."""
        for key in keys:
            if key in self._changes:
                # Others may wait for it, and would never be told.
                _finish(self._changes.pop(key))

    def _told(self, message: Any) -> None:
        """Take in which keys have changed; None when the connection was lost, and anything may have."""
        if message is None or message[1] is None:
            for change in self._changes.values():
                _finish(change)
        elif message[0] == b"invalidate":
            for key in message[1]:
                if key.decode() in self._changes:
                    _finish(self._changes.pop(key.decode()))


def _finish(change: "asyncio.Future[None]") -> None:
    if not change.done():
        change.set_result(None)
