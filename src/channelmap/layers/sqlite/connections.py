"""Connections to one file, shared by threads and event loops, with retries while the file is locked.

SQLite runs on the caller's thread, because a hop to another thread costs more than the statement. So a connection
never waits inside SQLite for another process (`timeout=0`): the caller sleeps or awaits, and retries.
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
from channelmap.layers.sqlite.schema import ForeignFile, make_tables, prepare, prepare_to_read

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Database, P], T]

BUSY_TIMEOUT_SECS = 30.0
_FIRST_DELAY_SECS = 0.0001
_MAX_DELAY_SECS = 0.01
_CHECK_INTERVAL_SECS = 1.0
#: Longer than any kernel's tick, the resolution of mtimes.
_TICK_NS = 20_000_000

_REASONS = {
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database; name another one, or move it away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; move it away, and a new one will be created",
    sqlite3.SQLITE_READONLY: "the file or its directory is read-only; sending and taking need write access",
    sqlite3.SQLITE_PERM: "the file may not be written; sending and taking need write access",
    sqlite3.SQLITE_FULL: "the disk is full; nothing was written",
}
#: Errors of an exceeded quota or a failing disk; a full disk has its own code.
_NOT_WRITTEN = frozenset({
    sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE,
})  # fmt: skip


class _BusyError(Exception):
    """The file cannot be used at the moment; the text is the error if that lasts."""


class Connections:
    """A pool of connections to one file.

    Args:
        path: the file, absolute.
        url: the layer's name in errors.
        initialize: called with the first connection.
        durable: whether a commit returns only once it is on disk.

    """

    def __init__(self, path: str, url: str, initialize: Callable[[Database], None], *, durable: bool = False) -> None:
        self._path = path
        self._durable = durable
        self._url = url
        self._initialize: Callable[[Database], None] | None = initialize
        self._idle: deque[Database] = deque()
        #: All open connections; those that are not idle are in use.
        self._opened: weakref.WeakSet[Database] = weakref.WeakSet()
        self._inode = 0
        self._wall_offset = 0.0
        self._check_at = 0.0
        weakref.finalize(self, _close_idle, self._idle, self._opened)
        _all_connections.add(self)

    async def run(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation in an event loop. It runs after the last await, so a cancelled call has no effect.

        Raises:
            LayerUnavailable: the file cannot be used, or was locked for 30 s.

        """
        delays = None
        while True:
            try:
                return self._run_once(operation, *args, **kwargs)
            except _BusyError as error:
                delays = delays or self._delays(error)
            await asyncio.sleep(next(delays))

    def run_sync(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation in a thread that may block; see `run`."""
        delays = None
        while True:
            try:
                return self._run_once(operation, *args, **kwargs)
            except _BusyError as error:
                delays = delays or self._delays(error)
            time.sleep(next(delays))

    def run_now(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run an operation without retrying; return `None` if the database is busy or unavailable."""
        try:
            return self._run_once(operation, *args, **kwargs)
        except (_BusyError, LayerUnavailable):
            return None

    @property
    def is_open(self) -> bool:
        """Whether an idle connection is open."""
        return bool(self._idle)

    @property
    def are_used(self) -> bool:
        """Whether a connection is in use; call `close` first, to close the idle ones."""
        return bool(self._opened)

    def close(self) -> None:
        """Close the idle connections."""
        _close_idle(self._idle, self._opened)

    def abandon(self) -> None:
        """Neither use nor close open connections: they belong to the parent process."""
        abandoned = _Abandoned(self._idle)
        self._idle.clear()
        self._idle = abandoned

    def _run_once(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        now = time.clock_gettime(CLOCK)
        if now >= self._check_at:
            self._check_file(now)
        try:
            # The connection is in use until it is appended again. This is the path of every event: no more bookkeeping.
            db = self._idle.pop()
        except IndexError:
            db = self._open()
            now = time.clock_gettime(CLOCK)
        db.now = now + db.offset
        try:
            result = operation(db, *args, **kwargs)
        except sqlite3.Error as error:
            problem = self._to_layer_error(error)
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
                _create_private(self._path)
                db = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False, factory=Database
                )
                self._wall_offset = wall_offset()
                prepare(db, durable=self._durable)
                db.now = time.clock_gettime(CLOCK) + db.offset
                if self._initialize is not None:
                    self._initialize(db)
                self._inode = Path(self._path).stat().st_ino
            except (sqlite3.Error, ForeignFile, OSError) as error:
                if db is not None:
                    db.close()
                raise self._to_layer_error(error) from error
            self._opened.add(db)
        self._initialize = None
        return db

    def _check_file(self, now: float) -> None:
        """Close the idle connections if the file was deleted or replaced, or if the wall clock was set.

        A new connection uses the new file, and updates the clock of the file.
        """
        self._check_at = now + _CHECK_INTERVAL_SECS
        try:
            inode = Path(self._path).stat().st_ino
        except OSError:
            inode = 0
        if inode != self._inode or has_stepped(self._wall_offset):
            self.close()

    def _to_layer_error(self, error: Exception) -> LayerUnavailable | _BusyError:
        """Return the error to raise for an error of SQLite."""
        code = _code(error)
        if _is_locked(error):
            return _BusyError("the database is locked by another process")
        if getattr(error, "sqlite_errorcode", 0) in _NOT_WRITTEN:
            return LayerUnavailable(
                self._url, f"the file cannot be written ({error}); is a quota used up, or the disk failing?"
            )
        if code == sqlite3.SQLITE_IOERR:
            # Other connections keep the log of a deleted file until they notice.
            self.close()
            return _BusyError(f"{error} (was the file deleted while it was in use?)")
        if isinstance(error, ForeignFile):
            return LayerUnavailable(self._url, f"the file {error}")
        if code == sqlite3.SQLITE_CANTOPEN:
            return LayerUnavailable(self._url, self._reason_not_opened())
        return LayerUnavailable(self._url, _REASONS.get(code, f"the file cannot be used: {error}"))

    def _reason_not_opened(self) -> str:
        path = Path(self._path)
        if path.is_dir():
            return "this is a directory; name a file"
        if not path.parent.is_dir():
            return f"the directory {quoted(derived(str(path.parent), self._url), 200)} does not exist; create it"
        return "the file cannot be opened; may this user read and write it, and its directory?"

    def _delays(self, error: _BusyError) -> Iterator[float]:
        give_up_at = time.monotonic() + BUSY_TIMEOUT_SECS
        delay = _FIRST_DELAY_SECS
        while time.monotonic() < give_up_at:
            yield delay * random.uniform(0.5, 1.5)  # noqa: S311  (jitter, so that waiting processes do not retry together)
            delay = min(delay * 1.5, _MAX_DELAY_SECS)
        raise LayerUnavailable(self._url, f"{error} for {BUSY_TIMEOUT_SECS:.0f} s") from error


class Readers(Connections):
    """Connections for read-only operations: they change nothing and leave no file behind.

    An open writing connection of this process is preferred, because its side files exist anyway.

    Args:
        path: the file, absolute; a missing file counts as empty.
        url: the layer's name in errors.
        writers: the writing connections of this process.

    """

    def __init__(self, path: str, url: str, writers: Connections) -> None:
        super().__init__(path, url, _initialize_nothing)
        self._writers = writers

    def _run_once(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._writers.is_open:
            return self._writers._run_once(operation, *args, **kwargs)  # noqa: SLF001  (one of this class)
        with _opening(self._url):
            return self._read(operation, *args, **kwargs)

    def _read(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # A reading connection creates missing side files, unless it is opened as immutable.
        fingerprint = self._fingerprint()
        try:
            uri = self._uri(immutable=fingerprint is not None)
            db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, factory=Database)
            try:
                if not prepare_to_read(db):
                    return _in_an_empty_file(operation, *args, **kwargs)
                db.now = time.clock_gettime(CLOCK) + db.offset
                result = operation(db, *args, **kwargs)
            finally:
                db.close()
        except (sqlite3.Error, ForeignFile) as error:
            path = Path(self._path)
            if path.parent.is_dir() and not path.exists():
                return _in_an_empty_file(operation, *args, **kwargs)
            raise self._to_layer_error(error) from error
        if fingerprint != self._fingerprint():
            raise _BusyError("the database is being changed by another process")
        return result

    def _fingerprint(self) -> tuple[int, ...] | None:
        """Return a fingerprint that changes with the file; None if the log beside it has committed data."""
        with suppress(FileNotFoundError):
            if Path(f"{self._path}-wal").stat().st_size:
                return None
        with suppress(FileNotFoundError):
            found = Path(self._path).stat()
            if 0 <= time.time_ns() - found.st_mtime_ns < _TICK_NS:
                # The next change may leave the mtime as it is, unless the mtime lies in the future.
                raise _BusyError("the database is being changed by another process")
            return found.st_ino, found.st_size, found.st_mtime_ns
        return ()

    def _uri(self, *, immutable: bool) -> str:
        return f"file:{quote(self._path)}?mode=ro{'&immutable=1' if immutable else ''}"


def _initialize_nothing(_db: Database) -> None:
    """Do nothing."""


def _in_an_empty_file(operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=Database)) as db:
        make_tables(db)
        return operation(db, *args, **kwargs)


def _create_private(path: str) -> None:
    """Create a missing file that only this user may read, whatever the umask; SQLite's side files get its mode.

    The file is created under another name and linked: closing a file that a connection of this process has open would
    release its locks. File systems without hard links have no modes either. SQLite reports other errors.
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
# SQLite keeps a table of the locks of its process. A forked child inherits the table of an open connection, but not the
# locks: it would write without locks, or wait forever for a lock that none of its threads can release. So no thread has
# a connection open while its process forks, and both processes open new ones.

#: Maximum time that a fork waits for the operations of other threads, in seconds.
FORK_TIMEOUT_SECS = 30.0
#: Time in seconds after which a fork collects lost connections: Ctrl-C may interrupt an operation between the pop of a
#: connection and its assignment. (A lost one stays alive in a reference cycle of sqlite3.)
_COLLECT_AFTER_SECS = 0.5

_all_connections: "weakref.WeakSet[Connections]" = weakref.WeakSet()
#: The threads that open a connection, the threads that fork, and those of the latter that forked while a connection was
#: in use; adding and discarding are atomic.
_openers: set[int] = set()
_forking: set[int] = set()
_forking_unsafely: set[int] = set()
#: The reason why this process must not open a connection; empty if it may.
_unsafe_since_fork = ""


class _Abandoned(deque[Database]):
    """A deque of connections that are never handed out."""

    def pop(self) -> Database:  # type: ignore[override]
        raise IndexError


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Keep other threads from forking while a connection is opened.

    Raises:
        _BusyError: a thread is forking.
        LayerUnavailable: this process must not open a connection.

    """
    # Register first, then check for forks; `_before_fork` does it in the opposite order. So at least one of the two
    # sees the other.
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
    """Wait until no thread uses a connection, block new ones, and close the idle ones."""
    _forking.add(get_ident())
    begun, has_collected = time.monotonic(), False
    while _close_all_idle() or _openers:
        waited = time.monotonic() - begun
        if _is_inside_operation() or waited >= FORK_TIMEOUT_SECS:
            _forking_unsafely.add(get_ident())
            return
        if waited >= _COLLECT_AFTER_SECS and not has_collected:
            gc.collect()
            has_collected = True
        time.sleep(_FIRST_DELAY_SECS)
    # From here on, a thread finds no idle connection and sees the fork, so it opens none.


def _close_all_idle() -> bool:
    """Close all idle connections; return whether others are in use."""
    everywhere = list(_all_connections)
    for connections in everywhere:
        connections.close()
    return any(connections.are_used for connections in everywhere)


def _is_inside_operation() -> bool:
    """Return whether this thread forks inside an operation, whose end it would wait for forever."""
    frame: Any = sys._getframe()  # noqa: SLF001  (documented)
    while frame is not None:
        if frame.f_code in _OPERATIONS:
            return True
        frame = frame.f_back
    return False


_OPERATIONS = {Connections._run_once.__code__, Readers._run_once.__code__}  # noqa: SLF001  (of this module)


def _after_fork_in_parent() -> None:
    _forking.discard(get_ident())
    _forking_unsafely.discard(get_ident())


def _after_fork_in_child() -> None:
    global _unsafe_since_fork  # noqa: PLW0603  (a property of the process)
    if get_ident() in _forking_unsafely:
        _unsafe_since_fork = "this process was forked in the middle of an operation on the file; restart it"
        for connections in list(_all_connections):
            connections.abandon()
    for threads in (_openers, _forking, _forking_unsafely):
        threads.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
