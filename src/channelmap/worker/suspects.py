"""Lets one suspect at a time be handled in a process: if the process ends, the layer counts it for that one only."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from channelmap.layer import Delivery


class SuspectTurn:
    """What a suspect needs before its handler starts; all channels of a worker share it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._suspect: Delivery | None = None
        self._flush: Callable[[], Awaitable[None]] | None = None

    async def acquire(self, suspect: Delivery, flush: Callable[[], Awaitable[None]]) -> None:
        """Wait until no other suspect is handled, and until the layer knows what became of the last one.

        Args:
            suspect: the delivery; `release` ends its turn, also when this call is cancelled.
            flush: tells the layer what became of the suspect, when it was handled.

        """
        await self._lock.acquire()
        self._loop, self._suspect = asyncio.get_running_loop(), suspect
        if self._flush is not None:
            await self._flush()
        self._flush = flush

    def release(self, suspect: Delivery) -> None:
        """End the turn of this suspect, if it has the turn; any thread may call this."""
        # A handler that was cut off may end after the event loop.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._release, suspect)

    def _release(self, suspect: Delivery) -> None:
        if self._suspect is suspect:
            self._suspect = None
            self._lock.release()
