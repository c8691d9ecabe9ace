"""One connection that waits for events on many channels at once, however many they are.

A blocking pop names all keys that somebody waits for. When one more is to be waited for, the pop is ended through a
key that only this object knows and that is among them: unlike CLIENT UNBLOCK it cannot come too early.
"""

import asyncio
import logging
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.faults import CLOSED, of_one_key, unavailable, worth_another_try
from channelmap.layers.redis.links import Links, Rows
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.scripts import PUT_BACK

log = logging.getLogger("channelmap.layers.redis")

#: Seconds after which a pop that has brought nothing is repeated: so long may a lost server go unnoticed.
BLOCK_SECS = 5
_LAST_SECS = 1.0


class Batch(NamedTuple):
    """What has come, and where from."""

    place: Place
    key: str
    rows: Rows


@dataclass(slots=True, eq=False)
class Taker:
    """Somebody who waits for events of one key.

    Attributes:
        got: gets what has come.
        limit: at most so many.
        ttl: seconds that the key is to live for, should events have to go back to it; '' for ever.

    """

    got: "asyncio.Future[Batch]"
    limit: int
    ttl: int | str


class Blocker:
    """Waits for those keys of one place that one command may name together.

    Args:
        links: the connections.
        place: which server.
        together: what the keys have in common (see `Place.together`).

    """

    def __init__(self, links: Links, place: Place, together: str) -> None:
        self._links = links
        self._place = place
        self._purpose = f"wait {together}"
        self._bell = f"{together or links.prefix}$wake:{uuid.uuid4().hex}"
        self._takers: dict[str, deque[Taker]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ringing: asyncio.Task[None] | None = None
        self._rung = False
        #: What the pop under way names, with each key's time to live; empty when there is none.
        self._named: dict[str, int | str] = {}
        self._round: asyncio.Future[None] | None = None
        #: What has come for nobody and is not back yet: key, events, the key's time to live.
        self._rest: deque[tuple[str, Rows, int | str]] = deque()
        self._returning: asyncio.Task[None] | None = None
        self._closed: LayerUnavailable | None = None

    @property
    def idle(self) -> bool:
        """Nobody waits: the next one to join is served without a detour."""
        return self._task is None

    def join(self, key: str, taker: Taker) -> None:
        """Wait for events on the key."""
        if self._closed is not None:
            _tell(taker, self._closed)
            return
        self._takers.setdefault(key, deque()).append(taker)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._named and key not in self._named:
            self._ring()

    def leave(self, key: str, taker: Taker) -> None:
        """Wait no longer; what comes for nobody goes back to the front."""
        takers = self._takers.get(key, deque())
        with suppress(ValueError):
            takers.remove(taker)
        if not takers:
            self._takers.pop(key, None)

    async def release(self, key: str) -> None:
        """Return when nothing of the key can be under way to nobody any more."""
        if self._round is not None and key not in self._takers:
            if key in self._named:
                self._ring()
            await asyncio.wait([self._round])

    def fail(self, error: Exception, key: str | None = None) -> None:
        """Tell those who wait for a key, or for any, that there is no use in it."""
        for failed in list(self._takers) if key is None else [key]:
            for taker in self._takers.pop(failed, ()):
                _tell(taker, error)

    async def close(self, error: LayerUnavailable) -> None:
        """End it; what has just come goes back."""
        self._closed = error
        self.fail(error)
        tasks = [task for task in (self._task, self._ringing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):
            async with asyncio.timeout(_LAST_SECS):
                await self._return_rest()

    async def _run(self) -> None:
        failed = False
        try:
            while self._takers:
                try:
                    await self._pop()
                    failed = False
                except Exception as error:  # noqa: BLE001  (whatever it is, those who wait must hear)
                    told = of_one_key(error) and await self._sort_out()
                    if not told and (failed or not worth_another_try(self._place, error)):
                        self.fail(unavailable(self._place, error))
                    failed = True
        finally:
            self._task = None
            # Left over only when we were cancelled: nobody else would tell them.
            self.fail(self._closed or LayerUnavailable(self._place.url, CLOSED))

    async def _sort_out(self) -> bool:
        """Tell those whose key it was that the server refused, and let the others wait on; whether there were any."""
        keys = list(self._takers)
        counts = [self._links.call(self._place, key, "ZCARD", key) for key in keys]
        results = await asyncio.gather(*counts, return_exceptions=True)
        refused = [
            (key, result) for key, result in zip(keys, results, strict=True) if isinstance(result, LayerUnavailable)
        ]
        for key, error in refused:
            self.fail(error, key)
        return bool(refused)

    async def _pop(self) -> None:
        """Wait until one key has events, and hand them out."""
        # What could not go back last time comes before anything new.
        await self._return_rest()
        if not self._takers:
            return
        key = next(iter(self._takers))
        wire = await self._links.line(self._place, key, self._purpose, blocks=BLOCK_SECS)
        if not self._takers:
            return
        # An event too many for its taker would have to go back.
        count = min(taker.limit for takers in self._takers.values() for taker in takers)
        self._named = {key: takers[0].ttl for key, takers in self._takers.items()}
        keys = (self._bell, *self._named)
        self._round = asyncio.get_running_loop().create_future()
        self._rung = False
        # Handed out by the connection itself: our own turn comes later.
        reply = wire.call("BZMPOP", BLOCK_SECS, len(keys), *keys, "MIN", "COUNT", count, at_once=self._hand_out)
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
        if found is None or found[0].decode() == self._bell:
            return
        key, rows = found[0].decode(), found[1]
        takers = self._takers.get(key, deque())
        while rows and takers:
            taker = takers.popleft()
            if not taker.got.done():
                taker.got.set_result(Batch(self._place, key, rows[: taker.limit]))
                rows = rows[taker.limit :]
        if not takers:
            self._takers.pop(key, None)
        if rows:
            self._rest.append((key, rows, self._named[key]))
        self._named = {}

    async def _return_rest(self) -> None:
        """Put back what came for takers that are gone; whoever is cancelled here does not begin it anew."""
        if self._rest and self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(self._put_back())
            self._returning.add_done_callback(_look_at)
        if self._returning is not None:
            await asyncio.shield(self._returning)

    async def _put_back(self) -> None:
        try:
            while self._rest:
                key, rows, ttl = self._rest[0]
                try:
                    await self._links.put_back(self._place, key, rows, ttl)
                except LayerUnavailable as error:
                    if error.__cause__ is None or not of_one_key(error.__cause__):
                        raise
                    # It would stand in the way of all other keys for ever.
                    log.error("lost %d events that cannot be put back: %s", len(rows), error)  # noqa: TRY400
                self._rest.popleft()
        finally:
            self._returning = None

    async def _abandon(self, reply: "asyncio.Future[Any]") -> None:
        """End the pop that is under way; what it brings goes back."""
        with suppress(Exception):
            async with asyncio.timeout(_LAST_SECS):
                if not reply.done():
                    self._ring()
                    await reply
                await self._return_rest()

    def _ring(self) -> None:
        """End the pop that is under way, once."""
        if not self._rung:
            self._rung = True
            self._ringing = asyncio.get_running_loop().create_task(self._say_ring())

    async def _say_ring(self) -> None:
        try:
            # It lives a minute: a pop that has ended meanwhile leaves the bell rung.
            await self._links.run(self._place, PUT_BACK, [self._bell], 60, "0", "ring")
        except LayerUnavailable as error:
            log.debug("cannot wake the waiting connection: %s", error)
        except asyncio.CancelledError:
            self._rung = False
            raise


def _tell(taker: Taker, error: Exception) -> None:
    if not taker.got.done():
        taker.got.set_exception(error)
        # Whoever was cancelled meanwhile does not look.
        taker.got.exception()


def _look_at(task: "asyncio.Task[None]") -> None:
    """Take note of how it ended: whoever was cancelled meanwhile does not look."""
    if not task.cancelled():
        task.exception()
