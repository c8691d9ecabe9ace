"""Learns that a channel has changed without taking anything from it.

What is taken under a lease must come and be leased in one step, and no blocking command does that. So the server is
asked to tell when a key changes that we have looked at (CLIENT TRACKING), whoever changes it.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from channelmap.layers.redis.faults import worth_another_try
from channelmap.layers.redis.links import Links
from channelmap.layers.redis.places import Place

if TYPE_CHECKING:
    from channelmap.layers.redis.wire import Wire

#: Seconds within which `Rounds` looks at a channel: word may get lost when a node leaves a Cluster.
WATCH_SECS = 30.0

#: What follows the hash tag in the name of the sharded pub/sub channel that is subscribed to for each tag. Nothing is
#: published there: a node of a Cluster ends the subscription when the tag's slot moves to another node.
_SLOT = "$slot"


class Watcher:
    """Waits for changes of keys of one place."""

    def __init__(self, links: Links, place: Place) -> None:
        self._links = links
        self._place = place
        self._changes: dict[str, asyncio.Future[None]] = {}
        #: The connections on which the moves of each hash tag's slot are told.
        self._followed: dict[str, Wire] = {}

    async def watch(self, keys: list[str]) -> "asyncio.Future[None]":
        """Return a future that is done when one of a channel's keys has changed since now, or may have moved."""
        change = self._changes.get(keys[0])
        if change is not None and not change.done():
            return change
        change = asyncio.get_running_loop().create_future()
        self._changes |= dict.fromkeys(keys, change)
        try:
            try:
                await self._track(keys)
            except Exception as error:
                if not worth_another_try(self._place, error):
                    raise
                await self._track(keys)
        except BaseException:
            # Others may already wait for it, and nothing would be told.
            _finish(change)
            raise
        return change

    async def _track(self, keys: list[str]) -> None:
        """Look at the keys over a connection on which the server then tells when they change."""
        wire = await self._links.line(
            self._place, keys[0], "watch", told=self._told, then=[("CLIENT", "TRACKING", "ON")]
        )
        calls = [wire.call("EXISTS", *keys)]
        tag = self._place.together(keys[0])
        if tag and self._followed.get(tag) is not wire:
            self._followed[tag] = wire
            calls.append(wire.call("SSUBSCRIBE", tag + _SLOT))
        for result in await asyncio.gather(*calls, return_exceptions=True):
            # A user of an ACL may lack the right to subscribe; then a move is noticed when the next look is due.
            if isinstance(result, BaseException) and not (tag and str(result).startswith("NOPERM")):
                self._followed.pop(tag, None)
                raise result

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
        elif message[0] == b"sunsubscribe":
            tag = message[1].decode().removesuffix(_SLOT)
            self._followed.pop(tag, None)
            for name in [name for name in self._changes if self._place.together(name) == tag]:
                _finish(self._changes.pop(name))


def _finish(change: "asyncio.Future[None]") -> None:
    if not change.done():
        change.set_result(None)
