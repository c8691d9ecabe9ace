"""The connections and tasks of a layer in one event loop."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.blocking import BlockingPop, Popped, Taker
from channelmap.layers.redis.client import (
    CLOSED,
    CircuitBreaker,
    ConnectionPool,
    ServerClocks,
    Topology,
    Watcher,
    unavailable,
)
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.polling import Poller
from channelmap.layers.redis.queues import Shards
from channelmap.layers.redis.rows import Rows, put_back
from channelmap.layers.redis.sender import Sender, limit_arguments
from channelmap.layers.redis.upkeep import Interrupted, Upkeep
from channelmap.limits import Limits

T = TypeVar("T")

log = logging.getLogger("channelmap.layers.redis")

#: Seconds for which a cancelled take waits until its events have returned; then the return goes on in the background.
_UNDO_SECS = 1.0


class LoopState:
    """What a layer has open in one event loop.

    Connections belong to their loop, and are closed when it shuts down. `asyncio.run` then closes all asynchronous
    generators, so a generator that never ends calls `close`.

    Args:
        prefix: the prefix of the layer's keys.
        url: the layer's name in messages.
        codec: makes members of bodies.
        forget: called with this object when it is closed; until then the layer must not make another for this loop.

    """

    def __init__(
        self,
        prefix: str,
        url: str,
        codec: Codec,
        forget: Callable[["LoopState"], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = ConnectionPool()
        self.sender = Sender(self.pool, codec)
        self._prefix = prefix
        self._url = url
        self._forget = forget
        self._pops: dict[tuple[Topology, str], BlockingPop] = {}
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self._watchers: dict[Topology, Watcher] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._poller = Poller(self.pool)
        self.upkeep = Upkeep(self.pool, self._watcher, self._interrupt)
        #: Whether `close` has begun.
        self.closing = False
        self._turn = itertools.count()
        self._clocks = ServerClocks(self.pool)
        #: The server's clock is the only one for leases and expiry.
        self.time_of = self._clocks.time_of
        #: Asks a host something; skips one that failed slowly, so that it does not hide the others.
        self.asking = CircuitBreaker().asking
        self._undoing: set[asyncio.Task[None]] = set()
        self._guard = self._until_the_loop_ends()

    async def enter(self) -> "LoopState":
        """Begin to wait for the end of the loop."""
        await anext(self._guard)
        return self

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Close everything; waiting takes raise that the layer was closed."""
        try:
            await self._close()
        finally:
            self._forget(self)

    async def _close(self) -> None:
        error = LayerUnavailable(self._url, CLOSED)
        self.closing = True
        await self._poller.close(error)
        await self.upkeep.close()
        await asyncio.gather(*[pop.close(error) for pop in self._pops.values()])
        for pump in self._pumps.values():
            pump.cancel()
        await asyncio.gather(*self._pumps.values(), return_exceptions=True)
        if self._undoing:
            await asyncio.wait(self._undoing, timeout=_UNDO_SECS)
        await self.pool.close()

    def close_soon(self) -> None:
        """Start to close everything; must be called in the loop's thread. If the loop ends first, the guard closes."""
        self._leaving = self.loop.create_task(self.close())

    async def pop(self, shards: Shards, limit: int, limits: Limits, *, wait: bool) -> Popped:
        """Take up to `limit` events from the front of a channel for good, and drop expired ones.

        Raises:
            LayerUnavailable: a server cannot be reached, or refuses.

        """
        _, ttl, _ = limit_arguments(limits)
        if limits.expiry is not None:
            await self._ask_times(shards)
        while True:
            popped = await self._pop(shards, limit, ttl, wait=wait)
            if limits.expiry is None or not popped.rows:
                return popped
            rows = await self._unexpired(popped, limits.expiry, ttl)
            if rows:
                return popped._replace(rows=rows)

    async def _pop(self, shards: Shards, limit: int, ttl: int | str, *, wait: bool) -> Popped:
        if not (wait and len(shards) == 1 and self._pop_of(*shards[0]).idle):
            popped = await self._pop_at_once(shards, limit, ttl)
            if popped.rows or not wait:
                return popped
        if self.closing:
            raise LayerUnavailable(self._url, CLOSED)
        taker = Taker(self.loop.create_future(), limit, ttl)
        for topology, key in shards:
            self._pop_of(topology, key).join(key, taker)
        try:
            return await taker.got
        except asyncio.CancelledError:
            self._leave(shards, taker)
            await self._undone(lambda: self._undo(shards, taker))
            raise
        finally:
            self._leave(shards, taker)

    async def _ask_times(self, shards: Shards) -> None:
        for topology, key in shards:
            if self._clocks.is_stale(topology):
                # If the server is down, the take below raises.
                with suppress(LayerUnavailable), self.asking(topology, skip=True):
                    await self._clocks.ask(topology, key)

    async def _unexpired(self, popped: Popped, expiry: float, ttl: int | str) -> Rows:
        """Return the events that have not expired; before any is dropped, the server is asked for its time."""
        topology, key, rows = popped
        if any(sent < self.time_of(topology) - expiry for _, sent in rows):

            async def ask() -> None:
                with suppress(LayerUnavailable):
                    await self._clocks.ask(topology, key)

            async def undo(_: None) -> None:
                await put_back(self.pool, topology, key, rows, ttl)

            await self.or_undo(ask(), undo)
        oldest = self.time_of(topology) - expiry
        return [row for row in rows if row[1] >= oldest]

    async def _pop_at_once(self, shards: Shards, limit: int, ttl: int | str) -> Popped:
        # Each shard is the first one in turn: a shard that is never empty must not hide the others.
        problem = None
        for topology, key in self.by_turns(shards):
            try:
                with self.asking(topology, skip=len(shards) > 1):
                    rows = await self._pop_one(topology, key, limit, ttl)
            except LayerUnavailable as error:
                problem = error
                continue
            if rows:
                return Popped(topology, key, rows)
        if problem:
            try:
                raise problem
            finally:
                del problem  # the traceback refers to this frame: avoid a cycle
        return Popped(*shards[0], [])

    def by_turns(self, shards: Shards) -> Shards:
        """Return the shards, beginning with another one at each call."""
        first = next(self._turn) % len(shards)
        return [*shards[first:], *shards[:first]]

    async def _pop_one(self, topology: Topology, key: str, limit: int, ttl: int | str) -> Rows:
        async def undo(found: Any) -> None:
            if found is not None:
                await put_back(self.pool, topology, key, found[1], ttl)

        popping = self.pool.call(topology, key, "ZMPOP", 1, key, "MIN", "COUNT", limit)
        found = await self.or_undo(popping, undo)
        return [] if found is None else found[1]

    async def or_undo(self, taking: Awaitable[T], undo: Callable[[T], Awaitable[None]]) -> T:
        """Await a call that takes events; if cancelled meanwhile, call `undo` with its result, to return them."""
        task = asyncio.ensure_future(taking)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:

            async def undo_when_taken() -> None:
                with suppress(LayerUnavailable):  # nothing was taken
                    taken = await task
                    await self._logged(lambda: undo(taken))

            await self._undone(undo_when_taken)
            raise

    async def _undone(self, undo: Callable[[], Awaitable[None]]) -> None:
        """Run `undo` in a task, and wait for it at most `_UNDO_SECS`; never raises its errors."""
        task = self.loop.create_task(self._logged(undo))
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
        await asyncio.wait([task], timeout=_UNDO_SECS)

    @staticmethod
    async def _logged(undo: Callable[[], Awaitable[None]]) -> None:
        try:
            await undo()
        except Exception as error:  # noqa: BLE001  (a cancelled take raises CancelledError)
            log.warning("cannot return events of a cancelled take, they may be lost: %s", error)

    async def watch(self, topology: Topology, keys: list[str]) -> "asyncio.Future[None]":
        """Return a future that is done when one of the keys has changed since now; raises as `pop`."""
        try:
            return await self._watcher(topology).watch(keys)
        except Exception as error:
            raise unavailable(topology, error) from error

    async def changed(self, shards: Shards, changes: Sequence["asyncio.Future[None]"], secs: float | None) -> bool:
        """Wait for one of the changes, at most `secs` seconds; return whether a poll found a change without a message.

        Raises:
            LayerUnavailable: the layer was closed meanwhile.

        """
        # Each take has its own future: `asyncio.wait` searches all callbacks of a shared one.
        found: asyncio.Future[None] = self.loop.create_future()
        self._poller.join(shards, found)
        try:
            await asyncio.wait([*changes, found], timeout=secs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._poller.leave(shards, found)
        if found.done():
            found.result()
        return found.done()

    def unwatch(self, topology: Topology, keys: list[str]) -> None:
        """Watch the keys anew next time."""
        self._watcher(topology).forget(keys)

    async def pumped(self, queue: str, waiter: "asyncio.Future[None]", fetch: Callable[[], Awaitable[None]]) -> None:
        """Wait for a future while a task of this loop fetches from a queue again and again; raises as `fetch`."""
        pump = self._pumps.get(queue)
        if pump is None or pump.done():
            pump = self._pumps[queue] = self.loop.create_task(_forever(fetch))
        await asyncio.wait([waiter, pump], return_when=asyncio.FIRST_COMPLETED)
        if pump.done():
            if pump.cancelled():
                raise LayerUnavailable(self._url, CLOSED)
            pump.result()

    def _interrupt(self, topology: Topology, key: str) -> None:
        self._pop_of(topology, key).fail(Interrupted(), key)

    def _watcher(self, topology: Topology) -> Watcher:
        return self._watchers.setdefault(topology, Watcher(self.pool, topology))

    def _pop_of(self, topology: Topology, key: str) -> BlockingPop:
        tagged = (topology, topology.hash_tag(key))
        pop = self._pops.get(tagged)
        if pop is None:
            pop = self._pops[tagged] = BlockingPop(self.pool, *tagged, self._prefix)
        return pop

    def _leave(self, shards: Shards, taker: Taker) -> None:
        for topology, key in shards:
            self._pop_of(topology, key).leave(key, taker)

    async def _undo(self, shards: Shards, taker: Taker) -> None:
        """Return when the events that came, or were on their way, have returned."""
        if taker.got.done() and not taker.got.cancelled() and taker.got.exception() is None:
            topology, key, rows = taker.got.result()
            await put_back(self.pool, topology, key, rows, taker.ttl)
        await asyncio.gather(*[self._pop_of(topology, key).release(key) for topology, key in shards])


async def _forever(fetch: Callable[[], Awaitable[None]]) -> None:
    while True:
        await fetch()
