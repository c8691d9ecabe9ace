"""What a layer has open in one event loop."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.blocking import Batch, Blocker, Taker
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.faults import CLOSED, unavailable
from channelmap.layers.redis.links import Links, Rows
from channelmap.layers.redis.outbox import Outbox, terms_of
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.rounds import Rounds
from channelmap.layers.redis.upkeep import Paused, Upkeep
from channelmap.layers.redis.watching import Watcher
from channelmap.terms import Limits

T = TypeVar("T")

log = logging.getLogger("channelmap.layers.redis")

#: Seconds for which one who was cancelled waits until what he took is back; the rest is done behind his back.
_UNDO_SECS = 1.0
#: For how many times as long as it let us wait in vain a place is passed over.
_SHUN_TIMES = 4

#: For so many seconds the time of a server follows from that of the loop.
_CLOCK_SECS = 60.0

#: Where a channel's queue is: in each of several places there may be a part of it.
Spots = Sequence[tuple[Place, str]]


class InLoop:
    """The connections of one event loop, and those who wait over them.

    Connections belong to their loop. They are closed when it shuts down, as `asyncio.run` and everything like it
    does: an asynchronous generator that was left open is closed then, and to be that is the guard's whole purpose.

    Args:
        prefix: what the layer's keys begin with.
        url: the layer's name in messages.
        codec: makes members of bodies.
        forget: called with this object when it is closed; until then the layer must not make another for this loop.

    """

    def __init__(
        self,
        prefix: str,
        url: str,
        codec: Codec,
        forget: Callable[["InLoop"], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.links = Links(prefix)
        self.outbox = Outbox(self.links, codec)
        self._url = url
        self._forget = forget
        self._blockers: dict[tuple[Place, str], Blocker] = {}
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self._watchers: dict[Place, Watcher] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._rounds = Rounds(self.links)
        self.upkeep = Upkeep(self.links, self._watcher, self._interrupt)
        #: Whether `close` has begun.
        self.closing = False
        self._turn = itertools.count()
        #: The time of a server minus that of this loop, and until when that need not be asked again.
        self._clocks: dict[Place, tuple[float, float]] = {}
        self._undoing: set[asyncio.Task[None]] = set()
        #: Places that let us wait in vain: until when they are passed over, and what was wrong.
        self._shunned: dict[Place, tuple[float, LayerUnavailable]] = {}
        self._guard = self._until_the_loop_ends()

    async def enter(self) -> "InLoop":
        """Begin to watch for the end of the loop."""
        await anext(self._guard)
        return self

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Close everything; those who wait hear that the layer was closed."""
        try:
            await self._close()
        finally:
            self._forget(self)

    async def _close(self) -> None:
        error = LayerUnavailable(self._url, CLOSED)
        self.closing = True
        await self._rounds.close(error)
        await self.upkeep.close()
        await asyncio.gather(*[blocker.close(error) for blocker in self._blockers.values()])
        for pump in self._pumps.values():
            pump.cancel()
        await asyncio.gather(*self._pumps.values(), return_exceptions=True)
        if self._undoing:
            await asyncio.wait(self._undoing, timeout=_UNDO_SECS)
        await self.links.close()

    def close_soon(self) -> None:
        """Close everything; to be called in the loop's thread. If the loop ends meanwhile, the guard does the rest."""
        self._leaving = self.loop.create_task(self.close())

    async def pop(self, spots: Spots, limit: int, limits: Limits, *, wait: bool) -> Batch:
        """Take up to `limit` events from the front of a channel, without those that have waited too long.

        Raises:
            LayerUnavailable: a server is away, or refuses.

        """
        _, ttl, _ = terms_of(limits)
        if limits.expiry is not None:
            await self._ask_times(spots)
        while True:
            batch = await self._pop(spots, limit, ttl, wait=wait)
            if limits.expiry is None or not batch.rows:
                return batch
            rows = await self._unexpired(batch, limits.expiry, ttl)
            if rows:
                return batch._replace(rows=rows)

    async def _pop(self, spots: Spots, limit: int, ttl: int | str, *, wait: bool) -> Batch:
        if not (wait and len(spots) == 1 and self._blocker(*spots[0]).idle):
            batch = await self._pop_at_once(spots, limit, ttl)
            if batch.rows or not wait:
                return batch
        if self.closing:
            raise LayerUnavailable(self._url, CLOSED)
        taker = Taker(self.loop.create_future(), limit, ttl)
        for place, key in spots:
            self._blocker(place, key).join(key, taker)
        try:
            return await taker.got
        except asyncio.CancelledError:
            self._leave(spots, taker)
            await self._undone(lambda: self._undo(spots, taker))
            raise
        finally:
            self._leave(spots, taker)

    def time_of(self, place: Place) -> float:
        """Return the time of a server, as far as it is known; its clock is the only one for leases and expiry."""
        ahead, _ = self._clocks.get(place, (time.time() - self.loop.time(), 0.0))
        return self.loop.time() + ahead

    async def _ask_times(self, spots: Spots) -> None:
        for place, key in spots:
            if self._clocks.get(place, (0.0, 0.0))[1] <= self.loop.time():
                # Of a place that is lost, the taking itself tells.
                with suppress(LayerUnavailable), self.asking(place, shun=True):
                    await self._ask_time(place, key)

    async def _ask_time(self, place: Place, key: str) -> None:
        secs, micros = await self.links.call(place, key, "TIME")
        now = self.loop.time()
        self._clocks[place] = int(secs) + int(micros) / 1e6 - now, now + _CLOCK_SECS

    async def _unexpired(self, batch: Batch, expiry: float, ttl: int | str) -> Rows:
        """Leave out events that have waited too long; the server is asked for the time before anything is dropped."""
        place, key, rows = batch
        if any(sent < self.time_of(place) - expiry for _, sent in rows):

            async def ask() -> None:
                with suppress(LayerUnavailable):
                    await self._ask_time(place, key)

            async def back(_: None) -> None:
                await self.links.put_back(place, key, rows, ttl)

            await self.or_back(ask(), back)
        oldest = self.time_of(place) - expiry
        return [row for row in rows if row[1] >= oldest]

    async def _pop_at_once(self, spots: Spots, limit: int, ttl: int | str) -> Batch:
        # Each place has its turn: one that is never empty must not hide the others, nor may one that is lost.
        problem = None
        for place, key in self.by_turns(spots):
            try:
                with self.asking(place, shun=len(spots) > 1):
                    rows = await self._pop_one(place, key, limit, ttl)
            except LayerUnavailable as error:
                problem = error
                continue
            if rows:
                return Batch(place, key, rows)
        if problem:
            try:
                raise problem
            finally:
                del problem  # as in `Links`: no cycle
        return Batch(*spots[0], [])

    def by_turns(self, spots: Spots) -> Spots:
        """Let each place be the first one in its turn."""
        first = next(self._turn) % len(spots)
        return [*spots[first:], *spots[:first]]

    @contextmanager
    def asking(self, place: Place, *, shun: bool) -> Iterator[None]:
        """Ask a place something that it may be too dead to answer.

        One that let us wait in vain is passed over for several times as long, if it is to be shunned: others must not
        be hidden by it. One that fails at once costs nothing, and is asked each time.

        Raises:
            LayerUnavailable: the place failed, now or a moment ago.

        """
        until, problem = self._shunned.get(place, (0.0, None))
        if shun and problem is not None and self.loop.time() < until:
            raise LayerUnavailable(problem.url, problem.reason)
        start = self.loop.time()
        try:
            yield
        except LayerUnavailable as error:
            end = self.loop.time()
            self._shunned[place] = (end + _SHUN_TIMES * (end - start), error)
            raise
        self._shunned.pop(place, None)

    async def _pop_one(self, place: Place, key: str, limit: int, ttl: int | str) -> Rows:
        async def back(found: Any) -> None:
            if found is not None:
                await self.links.put_back(place, key, found[1], ttl)

        popping = self.links.call(place, key, "ZMPOP", 1, key, "MIN", "COUNT", limit)
        found = await self.or_back(popping, back)
        return [] if found is None else found[1]

    async def or_back(self, taking: Awaitable[T], back: Callable[[T], Awaitable[None]]) -> T:
        """Wait for what takes events; if we are cancelled meanwhile, they go back."""
        task = asyncio.ensure_future(taking)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:

            async def undo() -> None:
                with suppress(LayerUnavailable):  # nothing was taken
                    taken = await task
                    await self._logged(lambda: back(taken))

            await self._undone(undo)
            raise

    async def _undone(self, undo: Callable[[], Awaitable[None]]) -> None:
        """Wait a moment for what brings events back; whatever happens to it, a cancel stays a cancel."""
        task = self.loop.create_task(self._logged(undo))
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
        await asyncio.wait([task], timeout=_UNDO_SECS)

    @staticmethod
    async def _logged(undo: Callable[[], Awaitable[None]]) -> None:
        try:
            await undo()
        except Exception as error:  # noqa: BLE001  (whoever was cancelled must not get it)
            log.warning("cannot put back what was taken, it may be lost: %s", error)

    async def watch(self, place: Place, keys: list[str]) -> "asyncio.Future[None]":
        """Return a future that is done when one of the keys has changed since now; raises as `pop`."""
        try:
            return await self._watcher(place).watch(keys)
        except Exception as error:
            raise unavailable(place, error) from error

    async def changed(self, spots: Spots, changes: Sequence["asyncio.Future[None]"], secs: float | None) -> bool:
        """Wait for one of the changes, but no longer than `secs`; whether a look found something untold at the spots.

        Raises:
            LayerUnavailable: the layer was closed meanwhile.

        """
        # A future of each taker's own: `asyncio.wait` searches a shared one through all of its callbacks.
        found: asyncio.Future[None] = self.loop.create_future()
        self._rounds.join(spots, found)
        try:
            await asyncio.wait([*changes, found], timeout=secs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._rounds.leave(spots, found)
        if found.done():
            found.result()
        return found.done()

    def unwatch(self, place: Place, keys: list[str]) -> None:
        """Look at the keys anew next time."""
        self._watcher(place).forget(keys)

    async def pumped(self, queue: str, waiter: "asyncio.Future[None]", fetch: Callable[[], Awaitable[None]]) -> None:
        """Wait for a future while a task of this loop fetches what is in a queue, over and over; raises as `fetch`."""
        pump = self._pumps.get(queue)
        if pump is None or pump.done():
            pump = self._pumps[queue] = self.loop.create_task(_for_ever(fetch))
        await asyncio.wait([waiter, pump], return_when=asyncio.FIRST_COMPLETED)
        if pump.done():
            if pump.cancelled():
                raise LayerUnavailable(self._url, CLOSED)
            pump.result()

    def _interrupt(self, place: Place, key: str) -> None:
        self._blocker(place, key).fail(Paused(), key)

    def _watcher(self, place: Place) -> Watcher:
        return self._watchers.setdefault(place, Watcher(self.links, place))

    def _blocker(self, place: Place, key: str) -> Blocker:
        among = (place, place.together(key))
        blocker = self._blockers.get(among)
        if blocker is None:
            blocker = self._blockers[among] = Blocker(self.links, *among)
        return blocker

    def _leave(self, spots: Spots, taker: Taker) -> None:
        for place, key in spots:
            self._blocker(place, key).leave(key, taker)

    async def _undo(self, spots: Spots, taker: Taker) -> None:
        """Return when what had come for the taker, or was on its way, is back."""
        if taker.got.done() and not taker.got.cancelled() and taker.got.exception() is None:
            place, key, rows = taker.got.result()
            await self.links.put_back(place, key, rows, taker.ttl)
        await asyncio.gather(*[self._blocker(place, key).release(key) for place, key in spots])


async def _for_ever(fetch: Callable[[], Awaitable[None]]) -> None:
    while True:
        await fetch()
