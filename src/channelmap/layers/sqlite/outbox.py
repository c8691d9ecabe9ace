"""Durable sends of one event loop: sends that are awaited together share one commit.

The commit waits for the disk, so it happens in a thread, and the event loop goes on. Events that are sent during a
commit are in the next one.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from channelmap.errors import LayerUnavailable
from channelmap.layers.sqlite import queue
from channelmap.layers.sqlite.connections import Connections

_Send = tuple["asyncio.Future[bool]", queue.Sent]


class Outbox:
    """The durable sends of one event loop.

    Args:
        connections: their commits are on disk when they return.

    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._waiting: list[_Send] = []
        self._is_committing = False
        self._thread = _new_thread()

    async def send(self, sent: queue.Sent) -> bool:
        """Send events to a channel, all or none; False when they find no room.

        A call that is cancelled before its commit has begun did nothing; after that its events may be sent.

        Raises:
            LayerUnavailable: the file cannot be used, or was locked for 30 s.

        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((done, sent))
        if not self._is_committing:
            self._is_committing = True
            loop.call_soon(self._commit, loop)
        return await done

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        sends = [send for send in self._waiting if not send[0].done()]
        self._waiting = []
        if not sends:
            self._is_committing = False
            return
        try:
            self._thread.submit(self._run, loop, sends)
        except RuntimeError as error:
            # The system gives this process no further thread. The commit that was submitted must not run later.
            self._thread = _new_thread()
            self._answer(loop, sends, [], error)

    def _run(self, loop: asyncio.AbstractEventLoop, sends: Sequence[_Send]) -> None:
        error: Exception | None = None
        fits: list[bool] = []
        try:
            fits = self._connections.run_sync(queue.append_each, [sent for _, sent in sends])
        except Exception as problem:  # noqa: BLE001  (the callers get it)
            error = problem
        # A closed loop has nobody who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._answer, loop, sends, fits, error)

    def _answer(
        self,
        loop: asyncio.AbstractEventLoop,
        sends: Sequence[_Send],
        fits: Sequence[bool],
        error: Exception | None,
    ) -> None:
        for number, (done, _) in enumerate(sends):
            if done.done():
                continue
            if error is None:
                done.set_result(fits[number])
            elif isinstance(error, LayerUnavailable):
                done.set_exception(LayerUnavailable(error.url, error.reason))
            else:
                done.set_exception(error)
        self._commit(loop)


def _new_thread() -> ThreadPoolExecutor:
    """Return a thread that starts with the first commit: to start one for each costs as much as a fast disk."""
    return ThreadPoolExecutor(1, thread_name_prefix="channelmap commit")
