"""A clock that a test turns: nothing sleeps, and what is due happens in its order, in whichever event loop waits."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from channelmap.clock import Clock


class _Alarm:
    """A call that is due in an event loop."""

    def __init__(self, due: float, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        self.due = due
        self.cancelled = False
        self.loop = loop
        self._call = call

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(lambda: None if self.cancelled else self._call())


class TurnedClock(Clock):
    """Stands still until it is turned. Sleepers and timers may belong to event loops of several threads."""

    def __init__(self) -> None:
        self.now = 0.0
        self._alarms: list[_Alarm] = []
        self._threads: dict[asyncio.AbstractEventLoop, threading.Thread] = {}
        self._lock = threading.Lock()

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        alarm = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            alarm.cancel()

    def call_later(self, seconds: float, call: Callable[[], object]) -> _Alarm:
        loop = asyncio.get_running_loop()
        alarm = _Alarm(round(self.now + seconds, 9), loop, call)
        with self._lock:
            self._threads[loop] = threading.current_thread()
            if seconds > 0:
                self._alarms.append(alarm)
        if seconds <= 0:
            alarm.ring()
        return alarm

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        return asyncio.timeout(seconds) if seconds is None or seconds <= 0 else self._timeout(seconds)

    @asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as timeout:
            alarm = self.call_later(seconds, lambda: timeout.reschedule(0))
            try:
                yield
            finally:
                alarm.cancel()

    async def turn(self, seconds: float) -> None:
        """Let so much time pass; return when everything that was due has been done, in all event loops."""
        await self.settled()
        for _ in self._steps(seconds):
            await self.settled()

    async def jump(self, seconds: float) -> None:
        """Let so much time pass in one step, as it does for a process that the system stops and lets go on."""
        await self.settled()
        self.now = round(self.now + seconds, 9)
        for _ in self._steps(0):
            await self.settled()

    def turn_while_blocked(self, seconds: float) -> None:
        """Let so much time pass for the other threads, while the caller's event loop is not turning."""
        for _ in self._steps(seconds):
            for loop in self._other_loops():
                _comes_to_rest(loop).result(20)

    async def settled(self) -> None:
        """Let every task of every event loop that has looked at the clock go as far as it can."""
        await settled()
        # Twice at least: while it waits for the others, this loop may have given them something to do.
        passes, moved = 0, True
        while moved or passes < 2:
            for loop in self._other_loops():
                await self._other_settled(loop)
            passes, moved = passes + 1, await settled()

    async def joined(self, task: "asyncio.Future[Any]") -> None:
        """Wait until another thread's event loop sleeps by this clock, or the task has ended."""
        async with asyncio.timeout(20):
            while not (self._other_loops() or task.done()):
                await asyncio.sleep(0.0002)

    async def _other_settled(self, loop: asyncio.AbstractEventLoop) -> None:
        thread = self._threads[loop]
        rest = asyncio.wrap_future(_comes_to_rest(loop))
        while thread.is_alive() and not (rest.done() and self._is_waited_for_by(loop)):
            # A thread that no longer looks at the clock is about to end.
            await asyncio.wait({rest}, timeout=0.001)
            await asyncio.sleep(0.0001 if rest.done() else 0)
        if not thread.is_alive():
            del self._threads[loop]

    def _is_waited_for_by(self, loop: asyncio.AbstractEventLoop) -> bool:
        with self._lock:
            return any(alarm.loop is loop and not alarm.cancelled for alarm in self._alarms)

    def _other_loops(self) -> list[asyncio.AbstractEventLoop]:
        own = asyncio.get_running_loop()
        with self._lock:
            return [loop for loop in self._threads if loop is not own]

    def _steps(self, seconds: float) -> Iterator[None]:
        """Go to each moment at which something is due, and at last to the end; the caller lets it happen."""
        end = round(self.now + seconds, 9)
        while True:
            with self._lock:
                self._alarms = [alarm for alarm in self._alarms if not alarm.cancelled]
                moment = min((alarm.due for alarm in self._alarms), default=end + 1)
                if moment > end:
                    break
                due = [alarm for alarm in self._alarms if alarm.due <= max(moment, self.now)]
                self._alarms = [alarm for alarm in self._alarms if alarm not in due]
                self.now = max(moment, self.now)
            for alarm in sorted(due, key=lambda alarm: alarm.due):
                alarm.ring()
            yield
        self.now = end
        yield


async def settled() -> bool:
    """Let every task of this event loop go as far as it can; return whether there was anything to do."""
    loop = asyncio.get_running_loop()
    for rounds in range(100_000):
        await asyncio.sleep(0)
        if not loop._ready:  # type: ignore[attr-defined]  # what asyncio itself would run next
            return rounds > 0
    raise AssertionError("the tasks of the event loop come to no rest")


def _comes_to_rest(loop: asyncio.AbstractEventLoop) -> "concurrent.futures.Future[None]":
    """Return a future that is done when nothing is left to run in another thread's event loop."""
    rest: concurrent.futures.Future[None] = concurrent.futures.Future()

    def look_for_rest() -> None:
        # Several may look at the same time; each would see the others, for ever.
        names = [getattr(handle._callback, "__name__", "") for handle in loop._ready.copy()]  # type: ignore[attr-defined]
        if any(name != look_for_rest.__name__ for name in names):
            loop.call_soon(look_for_rest)
        elif not rest.cancelled():
            rest.set_result(None)

    try:
        loop.call_soon_threadsafe(look_for_rest)
    except RuntimeError:
        rest.set_result(None)  # it is closed
    return rest
