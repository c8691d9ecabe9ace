"""Connections to one file, for every thread, loop and process; and what is done while the file is busy.

SQLite is called on the thread that asks: a hop to another costs more than the statement. So a connection
never waits inside SQLite for another process (`timeout=0`): the caller waits in its own way and tries again.
"""

import asyncio
import gc
import os
import random
import sqlite3
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from channelmap.environment import derived
from channelmap.errors import LayerUnavailable, quoted
from channelmap.layers.sqlite.clock import CLOCK, Database, has_stepped, wall_offset
from channelmap.layers.sqlite.schema import AlienFile, make_tables, prepare, prepare_to_read

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Database, P], T]

PATIENCE_SECS = 30.0
_FIRST_DELAY_SECS = 0.0001
_LONGEST_DELAY_SECS = 0.01
_FOLLOW_SECS = 1.0
#: Longer than any kernel's tick, by which the times of files move.
_TICK_NS = 20_000_000

_REASONS = {
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; name another one, or move it away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; move it away, a new one will be made",
    sqlite3.SQLITE_READONLY: "the file or its directory is read-only; who sends or takes must write",
    sqlite3.SQLITE_PERM: "the file may not be written; who sends or takes must",
    sqlite3.SQLITE_FULL: "the disk is full; nothing was written",
}
#: A disk that is full says so otherwise; a quota and a failing disk say this.
_NOT_WRITTEN = frozenset({
    sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE,
})  # fmt: skip


class _BusyError(Exception):
    """The file cannot be used just now; says what it will be if that goes on."""


class Connections:
    """The connections to one file that nobody is using just now, and the making of more.

    Args:
        path: the file, absolute.
        url: its name in errors.
        greet: what to do to the file before it is first used.
        durable: whether a commit is on disk when it returns.

    """

    def __init__(self, path: str, url: str, greet: Callable[[Database], None], *, durable: bool = False) -> None:
        self._path = path
        self._durable = durable
        self._url = url
        self._greet: Callable[[Database], None] | None = greet
        self._idle: deque[Database] = deque()
        #: Those that are open: a connection of them that is not idle is in use.
        self._opened: weakref.WeakSet[Database] = weakref.WeakSet()
        self._inode = 0
        self._wall_offset = 0.0
        self._follow_at = 0.0
        weakref.finalize(self, _close_idle, self._idle, self._opened)
        _everywhere.add(self)

    async def run(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation in an event loop. It runs after the last await, so a cancelled call did nothing.

        Raises:
            LayerUnavailable: the file cannot be used, or was locked for 30 s.

        """
        delays = None
        while True:
            try:
                return self._once(operation, *args, **kwargs)
            except _BusyError as error:
                delays = delays or self._delays(error)
            await asyncio.sleep(next(delays))

    def run_sync(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation in a thread that may be held up; as `run`."""
        delays = None
        while True:
            try:
                return self._once(operation, *args, **kwargs)
            except _BusyError as error:
                delays = delays or self._delays(error)
            time.sleep(next(delays))

    def run_now(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run an operation without retrying; return `None` if the database is busy or unavailable."""
        try:
            return self._once(operation, *args, **kwargs)
        except (_BusyError, LayerUnavailable):
            return None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that is not in use."""
        return bool(self._idle)

    @property
    def are_used(self) -> bool:
        """Whether a connection is open, when `close` has closed those that are not in use."""
        return bool(self._opened)

    def close(self) -> None:
        """Close what is not in use."""
        _close_idle(self._idle, self._opened)

    def abandon(self) -> None:
        """Use no connection that is open, and close none: they belong to the process that forked this one."""
        abandoned = _Abandoned(self._idle)
        self._idle.clear()
        self._idle = abandoned

    def _once(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        now = time.clock_gettime(CLOCK)
        if now >= self._follow_at:
            self._follow_the_file(now)
        try:
            # From here to its return the connection is in use. Nothing else is noted: each event passes here.
            db = self._idle.pop()
        except IndexError:
            db = self._open()
            now = time.clock_gettime(CLOCK)
        db.now = now + db.offset
        try:
            result = operation(db, *args, **kwargs)
        except sqlite3.Error as error:
            problem = self._problem(error)
            if _is_locked(error):
                self._idle.append(db)
            else:
                self._close(db)
            raise problem from error
        except BaseException:
            self._idle.append(db)
            raise
        self._idle.append(db)
        return result

    def _close(self, db: Database) -> None:
        db.close()
        self._opened.discard(db)

    def _open(self) -> Database:
        with _opening(self._url):
            db = None
            try:
                _make_private(self._path)
                db = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False, factory=Database
                )
                self._wall_offset = wall_offset()
                prepare(db, durable=self._durable)
                db.now = time.clock_gettime(CLOCK) + db.offset
                if self._greet is not None:
                    self._greet(db)
                self._inode = Path(self._path).stat().st_ino
            except (sqlite3.Error, AlienFile, OSError) as error:
                if db is not None:
                    db.close()
                raise self._problem(error) from error
            self._opened.add(db)
        self._greet = None
        return db

    def _follow_the_file(self, now: float) -> None:
        """Leave a file that was deleted or replaced: nobody else would see what is sent to it.

        When the wall clock was set, a new connection writes that down.
        """
        self._follow_at = now + _FOLLOW_SECS
        try:
            inode = Path(self._path).stat().st_ino
        except OSError:
            inode = 0
        if inode != self._inode or has_stepped(self._wall_offset):
            self.close()

    def _problem(self, error: Exception) -> LayerUnavailable | _BusyError:
        """Say what an error means to the user."""
        code = _code(error)
        if _is_locked(error):
            return _BusyError("the database is locked by another process")
        if getattr(error, "sqlite_errorcode", 0) in _NOT_WRITTEN:
            return LayerUnavailable(
                self._url, f"the file cannot be written ({error}); is a quota used up, or the disk failing?"
            )
        if code == sqlite3.SQLITE_IOERR:
            # Of a file that was deleted, others hold the log until they notice.
            self.close()
            return _BusyError(f"{error} (was the file deleted while it was in use?)")
        if isinstance(error, AlienFile):
            return LayerUnavailable(self._url, f"the file {error}")
        if code == sqlite3.SQLITE_CANTOPEN:
            return LayerUnavailable(self._url, self._why_not_opened())
        return LayerUnavailable(self._url, _REASONS.get(code, f"the file cannot be used: {error}"))

    def _why_not_opened(self) -> str:
        path = Path(self._path)
        if path.is_dir():
            return "this is a directory; name a file"
        if not path.parent.is_dir():
            return f"the directory {quoted(derived(str(path.parent), self._url), 200)} does not exist; create it"
        return "the file cannot be opened; may this user read and write it, and its directory?"

    def _delays(self, error: _BusyError) -> Iterator[float]:
        give_up_at = time.monotonic() + PATIENCE_SECS
        delay = _FIRST_DELAY_SECS
        while time.monotonic() < give_up_at:
            yield delay * random.uniform(0.5, 1.5)  # noqa: S311  (so that those who wait do not march in step)
            delay = min(delay * 1.5, _LONGEST_DELAY_SECS)
        raise LayerUnavailable(self._url, f"{error} for {PATIENCE_SECS:.0f} s") from error


class Readers(Connections):
    """Connections for operations that only read: they change nothing and leave no file behind.

    Where this process has a connection that writes, it is used: then the side files are its own anyway.

    Args:
        path: the file, absolute; where it is missing, nothing is in it.
        url: its name in errors.
        writers: the connections of this process that write.

    """

    def __init__(self, path: str, url: str, writers: Connections) -> None:
        super().__init__(path, url, _do_nothing)
        self._writers = writers

    def _once(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._writers.is_open:
            return self._writers._once(operation, *args, **kwargs)  # noqa: SLF001  (one of this class)
        with _opening(self._url):
            return self._read(operation, *args, **kwargs)

    def _read(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # A connection that reads makes the side files that it lacks, unless it is told that nobody changes the file.
        resting = self._resting()
        try:
            uri = self._uri(immutable=resting is not None)
            db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, factory=Database)
            try:
                if not prepare_to_read(db):
                    return _in_an_empty_file(operation, *args, **kwargs)
                db.now = time.clock_gettime(CLOCK) + db.offset
                result = operation(db, *args, **kwargs)
            finally:
                db.close()
        except (sqlite3.Error, AlienFile) as error:
            path = Path(self._path)
            if path.parent.is_dir() and not path.exists():
                return _in_an_empty_file(operation, *args, **kwargs)
            raise self._problem(error) from error
        if resting != self._resting():
            raise _BusyError("the database is being changed by another process")
        return result

    def _resting(self) -> tuple[int, ...] | None:
        """Return what changes when the file does; None where a log beside it holds some of what was committed."""
        with suppress(FileNotFoundError):
            if Path(f"{self._path}-wal").stat().st_size:
                return None
        with suppress(FileNotFoundError):
            found = Path(self._path).stat()
            if 0 <= time.time_ns() - found.st_mtime_ns < _TICK_NS:
                # The next change might not show. (A time in the future is one that it certainly replaces.)
                raise _BusyError("the database is being changed by another process")
            return found.st_ino, found.st_size, found.st_mtime_ns
        return ()

    def _uri(self, *, immutable: bool) -> str:
        return f"file:{quote(self._path)}?mode=ro{'&immutable=1' if immutable else ''}"


def _do_nothing(_db: Database) -> None:
    """Leave the file as it is."""


def _in_an_empty_file(operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=Database)) as db:
        make_tables(db)
        return operation(db, *args, **kwargs)


def _make_private(path: str) -> None:
    """Make a missing file that only this user may read, whatever the umask; SQLite's side files have its mode.

    It is made under another name, since closing a file that a connection of this process has open ends its locks. Where
    there are no hard links there are no such modes either; what else is in the way, SQLite says.
    """
    if os.path.lexists(path):
        return
    with suppress(OSError):
        directory, name = os.path.split(path)
        handle, made = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
        os.close(handle)
        try:
            os.link(made, path)
        finally:
            os.unlink(made)  # noqa: PTH108  (a text)


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_locked(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _close_idle(idle: deque[Database], opened: "weakref.WeakSet[Database]") -> None:
    while True:
        try:
            db = idle.pop()
        except IndexError:
            return
        db.close()
        opened.discard(db)


# Forks.
#
# SQLite keeps an account of the locks of its process. A child that inherits an open connection inherits the account,
# but the kernel gives it none of the locks: it would write without any, or wait forever for one that none of its
# threads can release. So no thread has a connection open while its process forks, and both sides open new ones.

#: How long a fork waits for the operations of other threads to end.
FORK_PATIENCE_SECS = 30.0
#: After so long a fork looks for connections that nobody has: Ctrl-C may come at the moment at which an operation has
#: taken one and does not hold it yet. (Each is in a reference cycle of sqlite3's own.)
_TORN_SECS = 0.5

_everywhere: "weakref.WeakSet[Connections]" = weakref.WeakSet()
#: The threads that open a connection, those that fork, and those of them that could not wait until none was used;
#: adding and discarding are atomic.
_openers: set[int] = set()
_forking: set[int] = set()
_forking_unsafely: set[int] = set()
#: Why no connection may be opened in this process; empty where one may.
_unsafe_since_fork = ""


class _Abandoned(deque[Database]):
    """Connections that are never handed out."""

    def pop(self) -> Database:  # type: ignore[override]
        raise IndexError


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Let no thread fork meanwhile.

    Raises:
        _BusyError: one does.
        LayerUnavailable: this process may open none.

    """
    # First say that this thread opens a connection, then look whether one forks: `_before_fork` does it the other way
    # round, so at least one of the two sees the other.
    _openers.add(get_ident())
    try:
        if _forking:
            raise _BusyError("this process is being forked")
        if _unsafe_since_fork:
            raise LayerUnavailable(url, _unsafe_since_fork)
        yield
    finally:
        _openers.discard(get_ident())


def _before_fork() -> None:
    """Wait until no other thread uses a connection, keep them from it, and close those that are idle."""
    _forking.add(get_ident())
    begun, is_tidy = time.monotonic(), False
    while _close_everywhere() or _openers:
        waited = time.monotonic() - begun
        if _is_inside_operation() or waited >= FORK_PATIENCE_SECS:
            _forking_unsafely.add(get_ident())
            return
        if waited >= _TORN_SECS and not is_tidy:
            gc.collect()
            is_tidy = True
        time.sleep(_FIRST_DELAY_SECS)
    # A thread that comes from here on finds no connection, sees that one forks, and opens none.


def _close_everywhere() -> bool:
    """Close all connections that are not in use; say whether others are."""
    everywhere = list(_everywhere)
    for connections in everywhere:
        connections.close()
    return any(connections.are_used for connections in everywhere)


def _is_inside_operation() -> bool:
    """Whether this thread forks in the middle of an operation, for whose end it would wait forever."""
    frame: Any = sys._getframe()  # noqa: SLF001  (documented)
    while frame is not None:
        if frame.f_code in _OPERATIONS:
            return True
        frame = frame.f_back
    return False


_OPERATIONS = {Connections._once.__code__, Readers._once.__code__}  # noqa: SLF001  (of this module)


def _after_fork_in_parent() -> None:
    _forking.discard(get_ident())
    _forking_unsafely.discard(get_ident())


def _after_fork_in_child() -> None:
    global _unsafe_since_fork  # noqa: PLW0603  (a property of the process)
    if get_ident() in _forking_unsafely:
        _unsafe_since_fork = "this process was forked in the middle of an operation on the file; start it anew"
        for connections in list(_everywhere):
            connections.abandon()
    for threads in (_openers, _forking, _forking_unsafely):
        threads.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
