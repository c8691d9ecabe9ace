"""The tables of the file, and migrations of older files."""

import sqlite3

from channelmap.layers.sqlite.clock import Database
from channelmap.layers.sqlite.leases import pack_event

VERSION = 5
#: The first version with the tables of `_EVENT_TABLES`.
_FIRST_WITH_LEASED = 4

_CLOCK = "CREATE TABLE clock (id INTEGER PRIMARY KEY, boot TEXT, offset REAL, ahead REAL);"

# The number of dead letters of each channel by code, maintained by triggers.
_COUNTS = """
CREATE TABLE dead_letter_counts (
    channel TEXT, code TEXT, letters INTEGER, PRIMARY KEY (channel, code)
) WITHOUT ROWID;
INSERT INTO dead_letter_counts SELECT channel, code, count(*) FROM dead_letters GROUP BY channel, code;
CREATE TRIGGER dead_letter_kept AFTER INSERT ON dead_letters BEGIN
    INSERT INTO dead_letter_counts VALUES (new.channel, new.code, 1)
    ON CONFLICT DO UPDATE SET letters = letters + 1;
END;
CREATE TRIGGER dead_letter_gone AFTER DELETE ON dead_letters BEGIN
    UPDATE dead_letter_counts SET letters = letters - 1 WHERE channel = old.channel AND code = old.code;
END;
"""

# `heartbeats` describes them.
_HEARTBEATS = """
CREATE TABLE workers (id TEXT PRIMARY KEY, number INTEGER, seen REAL, info TEXT) WITHOUT ROWID;
CREATE TABLE totals (channel TEXT, name TEXT, value INTEGER, PRIMARY KEY (channel, name)) WITHOUT ROWID;
"""

# `queue` describes the first table, `leases` the others. Their names differ from those of version 0.1, so that a
# process of 0.1 that still has the file open fails, opens the file again, and reports that its version is newer.
_EVENT_TABLES = """
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

# Events of 0.1 get new ids. A lease of 0.1 has a single event.
_MIGRATE_0_1 = """
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
{_EVENT_TABLES}
CREATE TABLE members (name TEXT, channel TEXT, added REAL, PRIMARY KEY (name, channel)) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT, code TEXT, reason TEXT, violations TEXT, traceback TEXT,
    attempts INTEGER, sent REAL, died REAL, body BLOB, event_id INTEGER
);
CREATE INDEX dead_letters_by_channel ON dead_letters (channel, id);
{_CLOCK}
{_COUNTS}
{_HEARTBEATS}
PRAGMA user_version = {VERSION};
COMMIT;
"""

# Versions 3 and 4 counted the dead letters of a channel, whatever their codes.
_DROP_COUNTS = """
DROP TRIGGER IF EXISTS dead_letter_kept;
DROP TRIGGER IF EXISTS dead_letter_gone;
DROP TABLE IF EXISTS dead_letter_counts;
"""

# The migrations to each version; version 1 is that of channelmap 0.1.
_MIGRATIONS: dict[int, str] = {
    2: f"""
        ALTER TABLE leases ADD COLUMN state TEXT;
        ALTER TABLE leases ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
        {_CLOCK}
    """,
    4: _EVENT_TABLES + _MIGRATE_0_1,
    5: _DROP_COUNTS + _COUNTS + _HEARTBEATS,
}
# Temporary views for a read-only connection to an older file: to any, and to one before version 4, which has the tables
# of 0.1. Events of 0.1 have no ids.
_VIEWS = """
CREATE TEMP VIEW dead_letter_counts AS
SELECT channel, code, count(*) AS letters FROM main.dead_letters GROUP BY channel, code;
CREATE TEMP VIEW workers AS SELECT '' AS id, 0 AS number, 0.0 AS seen, '' AS info WHERE 0;
CREATE TEMP VIEW totals AS SELECT '' AS channel, '' AS name, 0 AS value WHERE 0;
"""
_VIEWS_OF_0_1 = """
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


class ForeignFile(Exception):
    """The file is a database, but not one that this version can use."""


def prepare(db: Database, *, durable: bool) -> None:
    """Configure a new connection, create the tables of a new file, and migrate an older file.

    Args:
        db: the connection.
        durable: whether commits return only once they are on disk; other commits are written soon.

    Raises:
        ForeignFile: the file belongs to another program, or to a newer channelmap.

    """
    is_new = not has_tables(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    # Four times the default: a checkpoint syncs the disk, and a log of 16 MB is cheap.
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    if is_new:
        make_tables(db)
    elif (version := _version(db)) < VERSION:
        _add_packed(db)
        added = "".join(script for later, script in _MIGRATIONS.items() if later > version)
        _run(db, f"BEGIN IMMEDIATE; {added} PRAGMA user_version = {VERSION}; COMMIT;")
    db.keep_clock()


def prepare_to_read(db: Database) -> bool:
    """Configure a read-only connection; return whether the tables exist, as `has_tables` does."""
    if not has_tables(db):
        return False
    version = _version(db)
    if version < VERSION:
        db.executescript(_VIEWS)
    if version < _FIRST_WITH_LEASED:
        _add_packed(db)
        db.executescript(
            _VIEWS_OF_0_1 if version > 1 else _VIEWS_OF_0_1.replace("state", "NULL").replace("crashes", "0")
        )
    if version == 1:
        db.follow_wall_clock()
    else:
        db.read_clock()
    return True


def _add_packed(db: sqlite3.Connection) -> None:
    db.create_function("packed", 4, pack_event)


def has_tables(db: sqlite3.Connection) -> bool:
    """Return whether the tables exist; raise ForeignFile as `prepare` does."""
    version = _version(db)
    if version > VERSION:
        raise ForeignFile(f"was made by a newer channelmap (its schema is {version}, ours {VERSION})")
    # The version is read again, because another process may have created the tables meanwhile.
    if version == 0 and _has_any_table(db) and _version(db) == 0:
        raise ForeignFile("is a database of another program; give the events a file of their own")
    return version > 0


def make_tables(db: sqlite3.Connection) -> None:
    """Create the tables in a new file."""
    _run(db, _TABLES)


def _run(db: sqlite3.Connection, script: str) -> None:
    """Run a migration, which another process may run at the same time."""
    try:
        db.executescript(script)
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
        # Another process may have migrated the file.
        if _version(db) != VERSION:
            raise


def _has_any_table(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
