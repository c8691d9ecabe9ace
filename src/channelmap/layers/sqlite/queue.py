"""What can be done with waiting and leased events, each as a plain function of a connection.

The law of the table `events`: the ids of a channel are dense. Sending appends at last + 1, taking removes a
prefix, giving back prepends at first - 1. So a channel is full when the id `capacity - 1` below its last one
exists, and everything costs the same at whatever depth.

A row of `leases` is a lease, or an event that is delivered again at the time `until`. `state` says how:

- NULL: as a suspect, because its worker did not settle it in time.
- `begun`: as a suspect whose handler had started.
- `due`: as a retry, which is not a suspect.

When another process holds the file, a function raises `sqlite3.OperationalError` and has changed nothing: it
can be called again.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from channelmap.layer import Delivery
from channelmap.layers.sqlite.clock import Database
from channelmap.terms import Limits

# On a full channel the subquery yields the last id once more, and a row that exists is ignored: rowcount 0.
# VALUES with a subquery: INSERT ... SELECT from the table itself goes through a temporary one (+2 us of 17).
# Placeholders are bound in their order, in all statements: numbered ones (?1) warn before Python 3.12.4.
_APPEND = """
INSERT OR IGNORE INTO events VALUES (?, ifnull((
    SELECT id + NOT EXISTS (SELECT 1 FROM events WHERE channel = last.channel AND id = last.id - ? + 1)
    FROM events AS last WHERE channel = ? ORDER BY id DESC LIMIT 1
), 1), ?, 1, ?)
"""
_PREPEND = """
INSERT INTO events VALUES (?, ifnull((SELECT min(id) FROM events WHERE channel = ?), 1) - 1, ?, ?, ?)
"""
_PREPEND_LEASED = """
INSERT INTO events
SELECT channel, ifnull((SELECT min(id) FROM events WHERE channel = leases.channel), 1) - 1, sent, attempt, body
FROM leases WHERE id = ?
"""
# What was delivered before stays: its lease promised that it comes again, however late.
_EXPIRE = """
DELETE FROM events WHERE channel = ? AND id < ifnull((
    SELECT id FROM events WHERE channel = ? AND (sent >= ? OR attempt > 1) ORDER BY id LIMIT 1
), 9223372036854775807)
"""
_LOOK = """
SELECT EXISTS (SELECT 1 FROM events WHERE channel = ?), (SELECT min(until) FROM leases WHERE channel = ?)
"""

# One seek per channel and table, however many events a channel has. DISTINCT would scan all events.
_OCCUPIED = """
WITH RECURSIVE
    waiting (name) AS (
        SELECT min(channel) FROM events UNION ALL
        SELECT (SELECT min(channel) FROM events WHERE channel > name) FROM waiting WHERE name IS NOT NULL
    ),
    leased (name) AS (
        SELECT min(channel) FROM leases UNION ALL
        SELECT (SELECT min(channel) FROM leases WHERE channel > name) FROM leased WHERE name IS NOT NULL
    )
SELECT name FROM waiting WHERE name IS NOT NULL UNION SELECT name FROM leased WHERE name IS NOT NULL
"""

_OVERDUE = """
SELECT id, sent, attempt, body, state, crashes FROM leases WHERE channel = ? AND until <= ? ORDER BY until, id LIMIT ?
"""
_ADD_LEASE = "INSERT INTO leases (channel, until, sent, attempt, body, crashes) VALUES (?, ?, ?, ?, ?, ?)"
END_LEASE = "DELETE FROM leases WHERE id = ?"
# A new id, and so a new ticket.
_RETRY = """
INSERT INTO leases (channel, until, sent, attempt, body, state)
SELECT channel, ?, sent, attempt + 1, body, 'due' FROM leases WHERE id = ?
"""
_RETURN_SUSPECT = """
INSERT INTO leases (channel, until, sent, attempt, body, state, crashes)
SELECT channel, 0, sent, attempt, body, NULL, crashes FROM leases WHERE id = ?
"""

# By their ids, in which they were leased: those of a channel would have to be sorted for each batch (hence the plus).
_READ_LEASED = """
SELECT id, sent + ?, attempt, body FROM leases WHERE +channel = ? AND id > ? ORDER BY id LIMIT ?
"""
_READ_WAITING = """
SELECT id, sent + ?, attempt, body FROM events
WHERE channel = ? AND id > ? AND (sent >= ? OR attempt > 1) ORDER BY id LIMIT ?
"""

# Two seeks; min and max in one SELECT would be a scan.
_COUNT = """
SELECT ifnull(
    (SELECT max(id) FROM events WHERE channel = ?) - (SELECT min(id) FROM events WHERE channel = ?) + 1, 0
)
"""

#: Id, sent, attempt and body of an event.
Row = tuple[int, float, int, bytes]


class Sent(NamedTuple):
    """Events that are sent to a channel together."""

    channel: str
    bodies: Sequence[bytes]
    limits: Limits


class Taken(NamedTuple):
    """What was taken from a channel, oldest first.

    `first_lease` is the lease of the first row, the others follow by one; `due`, when there are no rows, is
    in how many seconds the next lease of the channel runs out. `crashes` is a number when the only row is a suspect.
    With `ahead` added, the times of the rows are times of the wall clock.
    """

    rows: list[Row]
    first_lease: int | None = None
    due: float | None = None
    crashes: int | None = None
    ahead: float = 0.0


class transaction:  # noqa: N801  (reads as the statement that it is; a generator would cost 1 us more)
    """Commit what is done inside, unless it raises or has itself rolled back."""

    __slots__ = ("_db",)

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> None:
        # IMMEDIATE: who reads first and writes then may be refused in the middle.
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: object, *_: object) -> None:
        try:
            if error is None and self._db.in_transaction:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def append(db: Database, channel: str, body: bytes, limits: Limits) -> bool:
    """Put one event at the end; False when the channel is full."""
    values = (channel, limits.capacity, channel, db.now, body)
    if db.execute(_APPEND, values).rowcount:
        return True
    return expire(db, channel, limits) > 0 and db.execute(_APPEND, values).rowcount > 0


def append_each(db: Database, sends: Sequence[Sent]) -> list[bool]:
    """Make several sends in one transaction; for each whether its events found room, all of them."""
    with transaction(db):
        return [_append_or_undo(db, *sent) for sent in sends]


def _append_or_undo(db: Database, channel: str, bodies: Sequence[bytes], limits: Limits) -> bool:
    if len(bodies) == 1:
        return append(db, channel, bodies[0], limits)
    db.execute("SAVEPOINT send")
    fits = all(append(db, channel, body, limits) for body in bodies)
    if not fits:
        db.execute("ROLLBACK TO send")
    db.execute("RELEASE send")
    return fits


def append_all(db: Database, channel: str, bodies: Sequence[bytes], limits: Limits) -> bool:
    """Put all of them at the end; or none, and return False."""
    with transaction(db):
        expire(db, channel, limits)
        now = db.now
        values = [(channel, limits.capacity, channel, now, body) for body in bodies]
        fits = db.executemany(_APPEND, values).rowcount == len(bodies)
        if not fits:
            db.execute("ROLLBACK")
    return fits


def expire(db: Database, channel: str, limits: Limits) -> int:
    """Drop what has waited too long at the front, and return how much that was."""
    if limits.expiry is None:
        return 0
    return db.execute(_EXPIRE, (channel, channel, db.now - limits.expiry)).rowcount


def clean(db: Database, private: Limits, group_expiry: float) -> None:
    """Drop what consumers that are gone left behind: events on their own channels, memberships."""
    # The names that `new_channel` makes up: a range of the primary key, no scan.
    names = "SELECT DISTINCT channel FROM events WHERE channel >= 'specific.' AND channel < 'specific/'"
    for (channel,) in db.execute(names).fetchall():
        expire(db, channel, private)
    db.execute("DELETE FROM members WHERE added < ?", (db.now - group_expiry,))


def take(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    """Take up to `limit` events from the front; those whose lease has run out come first."""
    while True:
        # Looking needs no lock: an idle worker holds nobody up.
        waiting, due = db.execute(_LOOK, (channel, channel)).fetchone()
        left = None if due is None else due - db.now
        overdue = left is not None and left <= 0
        if not (waiting or overdue):
            return Taken([], due=left)
        with transaction(db):
            take_now = _take_overdue if overdue else _take_front
            taken = take_now(db, channel, limit, lease, limits)
        if taken.rows:
            return taken


def occupied(db: Database) -> list[str]:
    """Return the channels that have waiting or leased events."""
    return [name for (name,) in db.execute(_OCCUPIED)]


def take_at_once(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    """Take up to `limit` events from the front without looking first: whoever was rung for knows that there are.

    The look would be a transaction of its own, a third of the way of an event to an idle worker.
    """
    with transaction(db):
        return _take_front(db, channel, limit, lease, limits)


def _take_front(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    rows = _remove_front(db, channel, limit, limits)
    if lease is None or not rows:
        return Taken(rows, ahead=db.ahead())
    return Taken(rows, _lease(db, channel, rows, db.now + lease), ahead=db.ahead())


def _take_overdue(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    """Take what comes again, and then from the front; under a lease a suspect is taken alone."""
    now = db.now
    again: list[Row] = []
    crashes: int | None = None
    for id_, sent, attempt, body, state, crashed in db.execute(_OVERDUE, (channel, now, limit)).fetchall():
        is_begun = state == "begun"
        is_alone = lease is not None and state != "due"
        if is_alone and again:
            limit = 0
            break
        again.append((id_, sent, attempt + is_begun, body))
        if is_alone:
            limit, crashes = 0, crashed + is_begun
            break
    db.executemany(END_LEASE, [(row[0],) for row in again])
    rows = _remove_front(db, channel, limit - len(again), limits) if limit > len(again) else []
    if lease is None:
        return Taken(again + rows, ahead=db.ahead())
    rows = again + rows
    return Taken(rows, _lease(db, channel, rows, now + lease, crashes or 0), crashes=crashes, ahead=db.ahead())


def _remove_front(db: Database, channel: str, limit: int, limits: Limits) -> list[Row]:
    expire(db, channel, limits)
    # SELECT and DELETE of the prefix: DELETE ... RETURNING costs twice as much per event.
    rows: list[Row] = db.execute(
        "SELECT id, sent, attempt, body FROM events WHERE channel = ? ORDER BY id LIMIT ?", (channel, limit)
    ).fetchall()
    if rows:
        db.execute("DELETE FROM events WHERE channel = ? AND id <= ?", (channel, rows[-1][0]))
    if limits.expiry is None:
        return rows
    # Behind one that came back older ones may stand.
    oldest = db.now - limits.expiry
    return [row for row in rows if row[1] >= oldest or row[2] > 1]


def _lease(db: Database, channel: str, rows: Sequence[Row], until: float, crashes: int = 0) -> int:
    db.executemany(_ADD_LEASE, [(channel, until, sent, attempt, body, crashes) for _, sent, attempt, body in rows])
    # The ids follow one another, for the write lock is ours; and AUTOINCREMENT uses none again, so whoever
    # settles too late settles nobody else's.
    return int(db.execute("SELECT last_insert_rowid()").fetchone()[0]) - len(rows) + 1


def release(db: Database, leases: Sequence[int]) -> None:
    """Forget leased events: they were handled."""
    with transaction(db):
        db.executemany(END_LEASE, [(lease,) for lease in leases])


def postpone(db: Database, leases: Sequence[int], delay: float) -> None:
    """Let the leases run out `delay` seconds from now, neither before nor later."""
    until = db.now + delay
    with transaction(db):
        db.executemany("UPDATE leases SET until = ? WHERE id = ?", [(until, lease) for lease in leases])


def begin(db: Database, lease: int) -> bool:
    """Note that the handler of a leased suspect starts; False when the lease is gone."""
    return db.execute("UPDATE leases SET state = 'begun' WHERE id = ?", (lease,)).rowcount > 0


def retry(db: Database, lease: int, delay: float) -> None:
    """End a lease; its event comes again `delay` seconds from now."""
    with transaction(db):
        db.execute(_RETRY, (db.now + delay, lease))
        db.execute(END_LEASE, (lease,))


def give_back(db: Database, deliveries: Sequence[Delivery]) -> None:
    """Put deliveries to the front in their order; a leased one only while it is still leased."""
    with transaction(db):
        for delivery in deliveries:
            if delivery.suspect:
                db.execute(_RETURN_SUSPECT, (delivery.ticket,))
                db.execute(END_LEASE, (delivery.ticket,))
        for delivery in reversed(deliveries):
            if delivery.suspect:
                continue
            if isinstance(delivery.ticket, int):
                db.execute(_PREPEND_LEASED, (delivery.ticket,))
                db.execute(END_LEASE, (delivery.ticket,))
                continue
            db.execute(_PREPEND, (delivery.channel, delivery.channel, delivery.ticket, delivery.attempt, delivery.body))


def count(db: Database, channel: str) -> int:
    """How many events wait on the channel, at the same cost however many."""
    return int(db.execute(_COUNT, (channel, channel)).fetchone()[0])


def read_leased(db: Database, channel: str, after: int, limit: int) -> list[Row]:
    """Read up to `limit` events under a lease, those whose leases have ids above `after`; nothing changes.

    They were sent at a time of the wall clock.
    """
    return db.execute(_READ_LEASED, (db.ahead(), channel, after, limit)).fetchall()


def read_waiting(db: Database, channel: str, after: int, limit: int, expiry: float | None) -> list[Row]:
    """Read up to `limit` events that wait, those with ids above `after` and not older than `expiry`; as above."""
    oldest = -math.inf if expiry is None else db.now - expiry
    return db.execute(_READ_WAITING, (db.ahead(), channel, after, oldest, limit)).fetchall()


def join(db: Database, group: str, channel: str) -> None:
    """Make the channel a member of the group as from now."""
    db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", (group, channel, db.now))


def leave(db: Database, group: str, channel: str) -> None:
    """End the channel's membership of the group."""
    db.execute("DELETE FROM members WHERE name = ? AND channel = ?", (group, channel))


def append_to_group(
    db: Database, group: str, body: bytes, expiry: float, limits_of: Callable[[str], Limits]
) -> tuple[list[str], list[str]]:
    """Put the event at the end of each member that is not full; the channels that have it now, and the durable ones.

    Those get theirs from a durable connection.
    """
    with transaction(db):
        db.execute("DELETE FROM members WHERE name = ? AND added < ?", (group, db.now - expiry))
        members = db.execute("SELECT channel FROM members WHERE name = ?", (group,)).fetchall()
        durable = [channel for (channel,) in members if limits_of(channel).durable]
        others = [channel for (channel,) in members if not limits_of(channel).durable]
        return [channel for channel in others if append(db, channel, body, limits_of(channel))], durable


def clear(db: Database) -> None:
    """Delete everything."""
    with transaction(db):
        for table in ("events", "leases", "members", "dead_letters"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608  (the four names above)
