"""Several worker processes under one: started together, replaced when they crash, stopped together.

Knows commands, processes and signals, and nothing of what a worker does.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("channelmap.supervisor")

#: Names, to a child, the end of a pipe that closes when the child is to stop, or the supervisor has gone.
LIFELINE = "CHANNELMAP_LIFELINE"
#: Exit codes by which a child says that it would fail again: a wrong file, a wrong command line.
_HOPELESS = (1, 2)
_FIRST_DELAY_SECS, _LONGEST_DELAY_SECS = 0.5, 30.0


class Supervisor:
    """Keeps `count` processes of one command running until it is told to stop, or until they end by themselves.

    Args:
        command: what each process runs.
        count: how many.
        watched: directories; when a Python, YAML or JSON file below them changes, all processes are replaced.

    """

    def __init__(self, command: Sequence[str], count: int, watched: Sequence[Path] = ()) -> None:
        self._command = command
        self._count = count
        self._watched = watched
        self._children: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._lifeline = -1
        #: Set, and replaced, by the next change of a watched file.
        self._change = asyncio.Event()

    async def run(self) -> int:
        """Run until all have ended; return the first exit code that is not 0, or 0."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop)
        lifeline, self._lifeline = os.pipe()
        watching = asyncio.ensure_future(self._watch())
        try:
            codes = await asyncio.gather(*(self._keep(number, lifeline) for number in range(1, self._count + 1)))
        finally:
            watching.cancel()
            os.close(lifeline)
            self._cut_lifeline()
        return next(filter(None, codes), 0)

    async def _keep(self, number: int, lifeline: int) -> int:
        """Keep one process running; return its exit code when it is not to run again."""
        delay = _FIRST_DELAY_SECS
        while True:
            change = self._change
            pid, code = await self._run_once(lifeline)
            if self._stopping.is_set():
                # One that was still starting had nothing to finish. What was killed ends as shells call it.
                return 0 if code == -signal.SIGTERM else code if code >= 0 else 128 - code
            if change.is_set():
                continue
            if code == 0:
                return code
            if code in _HOPELESS:
                if not self._watched:
                    self._stop()
                    return code
                await change.wait()
                continue
            log.error("worker %d (pid %d) ended with %d; a new one starts in %.1f s", number, pid, code, delay)
            await self._pause(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECS)

    async def _run_once(self, lifeline: int) -> tuple[int, int]:
        # A session of its own: Ctrl-C reaches all processes of a terminal, and a second signal is an order to leave.
        child = await asyncio.create_subprocess_exec(
            *self._command,
            pass_fds=(lifeline,),
            env=os.environ | {LIFELINE: str(lifeline)},
            start_new_session=True,
        )
        self._children.add(child)
        code = await child.wait()
        self._children.discard(child)
        return child.pid, code

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _stop(self) -> None:
        """Let the children finish; told a second time, let them leave at once."""
        if self._stopping.is_set():
            for child in self._children:
                with suppress(ProcessLookupError):
                    child.kill()
        self._stopping.set()
        self._change.set()
        # Not by a signal: who stops a whole process group has sent them one already, and a second is an order to leave.
        self._cut_lifeline()

    def _cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    async def _watch(self) -> None:
        if not self._watched:
            return
        from watchfiles import DefaultFilter, awatch

        class Sources(DefaultFilter):
            def __call__(self, change: Any, path: str) -> bool:
                return path.endswith((".py", ".yaml", ".yml", ".json")) and super().__call__(change, path)

        async for changes in awatch(*self._watched, watch_filter=Sources()):
            log.info("%s changed: starting anew", Path(next(iter(changes))[1]).name)
            self._change.set()
            self._change = asyncio.Event()
            for child in self._children:
                with suppress(ProcessLookupError):
                    child.terminate()


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `channelmap` with these arguments in this interpreter."""
    return [sys.executable, "-m", "channelmap", *arguments]
