"""What the file holds, and whether a file is ours."""

import sqlite3

from channelmap.layers.packing import pack_rows
from channelmap.layers.sqlite.clock import Database

VERSION = 4

_CLOCK = "CREATE TABLE clock (id INTEGER PRIMARY KEY, boot TEXT, offset REAL, ahead REAL);"

# The number of dead letters of each channel, which triggers keep.
_COUNTS = """
CREATE TABLE dead_letter_counts (channel TEXT PRIMARY KEY, letters INTEGER) WITHOUT ROWID;
INSERT INTO dead_letter_counts SELECT channel, count(*) FROM dead_letters GROUP BY channel;
CREATE TRIGGER dead_letter_kept AFTER INSERT ON dead_letters BEGIN
    INSERT INTO dead_letter_counts VALUES (new.channel, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;
CREATE TRIGGER dead_letter_gone AFTER DELETE ON dead_letters BEGIN
    UPDATE dead_letter_counts SET letters = letters - 1 WHERE channel = old.channel;
END;
"""

# `queue` describes the first table, `leases` the others. Their names are not those of version 0.1, so that a process of
# 0.1 that still has the file open cannot use it, and says so: it opens the file anew and finds a newer version.
_QUEUES = """
CREATE TABLE waiting (
    channel TEXT, position INTEGER, sent REAL, event_id INTEGER, body BLOB,
    PRIMARY KEY (channel, position)
) WITHOUT ROWID;
CREATE TABLE leased (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT, taken REAL, until REAL, count INTEGER, events BLOB,
    state TEXT, crashes INTEGER, batch INTEGER, number INTEGER
);
CREATE INDEX leased_by_channel ON leased (channel, until);
CREATE INDEX leased_by_batch ON leased (batch, number) WHERE batch IS NOT NULL;
CREATE TABLE lease_progress (lease INTEGER PRIMARY KEY, marks TEXT);
CREATE TABLE scheduled (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT, due REAL, sent REAL, attempt INTEGER, event_id INTEGER, body BLOB
);
CREATE INDEX scheduled_by_channel ON scheduled (channel, due);
CREATE TABLE paused (channel TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE scheduled_counts (channel TEXT PRIMARY KEY, events INTEGER) WITHOUT ROWID;
CREATE TRIGGER event_scheduled AFTER INSERT ON scheduled BEGIN
    INSERT INTO scheduled_counts VALUES (new.channel, 1) ON CONFLICT DO UPDATE SET events = events + 1;
END;
CREATE TRIGGER event_unscheduled AFTER DELETE ON scheduled BEGIN
    UPDATE scheduled_counts SET events = events - 1 WHERE channel = old.channel;
END;
"""

# Events of 0.1 get ids. A lease of 0.1 is one of a single event.
_TAKEN_OVER = """
INSERT INTO waiting SELECT channel, row_number() OVER (PARTITION BY channel ORDER BY id), sent,
    random() & 9223372036854775807, body FROM events WHERE attempt = 1;
INSERT INTO leased (channel, taken, until, count, events, state, crashes)
SELECT channel, sent, until, 1, packed(sent, attempt, random() & 9223372036854775807, body), state, crashes
FROM leases WHERE state IS NOT 'due' ORDER BY id;
INSERT INTO scheduled (channel, due, sent, attempt, event_id, body)
SELECT channel, until, sent, attempt, random() & 9223372036854775807, body FROM leases WHERE state IS 'due' ORDER BY id;
INSERT INTO scheduled (channel, due, sent, attempt, event_id, body)
SELECT channel, sent, sent, attempt, random() & 9223372036854775807, body FROM events WHERE attempt > 1 ORDER BY id;
ALTER TABLE dead_letters ADD COLUMN event_id INTEGER;
DROP TABLE events;
DROP TABLE leases;
"""

_TABLES = f"""
BEGIN IMMEDIATE;
{_QUEUES}
CREATE TABLE members (name TEXT, channel TEXT, added REAL, PRIMARY KEY (name, channel)) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT, code TEXT, reason TEXT, violations TEXT, traceback TEXT,
    attempts INTEGER, sent REAL, died REAL, body BLOB, event_id INTEGER
);
CREATE INDEX dead_letters_by_channel ON dead_letters (channel, id);
{_CLOCK}
{_COUNTS}
PRAGMA user_version = {VERSION};
COMMIT;
"""

# What each later version has added to the first, which 0.1 writes.
_ADDED: dict[int, str] = {
    2: f"""
        ALTER TABLE leases ADD COLUMN state TEXT;
        ALTER TABLE leases ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
        {_CLOCK}
    """,
    3: _COUNTS,
    4: _QUEUES + _TAKEN_OVER,
}
# What a connection that only reads makes of an older file, for itself alone. Events of 0.1 have no ids.
_AS_NOW = """
CREATE TEMP VIEW waiting AS SELECT channel, id AS position, sent, 0 AS event_id, body FROM events WHERE attempt = 1;
CREATE TEMP VIEW leased AS
SELECT id, channel, sent AS taken, until, 1 AS count, packed(sent, attempt, 0, body) AS events FROM leases
WHERE state IS NOT 'due';
CREATE TEMP VIEW scheduled AS SELECT row_number() OVER () AS id, * FROM (
    SELECT channel, sent AS due, sent, attempt, 0 AS event_id, body FROM events WHERE attempt > 1
    UNION ALL SELECT channel, until, sent, attempt, 0, body FROM leases WHERE state IS 'due'
);
CREATE TEMP VIEW scheduled_counts AS SELECT channel, count(*) AS events FROM scheduled GROUP BY channel;
CREATE TEMP VIEW paused AS SELECT '' AS channel WHERE 0;
CREATE TEMP VIEW lease_progress AS SELECT 0 AS lease, '' AS marks WHERE 0;
CREATE TEMP VIEW dead_letters AS SELECT *, 0 AS event_id FROM main.dead_letters;
"""


class AlienFile(Exception):
    """The file is a database, but not one that this version can use."""


def prepare(db: Database, *, durable: bool) -> None:
    """Make a new connection fast, a new file ours, and an older file one of this version.

    Args:
        db: the connection.
        durable: whether its commits are on disk when they return; others get there with the next such one, or soon.

    Raises:
        AlienFile: the file belongs to another program, or to a newer channelmap.

    """
    is_new = not has_tables(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    # Four times the default: a checkpoint syncs the disk, and 16 MB of log are cheap.
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    if is_new:
        make_tables(db)
    elif (version := _version(db)) < VERSION:
        _add_packed(db)
        added = "".join(script for later, script in _ADDED.items() if later > version)
        _run(db, f"BEGIN IMMEDIATE; {added} PRAGMA user_version = {VERSION}; COMMIT;")
    db.keep_clock()


def prepare_to_read(db: Database) -> bool:
    """Give a new connection the time of its file, and change nothing; whether the tables are there, as `has_tables`."""
    if not has_tables(db):
        return False
    version = _version(db)
    if version < VERSION:
        _add_packed(db)
        db.executescript(_AS_NOW if version > 1 else _AS_NOW.replace("state", "NULL").replace("crashes", "0"))
    if version == 1:
        db.follow_wall_clock()
    else:
        db.read_clock()
    return True


def _add_packed(db: sqlite3.Connection) -> None:
    db.create_function("packed", 4, _packed)


def _packed(sent: float, attempt: int, event_id: int, body: bytes) -> bytes:
    return pack_rows([[attempt], [(sent, event_id, body)]])


def has_tables(db: sqlite3.Connection) -> bool:
    """Say whether the tables are there; AlienFile as for `prepare`."""
    version = _version(db)
    if version > VERSION:
        raise AlienFile(f"was made by a newer channelmap (its schema is {version}, ours {VERSION})")
    # The second look at the version: another process may just have made our tables.
    if version == 0 and _has_any_table(db) and _version(db) == 0:
        raise AlienFile("is a database of another program; give the events a file of their own")
    return version > 0


def make_tables(db: sqlite3.Connection) -> None:
    """Make the tables in a new file."""
    _run(db, _TABLES)


def _run(db: sqlite3.Connection, script: str) -> None:
    """Bring a file to this version; another process may do so at the same time."""
    try:
        db.executescript(script)
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
        # Another process may have been faster.
        if _version(db) != VERSION:
            raise


def _has_any_table(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
