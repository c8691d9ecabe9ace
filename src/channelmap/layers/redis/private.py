"""Private channels: all those of a process share one queue, and what comes there is sorted here by its address."""

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
from channelmap.layers.redis.loops import InLoop
from channelmap.layers.redis.ring import Ring, queue_of
from channelmap.terms import Limits

log = logging.getLogger("channelmap.layers.redis")

#: Events that the shared queue is asked for at once.
_BATCH = 100

_Waiter = asyncio.Future[None]


class PrivateChannels:
    """The private channels of a layer object.

    Args:
        ring: where everything is.
        codec: how events are written.
        client_prefix: what the names of these channels have in common.
        limits_of: how much of a channel is kept.

    """

    def __init__(self, ring: Ring, codec: Codec, client_prefix: str, limits_of: Callable[[str], Limits]) -> None:
        self._ring = ring
        self._codec = codec
        self._mine = f"{client_prefix}!"
        self._limits_of = limits_of
        self.mailroom = Mailroom(
            lambda name: limits_of(name).capacity, limits_of(f"specific.{self._mine}").expiry or math.inf
        )

    async def take(self, here: InLoop, channel: str, limit: int, *, wait: bool) -> list[Delivery]:
        """Take up to `limit` events of one of them; raises as `InLoop.pop`."""
        queue = queue_of(channel)
        assert queue.endswith(self._mine), "Wrong client prefix"
        while not (taken := self.mailroom.take(channel, limit)):
            if not wait:
                await self._fetch(here, queue, wait=False)
                return self.mailroom.take(channel, limit)
            waiter = self.mailroom.wait(channel)
            try:
                await here.pumped(queue, waiter, lambda: self._fetch(here, queue, wait=True))
            finally:
                self.mailroom.leave(channel, waiter)
        return taken

    async def _fetch(self, here: InLoop, queue: str, *, wait: bool) -> None:
        """Sort what has come to a queue."""
        batch = await here.pop(self._ring.spots(queue), _BATCH, self._limits_of(queue), wait=wait)
        for member, sent in batch.rows:
            body, event, problem, _ = self._codec.open(member)
            if event is None:
                log.error("dropped what came for a private channel: %s", problem)
                continue
            names = (self._codec.read_addressed(body)[0] or {}).get(ADDRESS, queue)
            # Each gets an event of its own.
            self.mailroom.deliver(
                [
                    Delivery(name, self._codec.read(body)[0], body, sent)
                    for name in (names if isinstance(names, list) else [names])
                ],
                age=here.time_of(batch.place) - sent,
            )


class Mailroom:
    """The boxes of a process's private channels.

    Args:
        capacity_of: how many events a box holds; beyond that the oldest goes, for whoever reads it has stopped.
        secs: after so long an event is dropped, and with its newest a box that nobody empties.

    """

    def __init__(self, capacity_of: Callable[[str], int], secs: float) -> None:
        self._capacity_of = capacity_of
        self._secs = secs
        self._lock = threading.RLock()
        #: With each delivery the time, of the monotonic clock, at which it expires.
        self._boxes: dict[str, deque[tuple[float, Delivery]]] = {}
        self._waiters: dict[str, set[_Waiter]] = defaultdict(set)
        self._sweep_at = 0.0

    def deliver(self, deliveries: list[Delivery], *, age: float = 0.0, front: bool = False) -> None:
        """Put deliveries into the boxes of their channels, and wake who waits for them.

        Args:
            deliveries: deliveries of one or several channels.
            age: for how many seconds it has waited.
            front: whether it comes back.

        """
        until = time.monotonic() + self._secs - max(0.0, age)
        with self._lock:
            for delivery in deliveries:
                box = self._boxes.setdefault(delivery.channel, deque())
                if front:
                    # However full: what comes back to the front must not cost the newest.
                    box.appendleft((until, delivery))
                else:
                    box.append((until, delivery))
                    while len(box) > self._capacity_of(delivery.channel):
                        box.popleft()
                for waiter in self._waiters.get(delivery.channel, ()):
                    with suppress(RuntimeError):  # whoever closed a loop under a waiter has nothing left to wake
                        waiter.get_loop().call_soon_threadsafe(_finish, waiter)
            self._sweep()

    def take(self, channel: str, limit: int) -> list[Delivery]:
        """Take up to `limit` deliveries out of a box."""
        with self._lock:
            box = self._boxes.get(channel, deque())
            now = time.monotonic()
            taken: list[Delivery] = []
            while box and len(taken) < limit:
                until, delivery = box.popleft()
                if until >= now:
                    taken.append(delivery)
            if not box:
                self._boxes.pop(channel, None)
            return taken

    def wait(self, channel: str) -> _Waiter:
        """Return a future that is done when there is something in the box."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiters[channel].add(waiter)
            if channel in self._boxes:
                waiter.set_result(None)
        return waiter

    def leave(self, channel: str, waiter: _Waiter) -> None:
        """Wait no longer."""
        with self._lock:
            self._waiters[channel].discard(waiter)
            if not self._waiters[channel]:
                del self._waiters[channel]

    def clear(self) -> None:
        """Throw everything away."""
        with self._lock:
            self._boxes.clear()

    def _sweep(self) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + self._secs
            for channel in [name for name, box in self._boxes.items() if box[-1][0] < now]:
                del self._boxes[channel]


def _finish(waiter: _Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)
