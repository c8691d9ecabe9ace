"""The clock of workers and supervisors, which tests replace."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock:
    """The monotonic clock. All times are in seconds."""

    #: Return the time since an arbitrary fixed moment. Not a method of Python, because metrics call it for each event.
    time: Callable[[], float] = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Schedule a call in the running event loop."""
        return asyncio.get_running_loop().call_later(seconds, call)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that raises TimeoutError after `seconds`; never for `None`."""
        return asyncio.timeout(seconds)
