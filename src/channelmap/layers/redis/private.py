"""Private channels: those of one process share a queue, and its events are sorted here by their addresses."""

import asyncio
import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress

from channelmap.layer import Delivery
from channelmap.layers.redis.codec import ADDRESS, Codec
from channelmap.layers.redis.loop_state import LoopState
from channelmap.layers.redis.queues import Queues, queue_of
from channelmap.limits import Limits

log = logging.getLogger("channelmap.layers.redis")

#: The maximum number of events in one take from the shared queue.
_BATCH = 100

_Waiter = asyncio.Future[None]


class PrivateChannels:
    """The private channels of a layer object.

    Args:
        queues: where the queues are.
        codec: unpacks the events.
        client_prefix: the common part of these channels' names.
        limits_of: returns a channel's limits.

    """

    def __init__(self, queues: Queues, codec: Codec, client_prefix: str, limits_of: Callable[[str], Limits]) -> None:
        self._queues = queues
        self._codec = codec
        self._mine = f"{client_prefix}!"
        self._limits_of = limits_of
        self.local = LocalQueues(
            lambda name: limits_of(name).capacity, limits_of(f"specific.{self._mine}").expiry or math.inf
        )

    async def take(self, state: LoopState, channel: str, limit: int, *, wait: bool) -> list[Delivery]:
        """Take up to `limit` events of one channel; raises as `LoopState.pop`."""
        queue = queue_of(channel)
        assert queue.endswith(self._mine), "Wrong client prefix"
        while not (taken := self.local.take(channel, limit)):
            if not wait:
                await self._fetch(state, queue, wait=False)
                return self.local.take(channel, limit)
            waiter = self.local.wait(channel)
            try:
                await state.pumped(queue, waiter, lambda: self._fetch(state, queue, wait=True))
            finally:
                self.local.leave(channel, waiter)
        return taken

    async def _fetch(self, state: LoopState, queue: str, *, wait: bool) -> None:
        """Take events from the shared queue and sort them by channel."""
        batch = await state.pop(self._queues.shards(queue), _BATCH, self._limits_of(queue), wait=wait)
        for member, sent in batch.rows:
            body, event, problem, _ = self._codec.open(member)
            if event is None:
                log.error("dropped an event of a private channel: %s", problem)
                continue
            names = (self._codec.read_addressed(body)[0] or {}).get(ADDRESS, queue)
            # Each channel gets an event object of its own.
            self.local.deliver(
                [
                    Delivery(name, self._codec.read(body)[0], body, sent)
                    for name in (names if isinstance(names, list) else [names])
                ],
                age=state.time_of(batch.topology) - sent,
            )


class LocalQueues:
    """The queues of a process's private channels, in its memory.

    Args:
        capacity_of: returns how many events a channel's queue holds; beyond that the oldest event is dropped, because
            its reader has stopped.
        secs: seconds after which an event is dropped; a queue without a reader is dropped with its newest event.

    """

    def __init__(self, capacity_of: Callable[[str], int], secs: float) -> None:
        self._capacity_of = capacity_of
        self._secs = secs
        self._lock = threading.RLock()
        #: Each delivery with the time of the monotonic clock at which it expires.
        self._queues: dict[str, deque[tuple[float, Delivery]]] = {}
        self._waiters: dict[str, set[_Waiter]] = defaultdict(set)
        self._sweep_at = 0.0

    def deliver(self, deliveries: list[Delivery], *, age: float = 0.0, front: bool = False) -> None:
        """Put deliveries into the queues of their channels, and wake the takes that wait for them.

        Args:
            deliveries: deliveries of one or several channels.
            age: seconds since they were sent.
            front: whether they are returned to the front.

        """
        until = time.monotonic() + self._secs - max(0.0, age)
        with self._lock:
            for delivery in deliveries:
                queue = self._queues.setdefault(delivery.channel, deque())
                if front:
                    # Regardless of the capacity: a returned event must not displace the newest.
                    queue.appendleft((until, delivery))
                else:
                    queue.append((until, delivery))
                    while len(queue) > self._capacity_of(delivery.channel):
                        queue.popleft()
                for waiter in self._waiters.get(delivery.channel, ()):
                    with suppress(RuntimeError):  # the waiter's loop is closed
                        waiter.get_loop().call_soon_threadsafe(_finish, waiter)
            self._sweep()

    def take(self, channel: str, limit: int) -> list[Delivery]:
        """Take up to `limit` deliveries from a channel's queue."""
        with self._lock:
            queue = self._queues.get(channel, deque())
            now = time.monotonic()
            taken: list[Delivery] = []
            while queue and len(taken) < limit:
                until, delivery = queue.popleft()
                if until >= now:
                    taken.append(delivery)
            if not queue:
                self._queues.pop(channel, None)
            return taken

    def wait(self, channel: str) -> _Waiter:
        """Return a future that is done when the channel's queue has deliveries."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiters[channel].add(waiter)
            if channel in self._queues:
                waiter.set_result(None)
        return waiter

    def leave(self, channel: str, waiter: _Waiter) -> None:
        """Remove the future of `wait`."""
        with self._lock:
            self._waiters[channel].discard(waiter)
            if not self._waiters[channel]:
                del self._waiters[channel]

    def clear(self) -> None:
        """Drop all deliveries."""
        with self._lock:
            self._queues.clear()

    def _sweep(self) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + self._secs
            for channel in [name for name, queue in self._queues.items() if queue[-1][0] < now]:
                del self._queues[channel]


def _finish(waiter: _Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)
