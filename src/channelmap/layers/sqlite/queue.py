"""Operations on waiting events, as plain functions of a connection; `leases` has those on taken events.

Invariant of the table `waiting`: the positions of a channel are dense. Sending appends at last + 1, taking removes a
prefix, returning prepends at first - 1. So a channel is full if the position `capacity - 1` below its last one exists,
and all operations take constant time. The table holds only events that were never delivered, or were returned at their
first attempt.

If another process has locked the file, a function raises `sqlite3.OperationalError` without any change, and can be
called again.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from channelmap.layer import Purged
from channelmap.layers.ids import new_id
from channelmap.layers.sqlite.clock import Database
from channelmap.limits import Limits

# On a full channel the subquery yields the last position again, or NULL if all events are scheduled. A row that exists,
# or has no position, is ignored: rowcount 0. Scheduled events count towards the capacity.
# VALUES with a subquery: INSERT ... SELECT from the table itself goes through a temporary one (+2 us of 17).
# Placeholders are bound in their order, in all statements: numbered ones (?1) warn before Python 3.12.4.
_APPEND = """
INSERT OR IGNORE INTO waiting VALUES (?, ifnull((
    SELECT position + NOT EXISTS (
        SELECT 1 FROM waiting WHERE channel = last.channel AND position <= last.position - ? + 1
            + ifnull((SELECT events FROM scheduled_counts WHERE channel = last.channel), 0)
    )
    FROM waiting AS last WHERE channel = ? ORDER BY position DESC LIMIT 1
), iif(? > ifnull((SELECT events FROM scheduled_counts WHERE channel = ?), 0), 1, NULL)), ?, ?, ?)
"""
_SCHEDULE = "INSERT INTO scheduled (channel, due, sent, attempt, event_id, body) VALUES (?, ?, ?, 1, ?, ?)"
_SCHEDULED_COUNT = "SELECT ifnull((SELECT events FROM scheduled_counts WHERE channel = ?), 0)"
# Without a capacity check: a scheduled event already counts.
_MOVE_DUE = """
INSERT INTO waiting
SELECT channel, ifnull((SELECT max(position) FROM waiting WHERE channel = scheduled.channel), 0) + 1,
    sent, event_id, body
FROM scheduled WHERE id = ?
"""
_PREPEND = """
INSERT INTO waiting VALUES (?, ifnull((SELECT min(position) FROM waiting WHERE channel = ?), 1) - 1, ?, ?, ?)
"""
_EXPIRE = """
DELETE FROM waiting WHERE channel = ? AND position < ifnull((
    SELECT position FROM waiting WHERE channel = ? AND sent >= ? ORDER BY position LIMIT 1
), 9223372036854775807)
"""

_READ_FRONT = """
SELECT sent, event_id, body FROM waiting
WHERE channel = ? AND NOT EXISTS (SELECT 1 FROM paused WHERE channel = ?) ORDER BY position LIMIT ?
"""
_REMOVE_FRONT = """
DELETE FROM waiting
WHERE channel = ? AND position < (SELECT min(position) FROM waiting WHERE channel = ?) + ?
"""

# One seek per channel and table, however many events a channel has. DISTINCT would scan all events.
_OCCUPIED = """
WITH RECURSIVE
    of_waiting (name) AS (
        SELECT min(channel) FROM waiting UNION ALL
        SELECT (SELECT min(channel) FROM waiting WHERE channel > name) FROM of_waiting WHERE name IS NOT NULL
    ),
    of_leased (name) AS (
        SELECT min(channel) FROM leased UNION ALL
        SELECT (SELECT min(channel) FROM leased WHERE channel > name) FROM of_leased WHERE name IS NOT NULL
    ),
    of_scheduled (name) AS (
        SELECT min(channel) FROM scheduled UNION ALL
        SELECT (SELECT min(channel) FROM scheduled WHERE channel > name) FROM of_scheduled WHERE name IS NOT NULL
    )
SELECT name FROM of_waiting WHERE name IS NOT NULL UNION SELECT name FROM of_leased WHERE name IS NOT NULL
UNION SELECT name FROM of_scheduled WHERE name IS NOT NULL
"""

_READ = """
SELECT sent + ?, event_id, body, position FROM waiting
WHERE channel = ? AND position > ? AND sent >= ? ORDER BY position LIMIT ?
"""

# Two seeks; min and max in one SELECT would be a scan.
_COUNT = """
SELECT ifnull(
    (SELECT max(position) FROM waiting WHERE channel = ?) - (SELECT min(position) FROM waiting WHERE channel = ?) + 1, 0
)
"""

_SENT_FIRST = "SELECT sent FROM waiting WHERE channel = ? ORDER BY position LIMIT 1"

#: The tables that `clear` empties; triggers keep the others.
_TABLES = (
    "waiting", "leased", "lease_progress", "scheduled", "paused", "members", "dead_letters", "workers", "totals",
)  # fmt: skip

#: The send time of an event, its id and its body.
Row = tuple[float, int, bytes]


class Sent(NamedTuple):
    """Events that are sent to a channel together, as ids and bodies, with their common delay."""

    channel: str
    events: Sequence[tuple[int, bytes]]
    limits: Limits
    delay: float | None = None


class Listed(NamedTuple):
    """Events that were read and not taken, and the id or position after which to continue.

    Send times and due times are wall times. Events without an entry in `attempts` are at their first attempt.
    """

    rows: Sequence[Row]
    after: int
    attempts: Sequence[int] = ()
    due: Sequence[float] = ()


class transaction:  # noqa: N801  (reads as the statement that it is; a generator would cost 1 us more)
    """A transaction that commits at the end of the block, unless the block raises or has rolled back."""

    __slots__ = ("_db",)

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> None:
        # IMMEDIATE: a transaction that first reads and then writes may fail in the middle.
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: object, *_: object) -> None:
        try:
            if error is None and self._db.in_transaction:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


class reading(transaction):  # noqa: N801  (as above)
    """A transaction that only reads: all statements of the block see the same state."""

    __slots__ = ()

    def __enter__(self) -> None:
        self._db.execute("BEGIN")


def append(db: Database, channel: str, event_id: int, body: bytes, limits: Limits) -> bool:
    """Append one event; return False if the channel is full."""
    values = _values(channel, limits, db.now, event_id, body)
    if db.execute(_APPEND, values).rowcount:
        return True
    return expire(db, channel, limits) > 0 and db.execute(_APPEND, values).rowcount > 0


def _values(channel: str, limits: Limits, now: float, event_id: int, body: bytes) -> tuple[object, ...]:
    return channel, limits.capacity, channel, limits.capacity, channel, now, event_id, body


def append_each(db: Database, sends: Sequence[Sent]) -> list[bool]:
    """Perform several sends in one transaction; return for each whether all its events fitted."""
    with transaction(db):
        return [_append_or_undo(db, *sent) for sent in sends]


def _append_or_undo(
    db: Database, channel: str, events: Sequence[tuple[int, bytes]], limits: Limits, delay: float | None
) -> bool:
    if delay is not None:
        return _schedule(db, channel, events, limits, delay)
    if len(events) == 1:
        return append(db, channel, *events[0], limits)
    db.execute("SAVEPOINT send")
    fits = all(append(db, channel, *event, limits) for event in events)
    if not fits:
        db.execute("ROLLBACK TO send")
    db.execute("RELEASE send")
    return fits


def append_all(db: Database, channel: str, events: Sequence[tuple[int, bytes]], limits: Limits) -> bool:
    """Append all events, or none and return False if they do not fit."""
    with transaction(db):
        expire(db, channel, limits)
        now = db.now
        values = [_values(channel, limits, now, *event) for event in events]
        fits = db.executemany(_APPEND, values).rowcount == len(events)
        if not fits:
            db.execute("ROLLBACK")
    return fits


def schedule(db: Database, channel: str, events: Sequence[tuple[int, bytes]], limits: Limits, delay: float) -> bool:
    """Schedule all events for `delay` seconds from now, or none and return False if they do not fit."""
    with transaction(db):
        return _schedule(db, channel, events, limits, delay)


def _schedule(db: Database, channel: str, events: Sequence[tuple[int, bytes]], limits: Limits, delay: float) -> bool:
    expire(db, channel, limits)
    there = count(db, channel) + int(db.execute(_SCHEDULED_COUNT, (channel,)).fetchone()[0])
    due = db.now + delay
    if there + len(events) <= limits.capacity:
        db.executemany(_SCHEDULE, [(channel, due, due, *event) for event in events])
        return True
    return False


def move_due(db: Database, scheduled: Sequence[int]) -> None:
    """Move due scheduled events to the ends of their channels."""
    ids = [(one,) for one in scheduled]
    db.executemany(_MOVE_DUE, ids)
    db.executemany("DELETE FROM scheduled WHERE id = ?", ids)


def expire(db: Database, channel: str, limits: Limits) -> int:
    """Drop expired events at the front, and return their number."""
    if limits.expiry is None:
        return 0
    return db.execute(_EXPIRE, (channel, channel, db.now - limits.expiry)).rowcount


def clean(db: Database, private: Limits, group_expiry: float) -> None:
    """Drop expired events on private channels, and expired group memberships."""
    # Names as `new_channel` makes them: a range of the primary key, no scan.
    names = "SELECT DISTINCT channel FROM waiting WHERE channel >= 'specific.' AND channel < 'specific/'"
    for (channel,) in db.execute(names).fetchall():
        expire(db, channel, private)
    db.execute("DELETE FROM members WHERE added < ?", (db.now - group_expiry,))


def occupied(db: Database) -> list[str]:
    """Return the channels that have waiting, leased or scheduled events."""
    return [name for (name,) in db.execute(_OCCUPIED)]


def remove_front(db: Database, channel: str, limit: int, limits: Limits) -> list[Row]:
    """Remove up to `limit` events from the front and return them."""
    expire(db, channel, limits)
    # SELECT and DELETE of the prefix: DELETE ... RETURNING costs twice as much per event.
    rows: list[Row] = db.execute(_READ_FRONT, (channel, channel, limit)).fetchall()
    if rows:
        db.execute(_REMOVE_FRONT, (channel, channel, len(rows)))
    if limits.expiry is None:
        return rows
    # Events behind a returned one may be older.
    oldest = db.now - limits.expiry
    return [row for row in rows if row[0] >= oldest]


def prepend(db: Database, channel: str, row: Row) -> None:
    """Put an event at the front, without a capacity check."""
    db.execute(_PREPEND, (channel, channel, *row))


def count(db: Database, channel: str) -> int:
    """Return the number of waiting events, in constant time."""
    return int(db.execute(_COUNT, (channel, channel)).fetchone()[0])


def age_of_first(db: Database, channel: str) -> float | None:
    """Return the seconds since the first waiting event was sent or due; `None` if no event waits."""
    found = db.execute(_SENT_FIRST, (channel,)).fetchone()
    return None if found is None else max(0.0, db.now - found[0])


def read(db: Database, channel: str, after: int, limit: int, expiry: float | None) -> Listed:
    """Read up to `limit` waiting events with positions above `after`, except expired ones."""
    oldest = -math.inf if expiry is None else db.now - expiry
    found = db.execute(_READ, (db.ahead(), channel, after, oldest, limit)).fetchall()
    return Listed([row[:-1] for row in found], found[-1][-1] if found else after)


def purge(db: Database, channel: str) -> Purged:
    """Delete the waiting and scheduled events of the channel."""
    with transaction(db):
        waiting = db.execute("DELETE FROM waiting WHERE channel = ?", (channel,)).rowcount
        return Purged(waiting, db.execute("DELETE FROM scheduled WHERE channel = ?", (channel,)).rowcount)


def pause(db: Database, channel: str) -> None:
    """Pause the channel: no events are taken from it."""
    db.execute("INSERT OR IGNORE INTO paused VALUES (?)", (channel,))


def resume(db: Database, channel: str) -> None:
    """End a pause."""
    db.execute("DELETE FROM paused WHERE channel = ?", (channel,))


def is_paused(db: Database, channel: str) -> bool:
    """Return whether the channel is paused."""
    return db.execute("SELECT 1 FROM paused WHERE channel = ?", (channel,)).fetchone() is not None


def join(db: Database, group: str, channel: str) -> None:
    """Add the channel to the group, or renew its membership."""
    db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", (group, channel, db.now))


def leave(db: Database, group: str, channel: str) -> None:
    """Remove the channel from the group."""
    db.execute("DELETE FROM members WHERE name = ? AND channel = ?", (group, channel))


def append_to_group(
    db: Database, group: str, body: bytes, expiry: float, limits_of: Callable[[str], Limits]
) -> tuple[list[str], list[str]]:
    """Append the event to each member channel that is not full and not durable.

    Returns:
        The channels that have the event now, and the durable ones, which need a durable connection.

    """
    with transaction(db):
        db.execute("DELETE FROM members WHERE name = ? AND added < ?", (group, db.now - expiry))
        members = db.execute("SELECT channel FROM members WHERE name = ?", (group,)).fetchall()
        durable = [channel for (channel,) in members if limits_of(channel).durable]
        others = [channel for (channel,) in members if not limits_of(channel).durable]
        return [channel for channel in others if append(db, channel, new_id(), body, limits_of(channel))], durable


def clear(db: Database) -> None:
    """Delete everything."""
    with transaction(db):
        for table in _TABLES:
            db.execute(f"DELETE FROM {table}")  # noqa: S608  (the names above)
