"""Read the state of many channels with few commands."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from channelmap.layer import Counts
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.keys import counted_keys
from channelmap.layers.redis.lease_scripts import COUNT
from channelmap.layers.redis.queues import Queues, in_batches


@dataclass(slots=True)
class _Sum:
    """The sums over all hosts for one channel."""

    numbers: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    ages: list[float] = field(default_factory=list)

    def add(self, row: Sequence[Any]) -> None:
        waiting, scheduled, leased, dead, oldest, paused, totals = row
        self.numbers.update(waiting=waiting, scheduled=scheduled, leased=leased, paused=paused)
        self.dead.update(_pairs(dead))
        self.totals.update(_pairs(totals))
        self.ages += [float(oldest)] if oldest else []

    def counts(self) -> Counts:
        numbers, oldest = self.numbers, max(self.ages, default=None)
        return Counts(
            numbers["waiting"], numbers["scheduled"], numbers["leased"], dict(self.dead), oldest,
            bool(numbers["paused"]), dict(self.totals),
        )  # fmt: skip


async def counts(pool: ConnectionPool, queues: Queues, channels: Iterable[str]) -> dict[str, Counts]:
    """Return the state of each channel, summed over all hosts; raises as `ConnectionPool.run`.

    Dead letters that were written without their code have the code ''.
    """
    found = {channel: _Sum() for channel in channels}
    shards = [(shard, channel) for channel in found for shard in queues.shards(channel)]

    async def count(topology: Topology, batch: Sequence[tuple[str, str]]) -> None:
        keys = [name for key, _ in batch for name in counted_keys(key)]
        for (_, channel), row in zip(batch, await pool.run(topology, COUNT, keys), strict=True):
            found[channel].add(row)

    await asyncio.gather(*[count(topology, batch) for topology, batch in in_batches(shards)])
    return {channel: one.counts() for channel, one in found.items()}


async def foreign_readers(pool: ConnectionPool, topologies: Iterable[Topology]) -> int | None:
    """Return how many readers of channels_redis wait on the hosts; `None` if the user may not list clients.

    They wait with BZPOPMIN, which this layer never uses. Readers of other databases are left out.
    """
    count = 0
    for topology in topologies:
        clients = await pool.clients(topology)
        if clients is None:
            return None
        database = str(topology.options.get("db") or 0)
        count += sum(one["cmd"] == "bzpopmin" and "b" in one["flags"] and one["db"] == database for one in clients)
    return count


def _pairs(flat: Sequence[bytes | int]) -> dict[str, int]:
    """Return names and numbers that a script returns in one list."""
    return {bytes(name).decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}
