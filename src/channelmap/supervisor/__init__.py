"""Run several worker processes: start them together, restart crashed ones, stop them together.

This module decides when a process starts, stops and is replaced. `process` runs one process, `link` is the worker's
end of the socket, and `sources` finds changed files. The supervisor does not depend on the worker's code.
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

__all__ = ["STOP_SIGNALS", "Link", "Supervisor", "WorkerProcess", "command_line", "loaded_modules", "not_ignored"]

log = logging.getLogger("channelmap.supervisor")

#: Signals that stop a worker or a supervisor. A closed terminal sends SIGHUP.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Exit codes of a wrong file or a wrong command line: a new process would fail as well.
_PERMANENT_EXIT_CODES = (1, 2)
#: Exit code of a worker whose stdout or stderr has lost its reader; the supervisor has the same streams.
_READER_GONE_EXIT_CODE = 128 + signal.SIGPIPE
#: Seconds between a crash and the next start: the first delay, and the upper bound.
_FIRST_DELAY_SECS, _MAX_DELAY_SECS = 0.5, 30.0
#: Seconds after which a worker counts as healthy, so that a later crash starts with the first delay.
_HEALTHY_AFTER_SECS = 60.0
#: Seconds between two checks of the watched files.
_POLL_INTERVAL_SECS = 0.5
#: Seconds after which a worker that has not reported its loaded files counts as unable to start.
_MAX_START_SECS = 10.0


class Child(Protocol):
    """One worker process; `WorkerProcess` is the real one."""

    pid: int
    #: Start time, in seconds since the epoch.
    started: float
    #: The process has reported that it serves.
    ready: bool
    #: The process has reported that its burst is over.
    finished: bool
    #: The process has reported that it ends because it has handled `max_events`.
    reached_max_events: bool
    #: Set once the process was asked to stop.
    draining: asyncio.Event
    #: The source files that the process has loaded, according to its last report.
    files: frozenset[Path]
    #: Time of that report, in seconds since the epoch; before the first report, the start time.
    listed: float

    async def wait(self) -> int:
        """Wait for the end of the process; return its exit code, or the negative number of a signal."""

    def drain(self) -> None:
        """Ask the process, once, to finish its events in flight and end; a process that is not ready ends at once."""

    def kill(self) -> None:
        """Kill the process."""

    def ask_files(self) -> None:
        """Ask the process to report its loaded source files, for `files`."""


class Supervisor:
    """Keep `count` workers running until stopped, or until all have finished.

    Args:
        start: function that starts one worker process.
        count: number of processes.
        grace: seconds after which a worker that was asked to stop is killed.
        watched: directories whose source files are watched while a worker cannot start; running workers are replaced
            when a file changes that they have loaded. `None` disables watching.
        clock: the source of time.

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
        #: A worker has been ready, so the files and the command line are valid.
        self._was_ready = False
        #: Set, and replaced, when a watched file has changed.
        self._files_changed = asyncio.Event()
        #: Numbers of the workers that cannot start until a file changes.
        self._waiting_for_change: set[int] = set()
        self._last_start = 0.0
        self._last_files: frozenset[Path] = frozenset()

    async def run(self) -> int:
        """Run until all workers have ended; return the first exit code that is not 0, or 0."""
        loop = asyncio.get_running_loop()
        for signum in not_ignored(STOP_SIGNALS):
            loop.add_signal_handler(signum, self._handle_signal, signum)
        watching = asyncio.ensure_future(self._watch())
        watching.add_done_callback(self._watch_ended)
        try:
            codes = await asyncio.gather(*(self._keep_running(number) for number in range(1, self._count + 1)))
        finally:
            watching.cancel()
        return next(filter(None, codes), 0)

    def stop(self) -> None:
        """Drain the workers; a second call kills them."""
        self._killing = self._stopping.is_set()
        self._stopping.set()
        for child in self._children:
            self._forward_stop(child)

    def finish(self, why: str) -> None:
        """Drain the workers, unless they are draining already."""
        if not self._stopping.is_set():
            log.warning("%s: stopping %d workers", why, len(self._children))
            self.stop()

    def _handle_signal(self, signum: int) -> None:
        name = signal.Signals(signum).name
        if self._stopping.is_set():
            log.warning("second signal (%s): killing %d workers", name, len(self._children))
        else:
            log.info("%s: stopping %d workers", name, len(self._children))
        self.stop()

    def _forward_stop(self, child: Child) -> None:
        if self._killing:
            child.kill()
        elif self._stopping.is_set():
            child.drain()

    async def _keep_running(self, number: int) -> int:
        """Keep one worker running; return the exit code of the last process."""
        delay = _FIRST_DELAY_SECS
        while not self._stopping.is_set():
            change, begun = self._files_changed, self._clock.time()
            try:
                child, code = await self._run_once(number, change)
            except OSError as error:
                end = f"worker {number} cannot be started: {error.strerror or error}"
            else:
                self._was_ready |= child.ready
                if child.finished or self._stopping.is_set():
                    # A worker that was still starting had nothing to finish. Shells report a signal N as 128 + N.
                    return 0 if code == -signal.SIGTERM else code if code >= 0 else 128 - code
                if code == _READER_GONE_EXIT_CODE:
                    self.finish(f"stdout or stderr of worker {number} (pid {child.pid}) no longer has a reader")
                    return code
                if change.is_set() or self._log_max_events(number, child, code):
                    delay = _FIRST_DELAY_SECS
                    continue
                end = f"worker {number} (pid {child.pid}) {_describe_exit(code)}"
                if (
                    code in _PERMANENT_EXIT_CODES
                    and not child.ready
                    and not (await self._may_restart(number, end, change))
                ):
                    return code
                if child.ready and self._clock.time() - begun >= _HEALTHY_AFTER_SECS:
                    delay = _FIRST_DELAY_SECS
            if change.is_set():
                continue
            log.error("%s; a new one starts in %.1f s", end, delay)
            await self._pause(delay, change)
            delay = min(2 * delay, _MAX_DELAY_SECS)
        return 0

    @staticmethod
    def _log_max_events(number: int, child: Child, code: int) -> bool:
        if not child.reached_max_events or code:
            return False
        log.info("worker %d (pid %d) has reached max_events: starting a new one", number, child.pid)
        return True

    async def _may_restart(self, number: int, end: str, change: asyncio.Event) -> bool:
        """Return whether to start a worker again after a permanent exit code; if not, stop all workers."""
        if self._watched is not None:
            log.error("%s before it was ready; a new one starts when a file changes", end)
            self._waiting_for_change.add(number)
            await self._first_of(change.wait(), self._stopping.wait())
            self._waiting_for_change.discard(number)
            return True
        if self._was_ready or any(child.ready for child in self._children):
            return True
        log.error("%s before it was ready, and a new one would fail as well: stopping", end)
        if not self._stopping.is_set():
            self.stop()
        return False

    async def _run_once(self, number: int, change: asyncio.Event) -> tuple[Child, int]:
        self._last_start = time.time()
        child = await self._start()
        log.debug("worker %d: pid %d", number, child.pid)
        self._children.add(child)
        # A stop during the start has not reached this process.
        self._forward_stop(child)
        if change.is_set():
            child.drain()
        enforcing = asyncio.ensure_future(self._kill_after_grace(number, child))
        try:
            return child, await child.wait()
        finally:
            enforcing.cancel()
            self._children.discard(child)

    async def _kill_after_grace(self, number: int, child: Child) -> None:
        """Kill a worker that is still running `grace` seconds after it was asked to stop."""
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
            await self._clock.sleep(_POLL_INTERVAL_SECS)
            children = [child for child in self._children if not child.draining.is_set()]
            for child in children:
                child.ask_files()
            files = frozenset[Path]().union(*(child.files for child in children))
            if not self._children:
                # All workers have crashed and will be restarted.
                files = self._last_files
            stuck = any(not child.files and time.time() - child.started > _MAX_START_SECS for child in children)
            broken = stuck or bool(self._waiting_for_change)
            if not (files or broken):
                continue
            if state != (state := (self._files_changed, broken)):
                watch = Watch(min((child.started for child in children), default=self._last_start), rewritten)
            listed = min((child.listed for child in children), default=self._last_start)
            self._last_files = files or self._last_files
            sources = source_files(self._watched) if broken else frozenset()
            if changed := watch.changed_files(self._last_files | sources, listed, complete=broken):
                self._replace(changed)

    def _watch_ended(self, watching: "asyncio.Task[None]") -> None:
        if not watching.cancelled() and (error := watching.exception()):
            log.critical("source files are no longer watched: stopping", exc_info=error)
            if not self._stopping.is_set():
                self.stop()

    def _replace(self, changed: list[Path]) -> None:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        log.info("%s%s changed: restarting the workers", changed[0].name, more)
        self._files_changed.set()
        self._files_changed = asyncio.Event()
        for child in self._children:
            child.drain()


def not_ignored(signals: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Return the signals without those that this process ignores: under `nohup`, SIGHUP is ignored."""
    return [one for one in signals if one != signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
