"""Count the events of many channels with few commands."""

import asyncio
from collections.abc import Iterable, Sequence
from operator import add

from channelmap.layer import Counts
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.keys import counted_keys
from channelmap.layers.redis.lease_scripts import COUNT
from channelmap.layers.redis.queues import Queues

#: The maximum number of channels in one command.
_BATCH = 500


async def counts(pool: ConnectionPool, queues: Queues, channels: Iterable[str]) -> dict[str, Counts]:
    """Return the numbers of events of each channel, summed over all hosts; raises as `ConnectionPool.run`."""
    by_tag: dict[tuple[Topology, str], list[tuple[str, str]]] = {}
    found: dict[str, list[int]] = {}
    for channel in channels:
        found[channel] = [0, 0, 0, 0]
        for topology, key in queues.shards(channel):
            by_tag.setdefault((topology, topology.hash_tag(key)), []).append((channel, key))

    async def count(topology: Topology, some: Sequence[tuple[str, str]]) -> None:
        keys = [name for _, key in some for name in counted_keys(key)]
        for (channel, _), row in zip(some, await pool.run(topology, COUNT, keys), strict=True):
            found[channel] = [*map(add, found[channel], row)]

    batches = [
        count(topology, some[start : start + _BATCH])
        for (topology, _), some in by_tag.items()
        for start in range(0, len(some), _BATCH)
    ]
    await asyncio.gather(*batches)
    return {channel: Counts(*row) for channel, row in found.items()}
