"""How a sender wakes those who wait, in other processes too, without anybody polling.

Beside the file stands a directory with one Unix datagram socket for each event loop that takes. A sender,
after its commit, sends the channel's name to each. Three laws keep a ring from being lost:

- The socket is there before its owner looks into the queue, and while it is busy rings wait in the kernel.
- Between a look that found nothing and the wait stands no await.
- The kernel queues few rings and drops further ones. After a burst of rings, the listener therefore asks the database
  which channels have events or leases, and wakes the takes that wait for those.

A sender that is killed between commit and ring does not ring. A heartbeat checks whether the file has changed, and then
asks the database in the same way. Without sockets, the same heartbeat runs at a shorter interval.
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
_LONGEST_ADDRESS = 100
# net.unix.max_dgram_qlen is 10 on a plain Linux.
_MANY_RINGS = 10
#: Rings that are read before the takes that they wake may run.
_MOST_RINGS = 64
# More than any kernel's tick.
_TICK_NS = 20_000_000

Occupied = Callable[[], Iterable[str] | None]


class Ringer:
    """The sender's side: rings every bell of one file, from any thread.

    What is open is closed by whoever lets go of it last: another thread may be ringing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory: SocketDirectory | None = None
        self._bells: dict[str, _Rope] = {}
        self._listed_ns = 0

    def ring(self, channel: str) -> None:
        """Tell all who wait for the channel to look; never waits and never fails."""
        directory = self._directory
        if directory is None:
            self._look()
        else:
            found = directory.status()
            if found.st_mtime_ns != self._listed_ns or not found.st_nlink:
                self._look()
        message = channel.encode()
        for name, rope in self._bells.items():
            try:
                rope.bell.send(message)
            except OSError as error:
                _remove_stale(self._directory, name, error)

    def close(self) -> None:
        """Let go of everything; the next ring looks anew."""
        self._directory, self._bells = None, {}

    def _look(self) -> None:
        """See which bells hang: the directory is new, or some have come and gone."""
        with suppress(OSError):
            directory = SocketDirectory(self._path)
            changed_ns = directory.status().st_mtime_ns
            ropes = {name: self._bells.get(name) or self._tie(directory, name) for name in directory.names()}
            self._bells = {name: rope for name, rope in ropes.items() if rope is not None}
            self._directory = directory
            self._listed_ns = changed_ns if _is_settled(changed_ns) else 0

    def _tie(self, directory: SocketDirectory, name: str) -> "_Rope | None":
        try:
            return _Rope(directory.path / name)
        except OSError as error:
            _remove_stale(directory, name, error)
            return None


class _Rope:
    """A socket for one bell: rings that a busy worker has not read use up its room, and nobody else's."""

    def __init__(self, address: Path) -> None:
        self.bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.bell.settimeout(0)
        _reach(os.fsencode(address), self.bell.connect)

    def __del__(self) -> None:
        self.bell.close()


class Doorbell:
    """The listener's side: wakes those who wait in one event loop.

    Args:
        path: the file.
        url: its name in the log.
        occupied: returns the channels that have events or leases; `None` if the database cannot be read now.

    Attributes:
        lost: somebody deleted the socket, so nobody can ring: hang another.

    """

    def __init__(self, path: str, url: str, occupied: Occupied) -> None:
        self.lost = False
        self._path = path
        self._occupied = occupied
        #: By the channel's name as a ring says it.
        self._waiters: dict[bytes, list[asyncio.Future[bool]]] = {}
        self._listens = False
        self._heartbeat: asyncio.TimerHandle | None = None
        self._footprint: tuple[int, ...] | None = None
        self._name = new_name()
        self._directory, self._socket = _hang(path, self._name, url)
        self._take_down = weakref.finalize(self, _take_down, self._socket, self._directory, self._name, os.getpid())

    async def wait(self, channel: str, due: float | None) -> bool:
        """Wait for a ring for the channel, at most `due` seconds; return whether it was rung."""
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
            # Whoever rang has taken all who wait for the channel off the list.
            waiters = self._waiters.get(name, [])
            if woken in waiters:
                waiters.remove(woken)
                if not waiters:
                    del self._waiters[name]

    def end(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        """Take it down, and raise `error` in all who wait."""
        for waiter in itertools.chain(*self._waiters.values()):
            if not waiter.done():
                waiter.set_exception(error)
        self._stop_listening(loop)
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._socket = None
        self._take_down()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._listens and self._socket is not None:
            loop.add_reader(self._socket, self._rung, loop, self._socket)
            self._listens = True
        if self._heartbeat is None:
            # Not a beat: what it saw would be newer than the look into the queue that found nothing.
            self._schedule(loop)

    def _stop_listening(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._listens and self._socket is not None and not loop.is_closed():
            loop.remove_reader(self._socket)
        self._listens = False

    def _rung(self, loop: asyncio.AbstractEventLoop, bell: socket.socket) -> None:
        if not self._waiters:
            # Everybody is busy, and need not pay for rings.
            self._stop_listening(loop)
            return
        try:
            name = bell.recv(256)
        except BlockingIOError:
            return
        self._wake_all(name, rung=True)
        # What else there is waits until those just woken have had their turn.
        loop.call_soon(self._read_on, bell)

    def _read_on(self, bell: socket.socket) -> None:
        rings = 1
        with suppress(OSError):
            while rings < _MOST_RINGS:
                self._wake_all(bell.recv(256), rung=True)
                rings += 1
        if rings >= _MANY_RINGS:
            # Only now: the kernel may also have dropped rings while these were read.
            self._wake_occupied()

    def _wake_occupied(self) -> None:
        """Wake the takes whose channels have events or leases; all takes if the database cannot be read now."""
        occupied = self._occupied()
        for name in [*self._waiters] if occupied is None else map(str.encode, occupied):
            self._wake_all(name, rung=False)

    def _wake_all(self, name: bytes, *, rung: bool) -> None:
        for waiter in self._waiters.pop(name, ()):
            _wake(waiter, rung)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._heartbeat = None
        self.lost = self._directory is not None and not self._is_reachable(self._directory)
        footprint = _footprint(self._path)
        is_waited_for = bool(self._waiters)
        if self.lost:
            for name in [*self._waiters]:
                self._wake_all(name, rung=False)
        elif footprint is None or footprint != self._footprint:
            self._wake_occupied()
        self._footprint = footprint
        if is_waited_for:
            self._schedule(loop)

    def _is_reachable(self, directory: SocketDirectory) -> bool:
        # A directory that was deleted, and perhaps made anew, is still there for those who hold it open.
        return directory.status().st_nlink > 0 and directory.holds(self._name)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        period = POLL_SECS if self._socket is None else HEARTBEAT_SECS
        self._heartbeat = loop.call_later(period, self._beat, loop)


class Doorbells:
    """The bells of one file in this process: one for each event loop that takes."""

    def __init__(self, path: str, url: str, occupied: Occupied) -> None:
        self._path = path
        self._url = url
        self._occupied = occupied
        self._bells = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Doorbell]()
        self._lock = threading.Lock()

    def here(self) -> Doorbell | None:
        """Return the bell of the running loop, if it hangs and can be rung."""
        bell = self._bells.get(asyncio.get_running_loop())
        return None if bell is None or bell.lost else bell

    def hang(self) -> Doorbell:
        """Give the running loop a bell; the file must exist. Look into the queue once more before waiting."""
        bell = Doorbell(self._path, self._url, self._occupied)
        with self._lock:
            for loop in list(self._bells):
                if loop.is_closed():
                    del self._bells[loop]
            self._bells[asyncio.get_running_loop()] = bell
        return bell

    def close(self, error: Exception) -> None:
        """Take all bells down, and raise `error` in all who wait, in whichever loop."""
        with self._lock:
            bells = list(self._bells.items())
            self._bells.clear()
        here = asyncio.get_running_loop()
        for loop, bell in bells:
            if loop is not here and loop.is_running():
                loop.call_soon_threadsafe(bell.end, loop, error)
            else:
                bell.end(loop, error)


def _remove_stale(directory: SocketDirectory | None, name: str, error: OSError) -> None:
    """Remove a socket whose owner was killed; one with many rings to read, or another user's, stays."""
    if directory is not None and isinstance(error, ConnectionRefusedError):
        directory.remove(name)


def _wake(waiter: asyncio.Future[bool], rung: bool) -> None:  # noqa: FBT001  (as `call_later` passes it)
    if not waiter.done():
        waiter.set_result(rung)


def _is_settled(mtime_ns: int) -> bool:
    """Whether the next change must show: mtime moves by ticks of the kernel; one in the future is replaced anyway."""
    return not 0 <= time.time_ns() - mtime_ns <= _TICK_NS


def _footprint(path: str) -> tuple[int, ...] | None:
    """Return what differs whenever anything was committed to the file; None when that cannot be told yet."""
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


def _reach(path: bytes, use: Callable[[bytes], object]) -> None:
    """Call `use` with an address of the socket at that path: a path may be long, an address may not."""
    if len(path) <= _LONGEST_ADDRESS:
        use(path)
        return
    directory, name = os.path.split(path)
    handle = os.open(directory, os.O_RDONLY)
    try:
        use(b"/proc/self/fd/%d/%b" % (handle, name))
    finally:
        os.close(handle)


def _hang(path: str, name: str, url: str) -> tuple[SocketDirectory | None, socket.socket | None]:
    """Make the socket of a bell; nothing where that is not possible."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        directory = SocketDirectory(path)
        bell.settimeout(0)
        # Bound under a name that nobody rings: before it is bound, a sender would take it for a dead one's.
        hidden = directory.path / f".{name}"
        _reach(os.fsencode(hidden), bell.bind)
        hidden.chmod(mode_of(path))
        hidden.rename(directory.path / name)
    except OSError as error:
        bell.close()
        log.info(
            "%s: no notification socket (%s); looking for events every %d ms", url, error.strerror, POLL_SECS * 1000
        )
        return None, None
    return directory, bell


def _take_down(bell: socket.socket | None, directory: SocketDirectory | None, name: str, pid: int) -> None:
    if bell is None or directory is None:
        return
    bell.close()
    # A forked child has a copy of the bell, but the name is its parent's.
    if os.getpid() == pid:
        directory.remove(name)
