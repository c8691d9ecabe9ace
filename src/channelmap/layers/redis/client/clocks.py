"""The clocks of servers, as offsets from the clock of an event loop."""

import asyncio
import time

from channelmap.layers.redis.client.pool import ConnectionPool
from channelmap.layers.redis.client.topology import Topology

#: Seconds for which an offset is used before the server is asked again.
_VALID_SECS = 60.0


class ServerClocks:
    """The time of each server, without a command for each reading.

    Args:
        pool: the connections over which servers are asked.

    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        #: The server's time minus the loop's, and the loop's time until which that is used.
        self._offsets: dict[Topology, tuple[float, float]] = {}

    def time_of(self, topology: Topology) -> float:
        """Return a server's time in seconds since 1970; this machine's time if the server was never asked."""
        offset, _ = self._offsets.get(topology, (time.time() - self._loop.time(), 0.0))
        return self._loop.time() + offset

    def is_stale(self, topology: Topology) -> bool:
        """Return whether the server should be asked again."""
        return self._offsets.get(topology, (0.0, 0.0))[1] <= self._loop.time()

    async def ask(self, topology: Topology, key: str) -> None:
        """Ask the server that has the key for its time; raises as `ConnectionPool.run`."""
        secs, micros = await self._pool.call(topology, key, "TIME")
        now = self._loop.time()
        self._offsets[topology] = int(secs) + int(micros) / 1e6 - now, now + _VALID_SECS
