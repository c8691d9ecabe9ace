"""Peek at the events of a channel without taking them, a batch at a time: all commands only read."""

from collections.abc import AsyncIterator, Sequence

from channelmap.layers.packing import unpack_rows
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.keys import keys_of, record_of, scheduled_of
from channelmap.layers.redis.leases import Taken
from channelmap.layers.redis.queues import Shards
from channelmap.layers.redis.rows import Rows

_BATCH = 100


async def peek(pool: ConnectionPool, shards: Shards, expiry: float | None) -> AsyncIterator[Taken]:
    """Yield the events of a channel: the leased, then the scheduled, then the waiting ones.

    Args:
        pool: the connections.
        shards: the shards of the channel's queue.
        expiry: waiting events that are older than so many seconds are left out.

    Raises:
        LayerUnavailable: a server cannot be reached, or refuses.

    """
    for topology, key in shards:
        for leased in (_leased, _scheduled, _leased_by_0_1):
            async for taken in leased(pool, topology, key):
                yield taken
    # Events that a reader of channels_redis has in flight count as waiting: they return when taking begins.
    keys = [(topology, key + end) for topology, key in shards for end in ("$inflight", "")]
    async for row in _merged([_rows(pool, topology, key, expiry) for topology, key in keys]):
        yield Taken([row])


async def _leased(pool: ConnectionPool, topology: Topology, key: str) -> AsyncIterator[Taken]:
    until, batches = record_of(key)
    async for rows in _batches(pool, topology, until, "-inf"):
        for ticket, _ in rows:
            found, status = await pool.call(topology, batches, "HMGET", batches, ticket, ticket + b":")
            if found is not None:  # else it was settled between the two commands
                events, attempts = unpack_rows(found, as_bytes=True)
                held = _held(status, len(events) // 2)
                yield Taken(
                    [(events[2 * number], float(events[2 * number + 1])) for number in held],
                    [attempts[number] for number in held] if attempts else (),
                )


def _held(status: bytes | None, count: int) -> list[int]:
    """Return the numbers of the events under a lease; all numbers if its status is damaged, which `TAKE` repairs."""
    marks = status.split()[-1] if status else b""
    return [number for number in range(count) if len(marks) != count or marks[number] == ord("1")]


async def _scheduled(pool: ConnectionPool, topology: Topology, key: str) -> AsyncIterator[Taken]:
    async for rows in _batches(pool, topology, scheduled_of(key), "-inf"):
        for entry, due in rows:
            attempt, sent, member = entry.split(b" ", 2)
            yield Taken([(member, float(sent))], [int(attempt)], due=due)


async def _leased_by_0_1(pool: ConnectionPool, topology: Topology, key: str) -> AsyncIterator[Taken]:
    leases, leased = keys_of(key)[-2:]
    async for rows in _batches(pool, topology, leases, "-inf"):
        notes = await pool.call(topology, leased, "HMGET", leased, *[member for member, _ in rows])
        for (member, ends), note in zip(rows, notes, strict=True):
            # Without a note it was settled between the two commands.
            if note is not None:
                sent, attempt = _sent_and_attempt(note) or (ends, 1)
                yield Taken([(member, sent)], [attempt])


def _sent_and_attempt(note: bytes) -> tuple[float, int] | None:
    """Parse a value of `K$leased`; return `None` if it is damaged, which `TAKE` repairs."""
    try:
        attempt, holder, sent = note.split()
        return float(sent), int(attempt) + (holder == b"-")
    except ValueError:
        return None


async def _merged(streams: Sequence[AsyncIterator[tuple[bytes, float]]]) -> AsyncIterator[tuple[bytes, float]]:
    """Merge streams that are sorted by score."""
    heads = [(row, stream) for stream in streams if (row := await anext(stream, None))]
    while heads:
        first = min(heads, key=lambda head: head[0][1])
        row, stream = first
        yield row
        heads.remove(first)
        if following := await anext(stream, None):
            heads.append((following, stream))


async def _rows(
    pool: ConnectionPool, topology: Topology, key: str, expiry: float | None
) -> AsyncIterator[tuple[bytes, float]]:
    lowest = "-inf"
    if expiry is not None:
        secs, micros = await pool.call(topology, key, "TIME")
        lowest = repr(int(secs) + int(micros) / 1e6 - expiry)
    async for rows in _batches(pool, topology, key, lowest):
        for member, score in rows:
            yield member, score


async def _batches(pool: ConnectionPool, topology: Topology, key: str, lowest: str) -> AsyncIterator[Rows]:
    """Read a sorted set from a score upwards; ranks would change when other workers take."""
    seen: set[bytes] = set()
    while True:
        # Events of several senders may share a score: events with the last score are read again, and skipped.
        count = _BATCH + len(seen)
        found = await pool.call(
            topology, key, "ZRANGE", key, lowest, "+inf", "BYSCORE", "LIMIT", 0, count, "WITHSCORES"
        )
        rows = [row for row in found if row[0] not in seen]
        if not rows:
            return
        yield rows
        last = rows[-1][1]
        lowest, seen = repr(last), {member for member, score in found if score == last}
