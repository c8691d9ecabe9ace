"""Looking at what lies on a channel without taking it: commands that only read, a batch of events at a time."""

from collections.abc import AsyncIterator, Sequence

from channelmap.layers.packing import unpack_rows
from channelmap.layers.redis.keys import keys_of, record_of, scheduled_of
from channelmap.layers.redis.leases import Taken
from channelmap.layers.redis.links import Links, Rows
from channelmap.layers.redis.loops import Spots
from channelmap.layers.redis.places import Place

_BATCH = 100


async def look(links: Links, spots: Spots, expiry: float | None) -> AsyncIterator[Taken]:
    """Show the events of a channel: the leased, then the scheduled, then those not older than `expiry` seconds.

    Raises:
        LayerUnavailable: a server is away, or refuses.

    """
    for place, key in spots:
        for leased in (_leased, _scheduled, _leased_by_0_1):
            async for taken in leased(links, place, key):
                yield taken
    # What a reader of channels_redis has in hand, or had when it crashed, is put back when taking begins.
    keys = [(place, key + end) for place, key in spots for end in ("$inflight", "")]
    async for row in _merged([_rows(links, place, key, expiry) for place, key in keys]):
        yield Taken([row])


async def _leased(links: Links, place: Place, key: str) -> AsyncIterator[Taken]:
    until, batches = record_of(key)
    async for rows in _batches(links, place, until, "-inf"):
        for ticket, _ in rows:
            found, status = await links.call(place, batches, "HMGET", batches, ticket, ticket + b":")
            if found is not None:  # it was settled between the two commands
                events, attempts = unpack_rows(found, as_bytes=True)
                held = _held(status, len(events) // 2)
                yield Taken(
                    [(events[2 * number], float(events[2 * number + 1])) for number in held],
                    [attempts[number] for number in held] if attempts else (),
                )


def _held(status: bytes | None, count: int) -> list[int]:
    """Return the numbers of the events under a lease; of all of them if its status is damaged, which `TAKE` repairs."""
    marks = status.split()[-1] if status else b""
    return [number for number in range(count) if len(marks) != count or marks[number] == ord("1")]


async def _scheduled(links: Links, place: Place, key: str) -> AsyncIterator[Taken]:
    async for rows in _batches(links, place, scheduled_of(key), "-inf"):
        for entry, due in rows:
            attempt, sent, member = entry.split(b" ", 2)
            yield Taken([(member, float(sent))], [int(attempt)], due=due)


async def _leased_by_0_1(links: Links, place: Place, key: str) -> AsyncIterator[Taken]:
    leases, leased = keys_of(key)[-2:]
    async for rows in _batches(links, place, leases, "-inf"):
        notes = await links.call(place, leased, "HMGET", leased, *[member for member, _ in rows])
        for (member, ends), note in zip(rows, notes, strict=True):
            # Without a note it was settled between the two commands.
            if note is not None:
                sent, attempt = _sent_and_attempt(note) or (ends, 1)
                yield Taken([(member, sent)], [attempt])


def _sent_and_attempt(note: bytes) -> tuple[float, int] | None:
    """Read a value of `K$leased`; None if it is damaged, which `TAKE` repairs."""
    try:
        attempt, holder, sent = note.split()
        return float(sent), int(attempt) + (holder == b"-")
    except ValueError:
        return None


async def _merged(streams: Sequence[AsyncIterator[tuple[bytes, float]]]) -> AsyncIterator[tuple[bytes, float]]:
    """Make one stream of several that are each sorted by score."""
    heads = [(row, stream) for stream in streams if (row := await anext(stream, None))]
    while heads:
        first = min(heads, key=lambda head: head[0][1])
        row, stream = first
        yield row
        heads.remove(first)
        if following := await anext(stream, None):
            heads.append((following, stream))


async def _rows(links: Links, place: Place, key: str, expiry: float | None) -> AsyncIterator[tuple[bytes, float]]:
    lowest = "-inf"
    if expiry is not None:
        secs, micros = await links.call(place, key, "TIME")
        lowest = repr(int(secs) + int(micros) / 1e6 - expiry)
    async for rows in _batches(links, place, key, lowest):
        for member, score in rows:
            yield member, score


async def _batches(links: Links, place: Place, key: str, lowest: str) -> AsyncIterator[Rows]:
    """Read a sorted set from a score on; not by rank, which moves when others take."""
    seen: set[bytes] = set()
    while True:
        # Events of several senders may share a score: those of the last one are read again, and passed over.
        count = _BATCH + len(seen)
        found = await links.call(place, key, "ZRANGE", key, lowest, "+inf", "BYSCORE", "LIMIT", 0, count, "WITHSCORES")
        rows = [row for row in found if row[0] not in seen]
        if not rows:
            return
        yield rows
        last = rows[-1][1]
        lowest, seen = repr(last), {member for member, score in found if score == last}
