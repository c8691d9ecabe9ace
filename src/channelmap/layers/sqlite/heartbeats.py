"""Operations on heartbeats and totals, as plain functions of a connection (see `queue`).

`workers` has the number and the time of the last heartbeat of each worker. `info` is NULL once the worker has ended.
The row stays for an hour, so that a repeated heartbeat is recognized.
"""

from collections.abc import Mapping

from channelmap.layer import NUMBER_KEPT_SECS, WORKER_TIMEOUT_SECS, WorkerInfo
from channelmap.layers.sqlite.clock import Database
from channelmap.layers.sqlite.queue import transaction
from channelmap.layers.workers import from_json, to_json

_RECORD = """
INSERT INTO workers VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET number = max(number, excluded.number), seen = excluded.seen, info = excluded.info
"""
_ADD = "INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"


def heartbeat(
    db: Database, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool
) -> None:
    """Record a heartbeat, and add to the totals unless a heartbeat with this number was recorded before."""
    with transaction(db):
        found = db.execute("SELECT number FROM workers WHERE id = ?", (worker.id,)).fetchone()
        if found is None:
            db.execute("DELETE FROM workers WHERE seen < ?", (db.now - NUMBER_KEPT_SECS,))
        if found is None or number > found[0]:
            rows = [(channel, *increment) for channel, added in totals.items() for increment in added.items()]
            db.executemany(_ADD, rows)
        db.execute(_RECORD, (worker.id, number, db.now, None if last else to_json(worker)))


def workers(db: Database) -> list[WorkerInfo]:
    """Return the workers that are alive, in no particular order."""
    rows = db.execute("SELECT info, seen FROM workers WHERE info IS NOT NULL").fetchall()
    ages = [(info, db.now - seen) for info, seen in rows]
    return [from_json(info, age) for info, age in ages if age <= WORKER_TIMEOUT_SECS]


def totals_of(db: Database, channel: str) -> dict[str, int]:
    """Return the totals of a channel."""
    return dict(db.execute("SELECT name, value FROM totals WHERE channel = ?", (channel,)).fetchall())
