"""One blocking command that waits for events of many channels, for takes without a lease.

The command names the keys of all waiting takes. When a take of another key joins, an entry in a wake key ends the
command, which is started again with all keys. Only this process knows the wake key. Unlike CLIENT UNBLOCK, the entry
also ends a command that the server receives later.
"""

import asyncio
import logging
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client import CLOSED, ConnectionPool, Topology, is_about_one_key, note_failure, unavailable
from channelmap.layers.redis.rows import Rows, put_back
from channelmap.layers.redis.scripts import PUT_BACK

log = logging.getLogger("channelmap.layers.redis")

#: Seconds after which a pop without events is repeated: a lost server may go unnoticed for as long.
BLOCK_SECS = 5
#: Seconds for which `close` and a cancelled pop wait for events to return.
_UNDO_SECS = 1.0


class Popped(NamedTuple):
    """The events that one pop brought, and their queue."""

    topology: Topology
    key: str
    rows: Rows


@dataclass(slots=True, eq=False)
class Taker:
    """A take that waits for events of one channel.

    Attributes:
        got: finished with the events.
        limit: the maximum number of events.
        ttl: seconds until the key expires, if events must return to it; '' for never.

    """

    got: "asyncio.Future[Popped]"
    limit: int
    ttl: int | str


class BlockingPop:
    """Waits for events of keys with one hash tag.

    Args:
        pool: the connections.
        topology: where the keys are.
        tag: their hash tag; '' outside of a Cluster.
        prefix: the prefix of the layer's keys.

    """

    def __init__(self, pool: ConnectionPool, topology: Topology, tag: str, prefix: str) -> None:
        self._pool = pool
        self._topology = topology
        self._purpose = f"wait {tag}"
        self._wake_key = f"{tag or prefix}$wake:{uuid.uuid4().hex}"
        self._takers: dict[str, deque[Taker]] = {}
        self._task: asyncio.Task[None] | None = None
        self._waking: asyncio.Task[None] | None = None
        self._woken = False
        #: The keys of the pending pop, with each key's seconds to live; empty if no pop is pending.
        self._named: dict[str, int | str] = {}
        self._round: asyncio.Future[None] | None = None
        #: Events whose takes are gone and that have not returned yet: key, events, the key's seconds to live.
        self._rest: deque[tuple[str, Rows, int | str]] = deque()
        self._returning: asyncio.Task[None] | None = None
        self._closed: LayerUnavailable | None = None

    @property
    def idle(self) -> bool:
        """Return whether no pop is pending, so that the next take to join starts one at once."""
        return self._task is None

    def join(self, key: str, taker: Taker) -> None:
        """Wait for events of the key."""
        if self._closed is not None:
            _fail(taker, self._closed)
            return
        self._takers.setdefault(key, deque()).append(taker)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._named and key not in self._named:
            self._wake()

    def leave(self, key: str, taker: Taker) -> None:
        """Remove a take; events that come for no take return to the front."""
        takers = self._takers.get(key, deque())
        with suppress(ValueError):
            takers.remove(taker)
        if not takers:
            self._takers.pop(key, None)

    async def release(self, key: str) -> None:
        """Return when no pending pop can bring events of a key without takes."""
        if self._round is not None and key not in self._takers:
            if key in self._named:
                self._wake()
            await asyncio.wait([self._round])

    def fail(self, error: Exception, key: str | None = None) -> None:
        """Fail the takes of one key, or all takes."""
        for failed in list(self._takers) if key is None else [key]:
            for taker in self._takers.pop(failed, ()):
                _fail(taker, error)

    async def close(self, error: LayerUnavailable) -> None:
        """Fail all takes, and return events that have just come."""
        self._closed = error
        self.fail(error)
        tasks = [task for task in (self._task, self._waking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):
            async with asyncio.timeout(_UNDO_SECS):
                await self._return_rest()

    async def _run(self) -> None:
        failed = False
        try:
            while self._takers:
                try:
                    await self._pop()
                    failed = False
                except Exception as error:  # noqa: BLE001  (the takes raise it)
                    handled = is_about_one_key(error) and await self._fail_refused()
                    if not handled and (failed or not note_failure(self._topology, error)):
                        self.fail(unavailable(self._topology, error))
                    failed = True
        finally:
            self._task = None
            # Takes are left only if this task was cancelled.
            self.fail(self._closed or LayerUnavailable(self._topology.url, CLOSED))

    async def _fail_refused(self) -> bool:
        """Fail the takes whose key the server refuses; the others go on waiting. Return whether a key was refused."""
        keys = list(self._takers)
        counts = [self._pool.call(self._topology, key, "ZCARD", key) for key in keys]
        results = await asyncio.gather(*counts, return_exceptions=True)
        refused = [
            (key, result) for key, result in zip(keys, results, strict=True) if isinstance(result, LayerUnavailable)
        ]
        for key, error in refused:
            self.fail(error, key)
        return bool(refused)

    async def _pop(self) -> None:
        """Wait until one key has events, and pass them to its takes."""
        # Events that could not return last time come first.
        await self._return_rest()
        if not self._takers:
            return
        key = next(iter(self._takers))
        connection = await self._pool.connection(self._topology, key, self._purpose, block_secs=BLOCK_SECS)
        if not self._takers:
            return
        # Surplus events would have to return.
        count = min(taker.limit for takers in self._takers.values() for taker in takers)
        self._named = {key: takers[0].ttl for key, takers in self._takers.items()}
        keys = (self._wake_key, *self._named)
        self._round = asyncio.get_running_loop().create_future()
        self._woken = False
        # The connection passes the events on at once: this task runs a turn later.
        reply = connection.call("BZMPOP", BLOCK_SECS, len(keys), *keys, "MIN", "COUNT", count, on_reply=self._hand_out)
        try:
            await asyncio.shield(reply)
            await self._return_rest()
        except asyncio.CancelledError:
            await self._abandon(reply)
            raise
        finally:
            self._named = {}
            self._round.set_result(None)
            self._round = None

    def _hand_out(self, found: Any) -> None:
        if found is None or found[0].decode() == self._wake_key:
            return
        key, rows = found[0].decode(), found[1]
        takers = self._takers.get(key, deque())
        while rows and takers:
            taker = takers.popleft()
            if not taker.got.done():
                taker.got.set_result(Popped(self._topology, key, rows[: taker.limit]))
                rows = rows[taker.limit :]
        if not takers:
            self._takers.pop(key, None)
        if rows:
            self._rest.append((key, rows, self._named[key]))
        self._named = {}

    async def _return_rest(self) -> None:
        """Return events whose takes are gone. The return goes on if a caller is cancelled."""
        if self._rest and self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(self._put_back())
            self._returning.add_done_callback(_retrieve_error)
        if self._returning is not None:
            await asyncio.shield(self._returning)

    async def _put_back(self) -> None:
        try:
            while self._rest:
                key, rows, ttl = self._rest[0]
                try:
                    await put_back(self._pool, self._topology, key, rows, ttl)
                except LayerUnavailable as error:
                    if error.__cause__ is None or not is_about_one_key(error.__cause__):
                        raise
                    # Retrying it forever would block all other keys.
                    log.error("lost %d events that cannot be returned: %s", len(rows), error)  # noqa: TRY400
                self._rest.popleft()
        finally:
            self._returning = None

    async def _abandon(self, reply: "asyncio.Future[Any]") -> None:
        """End the pending pop, and return its events."""
        with suppress(Exception):
            async with asyncio.timeout(_UNDO_SECS):
                if not reply.done():
                    self._wake()
                    await reply
                await self._return_rest()

    def _wake(self) -> None:
        """End the pending pop, once."""
        if not self._woken:
            self._woken = True
            self._waking = asyncio.get_running_loop().create_task(self._write_wake_key())

    async def _write_wake_key(self) -> None:
        try:
            # The key expires after a minute, if the pop has already ended.
            await self._pool.run(self._topology, PUT_BACK, [self._wake_key], 60, "0", "wake")
        except LayerUnavailable as error:
            log.debug("cannot end a blocking pop: %s", error)
        except asyncio.CancelledError:
            self._woken = False
            raise


def _fail(taker: Taker, error: Exception) -> None:
    if not taker.got.done():
        taker.got.set_exception(error)
        # A cancelled take would never retrieve it, and asyncio would log that.
        taker.got.exception()


def _retrieve_error(task: "asyncio.Task[None]") -> None:
    """Retrieve the error of a task, or asyncio would log it if its waiters were cancelled."""
    if not task.cancelled():
        task.exception()
