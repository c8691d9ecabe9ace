"""Moves scheduled events to the queue when they are due, and obeys pauses, where events are taken without a lease.

A take under a lease does both inside its script. A blocking pop cannot, so here a task waits until an event is due,
and the server tells (see `watching`) when an event is scheduled or a channel is paused.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from channelmap.layers.redis.keys import paused_of, scheduled_of
from channelmap.layers.redis.links import Links
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.scripts import MOVE_DUE
from channelmap.layers.redis.watching import WATCH_SECS, Watcher

log = logging.getLogger("channelmap.layers.redis")

#: Channels for which one command asks.
_BATCH = 500
#: Seconds until a server that failed is asked again.
_RETRY_SECS = 1.0

_Spot = tuple[Place, str]


class Paused(Exception):
    """A channel was paused while somebody waited for its events."""


@dataclass(slots=True, eq=False)
class _Channel:
    """What is known of a channel at one place.

    Attributes:
        ttl: seconds to live of its queue, or '' for no limit.
        change: done when the server has told of a change since the last look.
        looked: done when it was looked at.
        look_at: when to look again, by the loop's clock.
        resumed: done when the channel is no longer paused; None when it is not.

    """

    ttl: int | str
    looked: "asyncio.Future[None]"
    look_at: float = -math.inf
    change: "asyncio.Future[None] | None" = None
    resumed: "asyncio.Future[None] | None" = None


class Upkeep:
    """The channels of one event loop.

    Args:
        links: the connections.
        watcher_of: returns what watches the keys of a place.
        interrupt: called for each channel that is paused; it ends the takes that wait for events of the channel.

    """

    def __init__(
        self, links: Links, watcher_of: Callable[[Place], Watcher], interrupt: Callable[[Place, str], None]
    ) -> None:
        self._links = links
        self._watcher_of = watcher_of
        self._interrupt = interrupt
        self._loop = asyncio.get_running_loop()
        self._channels: dict[_Spot, _Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        #: Places that refused or did not answer the last look.
        self._failing: set[Place] = set()

    async def begin(self, spots: Sequence[_Spot], ttl: int | str) -> None:
        """Look after a channel from now on; returns when it was looked at, or could not be."""
        new = [spot for spot in spots if spot not in self._channels]
        for spot in new:
            self._channels[spot] = _Channel(ttl, self._loop.create_future())
        if new:
            if self._task is None or self._task.done():
                self._task = self._loop.create_task(self._run())
            self._woken.set()
        for spot in spots:
            if not (looked := self._channels[spot].looked).done():
                await asyncio.wait([looked])

    def is_paused(self, spots: Sequence[_Spot]) -> bool:
        """Return whether the channel is paused, as far as is known."""
        return any(self._channels[spot].resumed is not None for spot in spots)

    async def until_resumed(self, spots: Sequence[_Spot]) -> None:
        """Wait until the channel is not paused."""
        for spot in spots:
            while (resumed := self._channels[spot].resumed) is not None:
                await asyncio.wait([resumed])

    async def close(self) -> None:
        """Stop; takes that wait for a look or for the end of a pause go on, and find the layer closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for channel in self._channels.values():
            _finish(channel.looked)
            if channel.resumed is not None:
                _finish(channel.resumed)
                channel.resumed = None

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            now = self._loop.time()
            await self._look([spot for spot, channel in self._channels.items() if channel.look_at <= now])
            next_at = min((channel.look_at for channel in self._channels.values()), default=math.inf)
            try:
                async with asyncio.timeout_at(next_at if next_at < math.inf else None):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _look(self, spots: Sequence[_Spot]) -> None:
        together: dict[tuple[Place, str], list[_Spot]] = defaultdict(list)
        for place, key in spots:
            together[place, place.together(key)].append((place, key))
        for (place, _), of_place in together.items():
            for start in range(0, len(of_place), _BATCH):
                await self._look_together(place, of_place[start : start + _BATCH])

    async def _look_together(self, place: Place, spots: Sequence[_Spot]) -> None:
        channels = [self._channels[spot] for spot in spots]
        try:
            # First watch, then look: no change is missed.
            await asyncio.gather(*[self._watch(spot) for spot in spots])
            keys = [name for _, key in spots for name in (key, scheduled_of(key), paused_of(key))]
            found = await self._links.run(place, MOVE_DUE, keys, *[channel.ttl for channel in channels])
        except Exception as error:  # noqa: BLE001  (whatever a connection raises, the task goes on)
            if place not in self._failing:
                self._failing.add(place)
                log.warning("%s: cannot move delayed events to their queues, nor notice pauses: %s", place.url, error)
            found = [(str(_RETRY_SECS), None)] * len(spots)
        else:
            if place in self._failing:
                self._failing.remove(place)
                log.warning("%s: moving delayed events and noticing pauses again", place.url)
        for (_, key), channel, (due, paused) in zip(spots, channels, found, strict=True):
            seconds = float(due) if due else math.inf
            channel.look_at = self._loop.time() + min(seconds, WATCH_SECS)
            if paused is not None:
                self._note(place, key, channel, paused=bool(paused))
            _finish(channel.looked)

    async def _watch(self, spot: _Spot) -> None:
        place, key = spot
        channel = self._channels[spot]
        if channel.change is None or channel.change.done():
            channel.change = await self._watcher_of(place).watch([scheduled_of(key), paused_of(key)])
            channel.change.add_done_callback(lambda _: self._changed(channel))

    def _changed(self, channel: _Channel) -> None:
        channel.look_at = -math.inf
        self._woken.set()

    def _note(self, place: Place, key: str, channel: _Channel, *, paused: bool) -> None:
        if paused and channel.resumed is None:
            channel.resumed = self._loop.create_future()
            self._interrupt(place, key)
        elif not paused and channel.resumed is not None:
            _finish(channel.resumed)
            channel.resumed = None


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
