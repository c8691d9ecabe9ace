"""Learn that a key has changed, whichever client changed it, by client-side caching (CLIENT TRACKING).

The server tells once when a key changes that was read over a tracking connection.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from channelmap.layers.redis.client.faults import note_failure
from channelmap.layers.redis.client.pool import ConnectionPool
from channelmap.layers.redis.client.topology import Topology

if TYPE_CHECKING:
    from channelmap.layers.redis.client.connection import Connection

#: The end of the name, after a hash tag, of the sharded pub/sub subscription that is made for each tag. Nothing is
#: published there: a node of a Cluster ends the subscription when the tag's slot moves to another node.
_SLOT = "$slot"


class Watcher:
    """Waits for changes of keys on one topology.

    A message may get lost when a node leaves a Cluster, so the caller must check the keys now and then as well.
    """

    def __init__(self, pool: ConnectionPool, topology: Topology) -> None:
        self._pool = pool
        self._topology = topology
        self._changes: dict[str, asyncio.Future[None]] = {}
        #: The connections on which the moves of each hash tag's slot are told.
        self._subscriptions: dict[str, Connection] = {}

    async def watch(self, keys: list[str]) -> "asyncio.Future[None]":
        """Return a future that is done when one of the keys has changed since now, or may have moved.

        Args:
            keys: keys with one hash tag. The first one names them all: a second call with it returns the same future.

        Raises:
            Unreached, Lost, hiredis.ReplyError: the server cannot be reached, or refuses.

        """
        change = self._changes.get(keys[0])
        if change is not None and not change.done():
            return change
        change = asyncio.get_running_loop().create_future()
        self._changes |= dict.fromkeys(keys, change)
        try:
            try:
                await self._track(keys)
            except Exception as error:
                if not note_failure(self._topology, error):
                    raise
                await self._track(keys)
        except BaseException:
            # Other callers may already wait for the future, and no message would finish it.
            _finish(change)
            raise
        return change

    async def _track(self, keys: list[str]) -> None:
        """Read the keys over a tracking connection."""
        connection = await self._pool.connection(
            self._topology, keys[0], "watch", on_push=self._received, commands=[("CLIENT", "TRACKING", "ON")]
        )
        calls = [connection.call("EXISTS", *keys)]
        tag = self._topology.hash_tag(keys[0])
        if tag and self._subscriptions.get(tag) is not connection:
            self._subscriptions[tag] = connection
            calls.append(connection.call("SSUBSCRIBE", tag + _SLOT))
        for result in await asyncio.gather(*calls, return_exceptions=True):
            # A user of an ACL may lack the right to subscribe; the caller's next check then notices a move.
            if isinstance(result, BaseException) and not (tag and str(result).startswith("NOPERM")):
                self._subscriptions.pop(tag, None)
                raise result

    def forget(self, keys: list[str]) -> None:
        """Read the keys anew at the next `watch`; futures of earlier calls are done."""
        for key in keys:
            if key in self._changes:
                # Other callers may wait for the future, and no message would finish it.
                _finish(self._changes.pop(key))

    def _received(self, message: Any) -> None:
        """Finish the futures of changed keys; of all keys if the connection was lost, which `None` stands for."""
        if message is None or message[1] is None:
            for change in self._changes.values():
                _finish(change)
        elif message[0] == b"invalidate":
            for key in message[1]:
                if key.decode() in self._changes:
                    _finish(self._changes.pop(key.decode()))
        elif message[0] == b"sunsubscribe":
            tag = message[1].decode().removesuffix(_SLOT)
            self._subscriptions.pop(tag, None)
            for name in [name for name in self._changes if self._topology.hash_tag(name) == tag]:
                _finish(self._changes.pop(name))


def _finish(change: "asyncio.Future[None]") -> None:
    if not change.done():
        change.set_result(None)
