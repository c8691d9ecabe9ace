"""Events as a queue holds them, and how they return to it."""

from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.scripts import PUT_BACK

#: Member and score of each event.
Rows = list[tuple[bytes, float]]


async def put_back(pool: ConnectionPool, topology: Topology, key: str, rows: Rows, ttl: int | str) -> None:
    """Return events to the front of a queue.

    Args:
        pool: the connections.
        topology: where the queue is.
        key: its key.
        rows: the events.
        ttl: seconds until the key expires; '' for never.

    Raises:
        LayerUnavailable: the server cannot be reached, or refuses.

    """
    pairs = [part for member, score in rows for part in (repr(score), member)]
    await pool.run(topology, PUT_BACK, [key], ttl, *pairs)
