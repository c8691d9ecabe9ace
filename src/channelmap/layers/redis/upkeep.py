"""Move due events to the queue and notice pauses, for channels from which events are popped.

`TAKE` does both inside its script, but a blocking pop cannot. So a task waits until an event is due, and a `Watcher`
notices when an event is scheduled or a channel is paused. A pop cannot take retries and events whose leases have ended
either: once another worker takes with leases, `TAKE` has to be used here, too.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from channelmap.layers.redis.client import ConnectionPool, Topology, Watcher
from channelmap.layers.redis.keys import popped_keys
from channelmap.layers.redis.polling import POLL_SECS
from channelmap.layers.redis.queues import Shard, Shards
from channelmap.layers.redis.scripts import MOVE_DUE

log = logging.getLogger("channelmap.layers.redis")

#: The maximum number of channels in one command.
_BATCH = 500
#: Seconds until a failed server is asked again.
_RETRY_SECS = 1.0


class Interrupted(Exception):
    """A channel was paused, or leases were found, while a pop waited for its events."""


@dataclass(slots=True, eq=False)
class _Channel:
    """The state of one shard of a channel.

    Attributes:
        ttl: seconds to live of its queue, or '' for no limit.
        checked: done after the first check.
        check_at: when to check again, by the loop's clock.
        change: done when the server has told of a change since the last check.
        resumed: done when the pause ends; `None` if the channel is not paused.
        has_leases: another worker takes with leases; then the channel is no longer checked.

    """

    ttl: int | str
    checked: "asyncio.Future[None]"
    check_at: float = -math.inf
    change: "asyncio.Future[None] | None" = None
    resumed: "asyncio.Future[None] | None" = None
    has_leases: bool = False


class Upkeep:
    """The channels for whose events pops wait in one event loop.

    Args:
        pool: the connections.
        watcher_of: returns the watcher of a topology.
        interrupt: called when a channel is paused or has leases, to end the pops that wait for its events.

    """

    def __init__(
        self,
        pool: ConnectionPool,
        watcher_of: Callable[[Topology], Watcher],
        interrupt: Callable[[Topology, str], None],
    ) -> None:
        self._pool = pool
        self._watcher_of = watcher_of
        self._interrupt = interrupt
        self._loop = asyncio.get_running_loop()
        self._channels: dict[Shard, _Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        #: Hosts that refused or did not answer the last check.
        self._failing: set[Topology] = set()

    async def begin(self, shards: Shards, ttl: int | str) -> None:
        """Begin to check a channel; return after the first check, whether or not it succeeded."""
        new = [shard for shard in shards if shard not in self._channels]
        for shard in new:
            self._channels[shard] = _Channel(ttl, self._loop.create_future())
        if new:
            if self._task is None or self._task.done():
                self._task = self._loop.create_task(self._run())
            self._woken.set()
        for shard in shards:
            if not (checked := self._channels[shard].checked).done():
                await asyncio.wait([checked])

    def has_leases(self, shards: Shards) -> bool:
        """Return whether a check has found leases or due retries."""
        return any(self._channels[shard].has_leases for shard in shards)

    def is_paused(self, shards: Shards) -> bool:
        """Return whether the channel was paused at the last check."""
        return any(self._channels[shard].resumed is not None for shard in shards)

    async def until_resumed(self, shards: Shards) -> None:
        """Wait until the channel is not paused."""
        for shard in shards:
            while (resumed := self._channels[shard].resumed) is not None:
                await asyncio.wait([resumed])

    async def close(self) -> None:
        """Stop; takes that wait for a check or for the end of a pause go on, and find the layer closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for channel in self._channels.values():
            _finish(channel.checked)
            if channel.resumed is not None:
                _finish(channel.resumed)
                channel.resumed = None

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            now = self._loop.time()
            await self._check([shard for shard, channel in self._channels.items() if channel.check_at <= now])
            next_at = min((channel.check_at for channel in self._channels.values()), default=math.inf)
            try:
                async with asyncio.timeout_at(next_at if next_at < math.inf else None):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _check(self, shards: Shards) -> None:
        by_tag: dict[tuple[Topology, str], list[Shard]] = defaultdict(list)
        for topology, key in shards:
            by_tag[topology, topology.hash_tag(key)].append((topology, key))
        for (topology, _), group in by_tag.items():
            for start in range(0, len(group), _BATCH):
                await self._check_batch(topology, group[start : start + _BATCH])

    async def _check_batch(self, topology: Topology, shards: Sequence[Shard]) -> None:
        channels = [self._channels[shard] for shard in shards]
        try:
            # Watch before the check, so that no change is missed.
            await asyncio.gather(*[self._watch(shard) for shard in shards])
            keys = [name for _, key in shards for name in popped_keys(key)]
            found = await self._pool.run(topology, MOVE_DUE, keys, *[channel.ttl for channel in channels])
        except Exception as error:  # noqa: BLE001  (the task goes on)
            if topology not in self._failing:
                self._failing.add(topology)
                log.warning("%s: cannot move delayed events to their queues or notice pauses: %s", topology.url, error)
            found = [(str(_RETRY_SECS), None, 0)] * len(shards)
        else:
            if topology in self._failing:
                self._failing.remove(topology)
                log.warning("%s: moving delayed events and noticing pauses again", topology.url)
        for (_, key), channel, (due, paused, has_leases) in zip(shards, channels, found, strict=True):
            seconds = float(due) if due else math.inf
            channel.check_at = self._loop.time() + min(seconds, POLL_SECS)
            if paused is not None:
                self._note(topology, key, channel, paused=bool(paused) and not has_leases)
            if has_leases:
                channel.has_leases = True
                channel.check_at = math.inf
                self._interrupt(topology, key)
            _finish(channel.checked)

    async def _watch(self, shard: Shard) -> None:
        topology, key = shard
        channel = self._channels[shard]
        if channel.change is None or channel.change.done():
            channel.change = await self._watcher_of(topology).watch(popped_keys(key)[1:])
            channel.change.add_done_callback(lambda _: self._changed(channel))

    def _changed(self, channel: _Channel) -> None:
        if not channel.has_leases:
            channel.check_at = -math.inf
            self._woken.set()

    def _note(self, topology: Topology, key: str, channel: _Channel, *, paused: bool) -> None:
        if paused and channel.resumed is None:
            channel.resumed = self._loop.create_future()
            self._interrupt(topology, key)
        elif not paused and channel.resumed is not None:
            _finish(channel.resumed)
            channel.resumed = None


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
