"""Poll the channels on which takes with a lease wait, as a fallback for `Watcher`.

The server tells of changes, but a message may get lost when a node leaves a Cluster. One command polls hundreds of
channels, and the commands are spread over time, so idle channels cost almost nothing.
"""

import asyncio
from collections import defaultdict

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.keys import watched_keys
from channelmap.layers.redis.lease_scripts import FIND
from channelmap.layers.redis.queues import Shard, Shards

#: Seconds within which each channel is polled.
POLL_SECS = 30.0
#: The maximum number of channels in one command.
_BATCH = 500

_Waiter = asyncio.Future[None]


class Poller:
    """Polls all channels with waiting takes in turn, each within `POLL_SECS`.

    Args:
        pool: the connections.

    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._waiters: dict[Shard, set[_Waiter]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed: LayerUnavailable | None = None

    def join(self, shards: Shards, waiter: _Waiter) -> None:
        """Finish the future when a poll finds that one of the shards has events; `close` fails it."""
        if self._closed is not None:
            _fail(waiter, self._closed)
            return
        for shard in shards:
            self._waiters.setdefault(shard, set()).add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, shards: Shards, waiter: _Waiter) -> None:
        """Remove the future of `join`."""
        for shard in shards:
            waiters = self._waiters.get(shard, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(shard, None)

    async def close(self, error: LayerUnavailable) -> None:
        """Fail all waiting takes, and later ones, with this error."""
        self._closed = error
        for waiters in self._waiters.values():
            for waiter in waiters:
                _fail(waiter, error)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiters:
            batches = self._batches()
            for topology, keys in batches:
                # A take that joins during this round is polled in the next one, still within `POLL_SECS`.
                await asyncio.sleep(POLL_SECS / 2 / len(batches))
                await self._poll(topology, [key for key in keys if (topology, key) in self._waiters])

    def _batches(self) -> list[tuple[Topology, list[str]]]:
        batches: dict[tuple[Topology, str], list[str]] = defaultdict(list)
        for topology, key in self._waiters:
            batches[topology, topology.hash_tag(key)].append(key)
        return [
            (topology, keys[start : start + _BATCH])
            for (topology, _), keys in batches.items()
            for start in range(0, len(keys), _BATCH)
        ]

    async def _poll(self, topology: Topology, keys: list[str]) -> None:
        if not keys:
            return
        try:
            found = await self._pool.run(topology, FIND, [name for key in keys for name in watched_keys(key)])
        except LayerUnavailable:
            # The next take raises the error.
            found = [1] * len(keys)
        for key, has_events in zip(keys, found, strict=True):
            if has_events:
                for waiter in self._waiters.get((topology, key), ()):
                    if not waiter.done():
                        waiter.set_result(None)


def _fail(waiter: _Waiter, error: LayerUnavailable) -> None:
    if not waiter.done():
        waiter.set_exception(error)
        # A cancelled take would never retrieve it, and asyncio would log that.
        waiter.exception()
