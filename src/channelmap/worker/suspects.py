"""Handle one suspect at a time per process, so that a crash of the process counts for that suspect only."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from channelmap.layer import Delivery


class SuspectLock:
    """A lock that a suspect needs before its handler starts; all channels of a worker share it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._suspect: Delivery | None = None
        self._flush: Callable[[], Awaitable[None]] | None = None

    async def acquire(self, suspect: Delivery, flush: Callable[[], Awaitable[None]]) -> None:
        """Wait until no other suspect is in flight and the layer has the outcome of the previous one.

        Args:
            suspect: the delivery; call `release` for it, even if this call is cancelled.
            flush: writes the outcome of this suspect to the layer.

        """
        await self._lock.acquire()
        self._loop, self._suspect = asyncio.get_running_loop(), suspect
        if self._flush is not None:
            await self._flush()
        self._flush = flush

    def release(self, suspect: Delivery) -> None:
        """Release the lock if this suspect holds it; may be called from any thread."""
        # A handler that was cut off may outlive the event loop.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._release, suspect)

    def _release(self, suspect: Delivery) -> None:
        if self._suspect is suspect:
            self._suspect = None
            self._lock.release()
