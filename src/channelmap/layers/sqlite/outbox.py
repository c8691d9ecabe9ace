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
        connections: durable connections.

    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._waiting: list[_Send] = []
        self._is_committing = False
        self._thread = _new_thread()

    async def send(self, sent: queue.Sent) -> bool:
        """Send events to a channel, all or none; return False if the channel is full.

        A call that is cancelled before its commit has no effect; later, its events may be sent.

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
            # The system refuses a further thread. The new pool ensures that the submitted commit does not run later.
            self._thread = _new_thread()
            self._resolve(loop, sends, [], error)

    def _run(self, loop: asyncio.AbstractEventLoop, sends: Sequence[_Send]) -> None:
        error: Exception | None = None
        fits: list[bool] = []
        try:
            fits = self._connections.run_sync(queue.append_each, [sent for _, sent in sends])
        except Exception as problem:  # noqa: BLE001  (the callers get it)
            error = problem
        # A closed loop has no waiting callers.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._resolve, loop, sends, fits, error)

    def _resolve(
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
    """Return a pool of one thread, which starts with the first commit and stays: a start per commit is slow."""
    return ThreadPoolExecutor(1, thread_name_prefix="channelmap commit")
