"""The time of a file, which does not change when the wall clock is set.

All times in the file (send times, ends of leases) are in seconds of the file's time. That is the time since the boot of
the machine plus an offset, which the table `clock` stores for all processes. Callers see wall time: `Database.ahead`
converts.

After a reboot, the first process writes a new offset. The wall clock tells how long the machine was off, but the time
of a file never goes back. A copy of the file on another machine is treated in the same way.
"""

import sqlite3
import time
from pathlib import Path

#: Changes with each boot of the machine.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Counts while the machine is suspended, on Linux and elsewhere.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: Drift of the wall clock, in seconds, up to which the stored offset is kept.
_DRIFT_SECS = 1.0

_NEWEST = """
SELECT max(
    ifnull((SELECT max(sent) FROM waiting), 0),
    ifnull((SELECT max(taken) FROM leased), 0),
    ifnull((SELECT max(sent) FROM scheduled), 0),
    ifnull((SELECT max(added) FROM members), 0),
    ifnull((SELECT max(seen) FROM workers), 0)
)
"""


class Database(sqlite3.Connection):
    """A connection that knows the time of its file."""

    #: The time of the file at the beginning of the operation that uses the connection, in seconds.
    now = 0.0
    #: The time of the file minus the time since the machine was started.
    offset = 0.0
    _ahead = 0.0

    def time(self) -> float:
        """Return the time of the file, in seconds."""
        return time.clock_gettime(CLOCK) + self.offset

    def ahead(self) -> float:
        """Return the wall clock minus the time of the file, to a second: the same until the wall clock is set."""
        ahead = time.time() - self.time()
        if abs(ahead - self._ahead) > _DRIFT_SECS:
            self._ahead = ahead
        return self._ahead

    def follow_wall_clock(self) -> None:
        """Start with wall time, because the file has no offset."""
        self.offset = wall_offset()

    def read_clock(self) -> bool:
        """Start with the offset in the file; return False if the file needs a new one."""
        boot = _boot_id()
        row = self.execute("SELECT boot, offset, ahead FROM clock").fetchone()
        if row is None:
            self.follow_wall_clock()
            return False
        written, self.offset, self._ahead = row
        is_new = written != boot
        if is_new or not boot:
            newest = float(self.execute(_NEWEST).fetchone()[0])
            is_new = is_new or self.time() < newest
            if is_new:
                self.offset += max(time.time() - self._ahead, newest) - self.time()
        return not is_new and self.ahead() == row[2]

    def keep_clock(self) -> None:
        """Start with the offset in the file, and update it if necessary."""
        if self.read_clock():
            return
        self.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have written it meanwhile.
            if not self.read_clock():
                self.execute(
                    "INSERT OR REPLACE INTO clock VALUES (0, ?, ?, ?)", (_boot_id(), self.offset, self.ahead())
                )
            self.execute("COMMIT")
        finally:
            if self.in_transaction:
                self.execute("ROLLBACK")


def wall_offset() -> float:
    """Return the wall clock minus the time since boot; it changes when the wall clock is set."""
    return time.time() - time.clock_gettime(CLOCK)


def has_stepped(since: float) -> bool:
    """Return whether the wall clock was set since `wall_offset` returned `since`."""
    return abs(wall_offset() - since) > _DRIFT_SECS


def _boot_id() -> str:
    """Return the id of this boot; empty where the system has none, and a reboot is detected by times in the future."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
