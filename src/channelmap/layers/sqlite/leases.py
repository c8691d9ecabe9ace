"""Operations on taken events, as plain functions of a connection (see `queue`).

The events that one call takes under a lease share one row of `leased`, so a worker can settle them in one step. If
single events are settled, retried or renewed, `lease_progress` has a mark for each event of the lease:

- `1`: under this lease.
- `0`: no longer under this lease.
- `m`: moved to a row of its own with this lease as its `batch`, because it was renewed alone.

When a lease has expired, its events are moved to rows of their own and then taken alone, as suspects. `state` is
`begun` if the handler of a suspect had started, and `crashes` counts how often that happened in a row.

`scheduled` has the events that are delivered at the time `due`. A redelivered event does not expire, because its lease
guarantees redelivery. So a returned event with a previous attempt goes to `scheduled` as well, with a due time in the
past.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from channelmap.layer import Counts, Delivery
from channelmap.layers.batches import Batch, Part, parts_of
from channelmap.layers.packing import pack_rows, unpack_rows
from channelmap.layers.sqlite.clock import Database
from channelmap.layers.sqlite.heartbeats import totals_of
from channelmap.layers.sqlite.queue import (
    Listed,
    Row,
    age_of_first,
    count,
    is_paused,
    move_due,
    prepend,
    reading,
    remove_front,
    transaction,
)
from channelmap.limits import Limits

#: Maximum number of bytes of the events of one lease, unless it has a single event.
_MAX_LEASE_BYTES = 64 << 20
#: Maximum number of scheduled events that one take moves to the queue.
_MAX_MOVED = 1_000

_LOOK_AHEAD = """
SELECT EXISTS (SELECT 1 FROM waiting WHERE channel = ?),
    (SELECT min(until) FROM leased WHERE channel = ?),
    (SELECT min(due) FROM scheduled WHERE channel = ?),
    EXISTS (SELECT 1 FROM paused WHERE channel = ?)
"""
_ADD_LEASE = "INSERT INTO leased (channel, taken, until, count, events, crashes) VALUES (?, ?, ?, ?, ?, ?)"
_FIRST_OVERDUE = """
SELECT id, until, count, events, state, crashes FROM leased WHERE channel = ? AND until <= ? ORDER BY until, id LIMIT 1
"""
_DUE = """
SELECT sent, event_id, body, attempt, id FROM scheduled
WHERE channel = ? AND due <= ? AND attempt > 1 ORDER BY due, id LIMIT ?
"""
_DUE_FIRST = "SELECT id FROM scheduled WHERE channel = ? AND due <= ? AND attempt = 1 ORDER BY due, id LIMIT ?"
_MARKS = "SELECT count, marks FROM leased LEFT JOIN lease_progress ON lease = id WHERE id = ?"
_MOVE = """
INSERT INTO leased (channel, taken, until, count, events, crashes, batch, number)
SELECT channel, taken, until, 1, ?, 0, id, ? FROM leased WHERE id = ?
"""
_END_MOVED = "DELETE FROM leased WHERE batch = ? AND number = ?"
_RETURN_SUSPECT = """
INSERT INTO leased (channel, taken, until, count, events, crashes)
SELECT channel, taken, 0, 1, events, crashes FROM leased WHERE id = ?
"""
_SCHEDULE = "INSERT INTO scheduled (channel, due, sent, event_id, body, attempt) VALUES (?, ?, ?, ?, ?, ?)"
_COUNT = """
SELECT
    ifnull((SELECT events FROM scheduled_counts WHERE channel = ?), 0),
    ifnull((
        SELECT sum(CASE WHEN marks IS NULL THEN count ELSE length(replace(replace(marks, '0', ''), 'm', '')) END)
        FROM leased LEFT JOIN lease_progress ON lease = id WHERE channel = ?
    ), 0)
"""
_DEAD = "SELECT code, letters FROM dead_letter_counts WHERE channel = ? AND letters > 0"
# In the order of ids, which is that of the takes; the plus keeps SQLite from using the index and sorting each time.
_READ_LEASED = """
SELECT id, count, events, marks FROM leased LEFT JOIN lease_progress ON lease = id
WHERE +channel = ? AND id > ? ORDER BY id LIMIT 1
"""
_READ_SCHEDULED = """
SELECT sent + ?, event_id, body, id, attempt, due + ? FROM scheduled WHERE +channel = ? AND id > ? ORDER BY id LIMIT ?
"""


class Taken(NamedTuple):
    """The result of a take, oldest event first.

    `lease` is the lease of the rows. If there are no rows, `due` is the number of seconds until the next lease of the
    channel expires or the next event is due. `attempts` are those of the first rows; further rows are first attempts.
    `crashes` is a number if the only row is a suspect. Adding `ahead` to the times of the rows gives wall times.
    """

    rows: list[Row]
    attempts: Sequence[int] = ()
    lease: int | None = None
    due: float | None = None
    crashes: int | None = None
    ahead: float = 0.0


def take(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    """Take up to `limit` events from the front; redelivered events come first."""
    while True:
        # This read needs no write lock, so an idle worker does not block others.
        waiting, *times, paused = db.execute(_LOOK_AHEAD, (channel, channel, channel, channel)).fetchone()
        due = min((time for time in times if time is not None), default=math.inf) - db.now
        if paused or (not waiting and due > 0):
            return Taken([], due=None if paused or due == math.inf else due)
        with transaction(db):
            take_now = _take_due if due <= 0 else _take_front
            taken = take_now(db, channel, limit, lease, limits)
        if taken.rows:
            return taken


def take_notified(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    """Take up to `limit` events from the front without reading first, after a notification.

    The read would be a transaction of its own: a third of the latency of an event for an idle worker.
    """
    with transaction(db):
        return _take_front(db, channel, limit, lease, limits)


def _take_front(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    rows = remove_front(db, channel, limit, limits)
    return _lease(db, channel, Taken(rows), lease) if rows else Taken([])


def _take_due(db: Database, channel: str, limit: int, lease: float | None, limits: Limits) -> Taken:
    """Take redelivered events, and then events from the front; under a lease a suspect is taken alone."""
    if is_paused(db, channel):
        return Taken([])  # paused since the read
    move_due(db, [id_ for (id_,) in db.execute(_DUE_FIRST, (channel, db.now, _MAX_MOVED))])
    suspect = _first_suspect(db, channel)
    redelivered: list[_Event] = []
    if lease is None:
        while suspect is not None and len(redelivered) < limit:
            redelivered.append(suspect.event)
            db.execute("DELETE FROM leased WHERE id = ?", (suspect.lease,))
            suspect = _first_suspect(db, channel)
    redelivered += _take_retries(db, channel, limit - len(redelivered), suspect.until if suspect else math.inf)
    if suspect is not None and not redelivered:
        db.execute("DELETE FROM leased WHERE id = ?", (suspect.lease,))
        row, attempt = suspect.event
        return _lease(db, channel, Taken([row], [attempt], crashes=suspect.crashes), lease)
    rows = [event.row for event in redelivered]
    if suspect is None and len(rows) < limit:
        rows += remove_front(db, channel, limit - len(rows), limits)
    return _lease(db, channel, Taken(rows, [event.attempt for event in redelivered]), lease) if rows else Taken([])


def _take_retries(db: Database, channel: str, limit: int, before: float) -> list["_Event"]:
    """Remove up to `limit` due retries with a due time up to `before`."""
    found = db.execute(_DUE, (channel, min(db.now, before), limit)).fetchall()
    db.executemany("DELETE FROM scheduled WHERE id = ?", [row[-1:] for row in found])
    return [_Event(row[:3], row[3]) for row in found]


class _Event(NamedTuple):
    """A taken event, and the attempt of this delivery or, once it is returned, of the next one."""

    row: Row
    attempt: int


class _Suspect(NamedTuple):
    """An event whose lease has expired: the lease, its end, the event, and its consecutive crashes."""

    lease: int
    until: float
    event: _Event
    crashes: int


def _first_suspect(db: Database, channel: str) -> _Suspect | None:
    while found := db.execute(_FIRST_OVERDUE, (channel, db.now)).fetchone():
        lease, until, count, events, state, crashes = found
        if count == 1:
            is_begun = state == "begun"
            row, attempt = _unpacked(events)[0]
            return _Suspect(lease, until, _Event(row, attempt + is_begun), crashes + is_begun)
        _split_lease(db, lease)
    return None


def _split_lease(db: Database, lease: int) -> None:
    """Move the events of an expired lease to leases of their own, which are expired too and have no owner."""
    channel, taken, until, events = db.execute(
        "SELECT channel, taken, until, events FROM leased WHERE id = ?", (lease,)
    ).fetchone()
    marks = _marks(db, lease) or []
    leased_events = [event for event, mark in zip(_unpacked(events), marks, strict=True) if mark == "1"]
    db.executemany(_ADD_LEASE, [(channel, taken, until, 1, _packed([event]), 0) for event in leased_events])
    db.execute("DELETE FROM leased WHERE id = ?", (lease,))
    db.execute("DELETE FROM lease_progress WHERE lease = ?", (lease,))


def _lease(db: Database, channel: str, taken: Taken, lease: float | None) -> Taken:
    """Lease the taken events, unless `lease` is None; return events beyond the maximum size to the queue."""
    if lease is None:
        return taken._replace(ahead=db.ahead())
    rows, attempts = taken.rows, taken.attempts
    packed = pack_rows([attempts, rows])
    if len(packed) > _MAX_LEASE_BYTES and len(rows) > 1:
        kept = max(1, len(rows) * _MAX_LEASE_BYTES // len(packed))
        for event in reversed(_events(attempts, rows)[kept:]):
            _return(db, channel, event)
        rows, attempts = rows[:kept], attempts[:kept]
        packed = pack_rows([attempts, rows])
    # AUTOINCREMENT never reuses an id, so a stale lease holder cannot find the lease of another worker.
    added = db.execute(_ADD_LEASE, (channel, db.now, db.now + lease, len(rows), packed, taken.crashes or 0))
    return Taken(rows, attempts, added.lastrowid, crashes=taken.crashes, ahead=db.ahead())


def _return(db: Database, channel: str, event: _Event) -> None:
    """Return an unhandled event to the front."""
    row, attempt = event
    if attempt > 1:
        db.execute(_SCHEDULE, (channel, row[0], *row, attempt))
    else:
        prepend(db, channel, row)


def settle(db: Database, parts: Sequence[Part]) -> None:
    """Delete handled leased events."""
    with transaction(db):
        end(db, parts)


def end(db: Database, parts: Sequence[Part]) -> None:
    """End the leases of events; call it inside a transaction."""
    for batch, numbers, is_whole in parts:
        if not is_whole:
            _end_some(db, batch.id, numbers)
        elif not _end_whole(db, batch.id):
            # Some of its events may have been moved.
            db.execute("DELETE FROM leased WHERE batch = ?", (batch.id,))


def is_leased(db: Database, batch: Batch, number: int) -> bool:
    """Return whether an event is still under the lease."""
    marks = _marks(db, batch.id)
    moved = "SELECT 1 FROM leased WHERE batch = ? AND number = ?"
    return (marks is not None and marks[number] == "1") or db.execute(moved, (batch.id, number)).fetchone() is not None


def _end_whole(db: Database, lease: int) -> bool:
    """End a lease; return False if some of its events may have been moved."""
    ended = db.execute("DELETE FROM leased WHERE id = ?", (lease,)).rowcount > 0
    has_progress = db.execute("DELETE FROM lease_progress WHERE lease = ?", (lease,)).rowcount > 0
    return ended and not has_progress


def _end_some(db: Database, lease: int, numbers: Sequence[int]) -> dict[int, _Event]:
    """End the lease of some events, and return the ones that were still leased, by number."""
    leased_events: dict[int, _Event] = {}
    marks = _marks(db, lease)
    events = _read_events(db, lease) if marks else []
    for number in numbers:
        if marks and marks[number] == "1":
            leased_events[number] = events[number]
        else:
            moved = db.execute("SELECT events FROM leased WHERE batch = ? AND number = ?", (lease, number)).fetchone()
            if moved:
                leased_events[number] = _unpacked(moved[0])[0]
                db.execute(_END_MOVED, (lease, number))
        if marks:
            marks[number] = "0"
    if marks:
        _write_marks(db, lease, marks)
    return leased_events


def _read_events(db: Database, lease: int) -> list[_Event]:
    return _unpacked(db.execute("SELECT events FROM leased WHERE id = ?", (lease,)).fetchone()[0])


def pack_event(sent: float, attempt: int, event_id: int, body: bytes) -> bytes:
    """Pack the event of a lease of version 0.1, which has a single one."""
    return _packed([_Event((sent, event_id, body), attempt)])


def _packed(events: Sequence[_Event]) -> bytes:
    return pack_rows([[event.attempt for event in events], [event.row for event in events]])


def _unpacked(packed: bytes) -> list[_Event]:
    return _events(*unpack_rows(packed))


def _events(attempts: Sequence[int], rows: Sequence[Row]) -> list[_Event]:
    """Pair rows with their attempts, which cover only the first rows, as in `Taken`."""
    return [_Event(row, attempts[number] if number < len(attempts) else 1) for number, row in enumerate(rows)]


def _marks(db: Database, lease: int) -> list[str] | None:
    """Return the marks of a lease's events; None if the lease has ended."""
    found = db.execute(_MARKS, (lease,)).fetchone()
    return found and [*(found[1] or "1" * found[0])]


def _write_marks(db: Database, lease: int, marks: Sequence[str]) -> None:
    if set(marks) == {"0"}:
        _end_whole(db, lease)
    else:
        db.execute("INSERT OR REPLACE INTO lease_progress VALUES (?, ?)", (lease, "".join(marks)))


def _move(db: Database, lease: int, numbers: Sequence[int]) -> None:
    """Move events of a lease to leases of their own, unless the lease has a single event."""
    marks = _marks(db, lease)
    if marks is None or len(marks) == 1:
        return
    leased_numbers = [number for number in numbers if marks[number] == "1"]
    events = _read_events(db, lease) if leased_numbers else []
    for number in leased_numbers:
        db.execute(_MOVE, (_packed([events[number]]), number, lease))
        marks[number] = "m"
    if leased_numbers:
        _write_marks(db, lease, marks)


def renew(db: Database, parts: Sequence[Part], delay: float) -> None:
    """Renew the leases, so that they expire exactly `delay` seconds from now."""
    until = db.now + delay
    with transaction(db):
        for batch, numbers, is_whole in parts:
            if is_whole:
                db.execute("UPDATE leased SET until = ? WHERE id = ? OR batch = ?", (until, batch.id, batch.id))
                continue
            _move(db, batch.id, numbers)
            for number in numbers:
                db.execute("UPDATE leased SET until = ? WHERE batch = ? AND number = ?", (until, batch.id, number))


def begin(db: Database, batch: Batch, number: int) -> bool:
    """Record that the handler of a leased suspect starts; return False if the lease has ended."""
    with transaction(db):
        _move(db, batch.id, [number])
        begun = db.execute(
            "UPDATE leased SET state = 'begun' WHERE (id = ? AND count = 1) OR (batch = ? AND number = ?)",
            (batch.id, batch.id, number),
        )
    return begun.rowcount > 0


def retry(db: Database, channel: str, batch: Batch, number: int, delay: float) -> None:
    """End the lease of an event, and schedule its retry for `delay` seconds from now."""
    with transaction(db):
        for row, attempt in _end_some(db, batch.id, [number]).values():
            db.execute(_SCHEDULE, (channel, db.now + delay, *row, attempt + 1))


def give_back(db: Database, deliveries: Sequence[Delivery]) -> None:
    """Return deliveries to the front, in their order; skip those whose lease has ended."""
    with transaction(db):
        for delivery in deliveries:
            if delivery.suspect:
                db.execute(_RETURN_SUSPECT, (delivery.ticket.id,))
                _end_whole(db, delivery.ticket.id)
        others = [delivery for delivery in deliveries if not delivery.suspect]
        leased = {batch: _end_some(db, batch.id, numbers) for batch, numbers, _ in parts_of(others)}
        for delivery in reversed(others):
            if not isinstance(delivery.ticket, Batch):
                row = (delivery.ticket, int(delivery.raw_id), delivery.body)
                _return(db, delivery.channel, _Event(row, delivery.attempt))
            elif event := leased[delivery.ticket].pop(delivery.number, None):
                _return(db, delivery.channel, event)


def counts(db: Database, channels: Sequence[str]) -> dict[str, Counts]:
    """Return the state of several channels."""
    with reading(db):
        return {channel: _counts(db, channel) for channel in channels}


def _counts(db: Database, channel: str) -> Counts:
    scheduled, leased = db.execute(_COUNT, (channel, channel)).fetchone()
    return Counts(
        waiting=count(db, channel),
        scheduled=scheduled,
        leased=leased,
        dead=dict(db.execute(_DEAD, (channel,)).fetchall()),
        oldest=age_of_first(db, channel),
        paused=is_paused(db, channel),
        totals=totals_of(db, channel),
    )


def read_leased(db: Database, channel: str, after: int, limit: int) -> Listed:  # noqa: ARG001  (as the other readers)
    """Read the events of the first lease with an id above `after`."""
    while found := db.execute(_READ_LEASED, (channel, after)).fetchone():
        after, count, events, marks = found
        marked = zip(_unpacked(events), marks or "1" * count, strict=True)
        leased_events = [event for event, mark in marked if mark == "1"]
        if leased_events:
            ahead = db.ahead()
            rows = [(event.row[0] + ahead, *event.row[1:]) for event in leased_events]
            return Listed(rows, after, [event.attempt for event in leased_events])
    return Listed([], after)


def read_scheduled(db: Database, channel: str, after: int, limit: int) -> Listed:
    """Read up to `limit` scheduled events, those with ids above `after`."""
    ahead = db.ahead()
    found = db.execute(_READ_SCHEDULED, (ahead, ahead, channel, after, limit)).fetchall()
    after = found[-1][3] if found else after
    return Listed([row[:3] for row in found], after, [row[4] for row in found], [row[5] for row in found])
