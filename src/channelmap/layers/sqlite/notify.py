"""Notification of idle workers, also across processes, without polling.

A directory beside the file has one Unix datagram socket for each event loop that takes events. After its commit, a
sender sends the channel's name to each socket. Three invariants keep notifications from being lost:

- The socket exists before its owner reads the queue, and the kernel queues notifications while the owner is busy.
- There is no await between a read that found no event and the wait.
- The kernel queues few notifications and drops further ones. After many notifications, the listener therefore asks the
  database which channels have events or leases, and wakes the takes that wait for those.

A sender that is killed after its commit sends no notification. A heartbeat therefore checks whether the file has
changed, and then asks the database in the same way. Without sockets, the heartbeat runs at a shorter interval.
"""

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from channelmap.layers.sqlite.sockets import SocketDirectory, mode_of, new_name

log = logging.getLogger("channelmap.layers.sqlite")

HEARTBEAT_SECS = 5.0
POLL_SECS = 0.05
_MAX_ADDRESS_LENGTH = 100
#: Notifications that a socket queues at least: net.unix.max_dgram_qlen is 10 by default on Linux.
_MAX_QUEUED = 10
#: Notifications that are read before the takes that they wake may run.
_MAX_READ = 64
#: Longer than any kernel's tick.
_TICK_NS = 20_000_000

Occupied = Callable[[], Iterable[str] | None]


class Notifier:
    """Send notifications to all listeners of one file, from any thread.

    Sockets close when the last reference is dropped, because another thread may still be sending.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory: SocketDirectory | None = None
        self._listeners: dict[str, _NotifierSocket] = {}
        self._listed_ns = 0

    def notify(self, channel: str) -> None:
        """Notify all listeners that the channel has a new event; never blocks and never fails."""
        directory = self._directory
        if directory is None:
            self._refresh()
        else:
            found = directory.status()
            if found.st_mtime_ns != self._listed_ns or not found.st_nlink:
                self._refresh()
        message = channel.encode()
        for name, peer in self._listeners.items():
            try:
                peer.sock.send(message)
            except OSError as error:
                _remove_stale(self._directory, name, error)

    def close(self) -> None:
        """Drop all sockets; the next call of `notify` opens them again."""
        self._directory, self._listeners = None, {}

    def _refresh(self) -> None:
        """Read the directory, and connect to new listeners."""
        with suppress(OSError):
            directory = SocketDirectory(self._path)
            changed_ns = directory.status().st_mtime_ns
            peers = {name: self._listeners.get(name) or self._connect(directory, name) for name in directory.names()}
            self._listeners = {name: peer for name, peer in peers.items() if peer is not None}
            self._directory = directory
            self._listed_ns = changed_ns if _is_settled(changed_ns) else 0

    def _connect(self, directory: SocketDirectory, name: str) -> "_NotifierSocket | None":
        try:
            return _NotifierSocket(directory.path / name)
        except OSError as error:
            _remove_stale(directory, name, error)
            return None


class _NotifierSocket:
    """A socket connected to one listener, so that a listener that does not read fills only its own buffer."""

    def __init__(self, address: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(0)
        _with_address(os.fsencode(address), self.sock.connect)

    def __del__(self) -> None:
        self.sock.close()


class Listener:
    """Wait for notifications in one event loop, and wake the waiting takes.

    Args:
        path: the file.
        url: its name in the log.
        occupied: returns the channels that have events or leases; `None` if the database cannot be read now.

    Attributes:
        lost: the socket was deleted, so no sender can reach it; open another listener.

    """

    def __init__(self, path: str, url: str, occupied: Occupied) -> None:
        self.lost = False
        self._path = path
        self._occupied = occupied
        #: By channel name, encoded as in a notification.
        self._waiters: dict[bytes, list[asyncio.Future[bool]]] = {}
        self._listens = False
        self._heartbeat: asyncio.TimerHandle | None = None
        self._footprint: tuple[int, ...] | None = None
        self._name = new_name()
        self._directory, self._socket = _make_socket(path, self._name, url)
        self._remove_socket = weakref.finalize(
            self, _remove_socket, self._socket, self._directory, self._name, os.getpid()
        )

    async def wait(self, channel: str, due: float | None) -> bool:
        """Wait for a notification of the channel, at most `due` seconds; return whether one arrived."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()
        name = channel.encode()
        self._listen(loop)
        self._waiters.setdefault(name, []).append(woken)
        timer = None if due is None else loop.call_later(due, _wake, woken, False)  # noqa: FBT003
        try:
            return await woken
        finally:
            if timer is not None:
                timer.cancel()
            # A notification has removed all waiters of its channel from the dict.
            waiters = self._waiters.get(name, [])
            if woken in waiters:
                waiters.remove(woken)
                if not waiters:
                    del self._waiters[name]

    def close(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        """Remove the socket, and raise `error` in all waiting takes."""
        for waiter in itertools.chain(*self._waiters.values()):
            if not waiter.done():
                waiter.set_exception(error)
        self._stop_listening(loop)
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._socket = None
        self._remove_socket()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._listens and self._socket is not None:
            loop.add_reader(self._socket, self._on_message, loop, self._socket)
            self._listens = True
        if self._heartbeat is None:
            # No check now: it would see changes that are newer than the read of the queue.
            self._schedule(loop)

    def _stop_listening(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._listens and self._socket is not None and not loop.is_closed():
            loop.remove_reader(self._socket)
        self._listens = False

    def _on_message(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        if not self._waiters:
            # No take is waiting, so reading notifications would be wasted work.
            self._stop_listening(loop)
            return
        try:
            name = sock.recv(256)
        except BlockingIOError:
            return
        self._wake_all(name, notified=True)
        # Read further notifications after the woken takes have run.
        loop.call_soon(self._read_more, sock)

    def _read_more(self, sock: socket.socket) -> None:
        read = 1
        with suppress(OSError):
            while read < _MAX_READ:
                self._wake_all(sock.recv(256), notified=True)
                read += 1
        if read >= _MAX_QUEUED:
            # Not earlier: the kernel may have dropped notifications until the last one was read.
            self._wake_occupied()

    def _wake_occupied(self) -> None:
        """Wake the takes whose channels have events or leases; all takes if the database cannot be read now."""
        occupied = self._occupied()
        for name in [*self._waiters] if occupied is None else map(str.encode, occupied):
            self._wake_all(name, notified=False)

    def _wake_all(self, name: bytes, *, notified: bool) -> None:
        for waiter in self._waiters.pop(name, ()):
            _wake(waiter, notified)

    def _check_file(self, loop: asyncio.AbstractEventLoop) -> None:
        self._heartbeat = None
        self.lost = self._directory is not None and not self._is_reachable(self._directory)
        footprint = _footprint(self._path)
        is_waited_for = bool(self._waiters)
        if self.lost:
            for name in [*self._waiters]:
                self._wake_all(name, notified=False)
        elif footprint is None or footprint != self._footprint:
            self._wake_occupied()
        self._footprint = footprint
        if is_waited_for:
            self._schedule(loop)

    def _is_reachable(self, directory: SocketDirectory) -> bool:
        # A deleted directory still exists for processes that hold it open.
        return directory.status().st_nlink > 0 and directory.holds(self._name)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        period = POLL_SECS if self._socket is None else HEARTBEAT_SECS
        self._heartbeat = loop.call_later(period, self._check_file, loop)


class Listeners:
    """The listeners of one file in this process: one for each event loop that takes events."""

    def __init__(self, path: str, url: str, occupied: Occupied) -> None:
        self._path = path
        self._url = url
        self._occupied = occupied
        self._listeners = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Listener]()
        self._lock = threading.Lock()

    def current(self) -> Listener | None:
        """Return the listener of the running loop, if it exists and is reachable."""
        sock = self._listeners.get(asyncio.get_running_loop())
        return None if sock is None or sock.lost else sock

    def open(self) -> Listener:
        """Create a listener for the running loop; the file must exist. Read the queue once more before waiting."""
        sock = Listener(self._path, self._url, self._occupied)
        with self._lock:
            for loop in list(self._listeners):
                if loop.is_closed():
                    del self._listeners[loop]
            self._listeners[asyncio.get_running_loop()] = sock
        return sock

    def close(self, error: Exception) -> None:
        """Close all listeners, and raise `error` in all waiting takes of all loops."""
        with self._lock:
            listeners = list(self._listeners.items())
            self._listeners.clear()
        current = asyncio.get_running_loop()
        for loop, sock in listeners:
            if loop is not current and loop.is_running():
                loop.call_soon_threadsafe(sock.close, loop, error)
            else:
                sock.close(loop, error)


def _remove_stale(directory: SocketDirectory | None, name: str, error: OSError) -> None:
    """Remove a socket whose owner was killed; a full socket, or one of another user, stays."""
    if directory is not None and isinstance(error, ConnectionRefusedError):
        directory.remove(name)


def _wake(waiter: asyncio.Future[bool], notified: bool) -> None:  # noqa: FBT001  (as `call_later` passes it)
    if not waiter.done():
        waiter.set_result(notified)


def _is_settled(mtime_ns: int) -> bool:
    """Return whether the next change will alter this mtime: mtimes have the resolution of the kernel's tick."""
    return not 0 <= time.time_ns() - mtime_ns <= _TICK_NS


def _footprint(path: str) -> tuple[int, ...] | None:
    """Return a fingerprint that changes with every commit; None while the mtimes are too recent to tell."""
    marks = []
    for name in (path, f"{path}-wal"):
        try:
            found = Path(name).stat()
        except OSError:
            marks.append(0)
            continue
        if not _is_settled(found.st_mtime_ns):
            return None
        marks += [found.st_ino, found.st_mtime_ns]
    return tuple(marks)


def _with_address(path: bytes, use: Callable[[bytes], object]) -> None:
    """Call `use` with an address of the socket at `path`; a long path is replaced by a short one."""
    if len(path) <= _MAX_ADDRESS_LENGTH:
        use(path)
        return
    directory, name = os.path.split(path)
    handle = os.open(directory, os.O_RDONLY)
    try:
        use(b"/proc/self/fd/%d/%b" % (handle, name))
    finally:
        os.close(handle)


def _make_socket(path: str, name: str, url: str) -> tuple[SocketDirectory | None, socket.socket | None]:
    """Create the socket of a listener; return `(None, None)` where that is impossible."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        directory = SocketDirectory(path)
        sock.settimeout(0)
        # Bind under a hidden name: senders remove sockets that refuse a connection.
        hidden = directory.path / f".{name}"
        _with_address(os.fsencode(hidden), sock.bind)
        hidden.chmod(mode_of(path))
        hidden.rename(directory.path / name)
    except OSError as error:
        sock.close()
        log.info(
            "%s: no notification socket (%s); looking for events every %d ms", url, error.strerror, POLL_SECS * 1000
        )
        return None, None
    return directory, sock


def _remove_socket(sock: socket.socket | None, directory: SocketDirectory | None, name: str, pid: int) -> None:
    if sock is None or directory is None:
        return
    sock.close()
    # A forked child has a copy of the socket, but the file belongs to its parent.
    if os.getpid() == pid:
        directory.remove(name)
