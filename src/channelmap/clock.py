"""Time as workers and supervisors see it; a test hands in a clock of its own, and turns it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Call nothing."""


class Clock:
    """The machine's clock, which no step of the date moves. All times are in seconds."""

    def time(self) -> float:
        """Return the time since some fixed moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait, in any event loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call something in the running event loop."""
        return asyncio.get_running_loop().call_later(seconds, call)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Let a block raise TimeoutError after so long; never for `None`."""
        return asyncio.timeout(seconds)
