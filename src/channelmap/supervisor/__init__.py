"""Several worker processes under one: started together, replaced when they crash, stopped together.

Decides when a process starts, stops and is replaced; `process` runs one, `link` is its worker's end, `sources` finds
changed files. Knows nothing of what a worker does.
"""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from channelmap.clock import Clock
from channelmap.supervisor.link import Link
from channelmap.supervisor.process import WorkerProcess, command_line
from channelmap.supervisor.sources import Watch, loaded_modules, source_files

__all__ = ["STOP_SIGNALS", "Link", "Supervisor", "WorkerProcess", "command_line", "heeded", "loaded_modules"]

log = logging.getLogger("channelmap.supervisor")

#: Signals that stop a worker or a supervisor. SIGHUP comes when the terminal closes.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Exit codes that mean a wrong file or a wrong command line: the next process would end with the same.
_HOPELESS = (1, 2)
#: Exit code of a worker whose stdout or stderr has lost its reader: those of the supervisor are the same streams.
_READER_GONE = 128 + signal.SIGPIPE
#: Seconds between a crash and the next start: the first, and the upper bound of their growth.
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
#: Seconds after which a worker counts as healthy: its next crash is its first.
_HEALTHY = 60.0
#: Seconds between two looks at the watched files.
_LOOK_INTERVAL = 0.5
#: Seconds until a worker that has not said what it has loaded counts as one that cannot start.
_SLOW_START = 10.0


class Child(Protocol):
    """One worker process; `WorkerProcess` is the real one."""

    pid: int
    #: When it was started, in seconds since the epoch.
    started: float
    #: It has said that it serves.
    ready: bool
    #: It has said that it ends by itself, because its burst is over.
    finished: bool
    #: It has said that it ends because it has handled as many events as it may.
    is_spent: bool
    #: Set once it has been asked to stop.
    draining: asyncio.Event
    #: The source files that it has loaded, as far as it has said.
    files: frozenset[Path]
    #: When it listed them, in seconds since the epoch; before its first report, when it was started.
    listed: float

    async def wait(self) -> int:
        """Wait for its end; return its exit code, or the negative number of the signal that ended it."""

    def drain(self) -> None:
        """Ask it, once, to finish its current events and end; one that is not ready ends at once."""

    def kill(self) -> None:
        """End it at once."""

    def ask_files(self) -> None:
        """Ask it to report in `files` what it has loaded."""


class Supervisor:
    """Keeps `count` workers running until it is told to stop, or until they finish by themselves.

    Args:
        start: starts one worker process.
        count: how many run at once.
        grace: seconds after which a worker that was asked to stop, and has not, is killed.
        watched: directories whose source files are watched while a worker cannot start; a worker that runs is replaced
            when a file changes that it has loaded. `None` watches nothing.
        clock: the time.

    """

    def __init__(
        self,
        start: Callable[[], Awaitable[Child]],
        count: int,
        *,
        grace: float,
        watched: Sequence[Path] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._start = start
        self._count = count
        self._grace = grace
        self._watched = watched
        self._clock = clock or Clock()
        self._children: set[Child] = set()
        self._stopping = asyncio.Event()
        self._killing = False
        #: A worker has been ready: the files and the command line are right.
        self._proven = False
        #: Set, and replaced, whenever a watched file has changed.
        self._change = asyncio.Event()
        #: Workers that cannot start until a file changes.
        self._broken: set[int] = set()
        self._last_start = 0.0
        self._last_files: frozenset[Path] = frozenset()

    async def run(self) -> int:
        """Run until all have ended; return the first exit code that is not 0, or 0."""
        loop = asyncio.get_running_loop()
        for signum in heeded(STOP_SIGNALS):
            loop.add_signal_handler(signum, self._signalled, signum)
        watching = asyncio.ensure_future(self._watch())
        watching.add_done_callback(self._watching_ended)
        try:
            codes = await asyncio.gather(*(self._keep(number) for number in range(1, self._count + 1)))
        finally:
            watching.cancel()
        return next(filter(None, codes), 0)

    def stop(self) -> None:
        """Let the workers finish; called again, end them at once."""
        self._killing = self._stopping.is_set()
        self._stopping.set()
        for child in self._children:
            self._tell(child)

    def finish(self, why: str) -> None:
        """Let the workers finish, unless they are finishing already."""
        if not self._stopping.is_set():
            log.warning("%s: stopping %d workers", why, len(self._children))
            self.stop()

    def _signalled(self, signum: int) -> None:
        name = signal.Signals(signum).name
        if self._stopping.is_set():
            log.warning("second signal (%s): killing %d workers", name, len(self._children))
        else:
            log.info("%s: stopping %d workers", name, len(self._children))
        self.stop()

    def _tell(self, child: Child) -> None:
        if self._killing:
            child.kill()
        elif self._stopping.is_set():
            child.drain()

    async def _keep(self, number: int) -> int:
        """Keep one worker running; return its exit code when it is not to run again."""
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            change, begun = self._change, self._clock.time()
            try:
                child, code = await self._run_once(number, change)
            except OSError as error:
                end = f"worker {number} cannot be started: {error.strerror or error}"
            else:
                self._proven |= child.ready
                if child.finished or self._stopping.is_set():
                    # One that was still starting had nothing to finish. A killed one ends as shells say it.
                    return 0 if code == -signal.SIGTERM else code if code >= 0 else 128 - code
                if code == _READER_GONE:
                    self.finish(f"stdout or stderr of worker {number} (pid {child.pid}) no longer has a reader")
                    return code
                if change.is_set() or self._is_spent(number, child, code):
                    delay = _FIRST_DELAY
                    continue
                end = f"worker {number} (pid {child.pid}) {_in_words(code)}"
                if code in _HOPELESS and not child.ready and not (await self._is_worth_a_start(number, end, change)):
                    return code
                if child.ready and self._clock.time() - begun >= _HEALTHY:
                    delay = _FIRST_DELAY
            if change.is_set():
                continue
            log.error("%s; a new one starts in %.1f s", end, delay)
            await self._pause(delay, change)
            delay = min(2 * delay, _LONGEST_DELAY)
        return 0

    @staticmethod
    def _is_spent(number: int, child: Child, code: int) -> bool:
        if not child.is_spent or code:
            return False
        log.info("worker %d (pid %d) has handled as many events as it may: starting a new one", number, child.pid)
        return True

    async def _is_worth_a_start(self, number: int, end: str, change: asyncio.Event) -> bool:
        """Say whether another worker may become ready where one failed with a hopeless exit code; stop all if not."""
        if self._watched is not None:
            log.error("%s before it was ready; a new one starts when a file changes", end)
            self._broken.add(number)
            await self._first_of(change.wait(), self._stopping.wait())
            self._broken.discard(number)
            return True
        if self._proven or any(child.ready for child in self._children):
            return True
        log.error("%s before it was ready, and so would the next one: stopping", end)
        if not self._stopping.is_set():
            self.stop()
        return False

    async def _run_once(self, number: int, change: asyncio.Event) -> tuple[Child, int]:
        self._last_start = time.time()
        child = await self._start()
        log.debug("worker %d: pid %d", number, child.pid)
        self._children.add(child)
        # It may have been too late for this one.
        self._tell(child)
        if change.is_set():
            child.drain()
        enforcing = asyncio.ensure_future(self._enforce(number, child))
        try:
            return child, await child.wait()
        finally:
            enforcing.cancel()
            self._children.discard(child)

    async def _enforce(self, number: int, child: Child) -> None:
        """Kill a worker that does not stop."""
        await child.draining.wait()
        await self._clock.sleep(self._grace)
        log.error("worker %d (pid %d) has not stopped for %.0f s: killing it", number, child.pid, self._grace)
        child.kill()

    async def _pause(self, seconds: float, change: asyncio.Event) -> None:
        await self._first_of(self._clock.sleep(seconds), self._stopping.wait(), change.wait())

    @staticmethod
    async def _first_of(*waits: Awaitable[object]) -> None:
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _watch(self) -> None:
        """Replace all workers when a watched file changes."""
        if self._watched is None:
            return
        rewritten: Counter[Path] = Counter()
        state, watch = None, Watch(0.0, rewritten)
        while True:
            await self._clock.sleep(_LOOK_INTERVAL)
            children = [child for child in self._children if not child.draining.is_set()]
            for child in children:
                child.ask_files()
            files = frozenset[Path]().union(*(child.files for child in children))
            if not self._children:
                # The next one starts after a pause.
                files = self._last_files
            stuck = any(not child.files and time.time() - child.started > _SLOW_START for child in children)
            broken = stuck or bool(self._broken)
            if not (files or broken):
                continue
            if state != (state := (self._change, broken)):
                watch = Watch(min((child.started for child in children), default=self._last_start), rewritten)
            listed = min((child.listed for child in children), default=self._last_start)
            self._last_files = files or self._last_files
            sources = source_files(self._watched) if broken else frozenset()
            if changed := watch.look(self._last_files | sources, listed, complete=broken):
                self._replace(changed)

    def _watching_ended(self, watching: "asyncio.Task[None]") -> None:
        if not watching.cancelled() and (error := watching.exception()):
            log.critical("source files are no longer watched: stopping", exc_info=error)
            if not self._stopping.is_set():
                self.stop()

    def _replace(self, changed: list[Path]) -> None:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        log.info("%s%s changed: starting anew", changed[0].name, more)
        self._change.set()
        self._change = asyncio.Event()
        for child in self._children:
            child.drain()


def heeded(signals: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Return those of the signals that stop this process: under `nohup`, SIGHUP does not."""
    return [one for one in signals if one != signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]


def _in_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
