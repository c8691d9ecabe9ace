"""Events in the memory of this process: for tests, and for a sender and a worker in one process.

Events are packed nevertheless, so that this layer changes and rejects the same values as other layers.
"""
# ruff: noqa: D102  (`ChannelLayer` says what each method promises)

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from channelmap.asgi import Event
from channelmap.errors import ChannelFull, LayerError, LayerUnavailable
from channelmap.layer import (
    NUMBER_KEPT_SECS,
    WORKER_TIMEOUT_SECS,
    ChannelLayer,
    Counts,
    DeadLetter,
    Delivery,
    Purged,
    WorkerInfo,
    seconds_until,
    shown_id,
)
from channelmap.layers.ids import new_id
from channelmap.layers.packing import pack, unpack

_Waiter = asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Event:
    """A stored event; `since` is its send time by the monotonic clock, because the wall clock may be set."""

    id: int
    sent: float
    since: float
    body: bytes
    attempt: int = 1
    suspect: bool = False
    crashes: int = 0


@dataclass(slots=True)
class _Lease:
    """A worker's lease of an event."""

    until: float
    item: _Event
    begun: bool = False


@dataclass(slots=True, order=True)
class _Scheduled:
    """A scheduled event; `due` is a time of the monotonic clock."""

    due: float
    number: int
    item: _Event = field(compare=False)


@dataclass(slots=True)
class _Heartbeat:
    """The last heartbeat of a worker; `seen` is a time of the monotonic clock, `worker` is None once it has ended."""

    number: int = 0
    seen: float = 0.0
    worker: WorkerInfo | None = None


class MemoryChannelLayer(ChannelLayer):
    """A layer in the memory of its process; instances share nothing.

    Args:
        url: its name in messages and logs.
        options: arguments of `ChannelLayer`.

    """

    def __init__(self, url: str = "memory://", **options: Any) -> None:
        super().__init__(**options)
        self.url = url
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._waiters: dict[str, set[_Waiter]] = {}
        self._clear()

    def _clear(self) -> None:
        self._queues: dict[str, deque[_Event]] = {}
        self._leases: dict[str, dict[int, _Lease]] = {}
        self._scheduled: dict[str, list[_Scheduled]] = {}
        self._paused: set[str] = set()
        self._members: dict[str, dict[str, float]] = {}
        self._letters: dict[str, DeadLetter] = {}
        self._heartbeats: dict[str, _Heartbeat] = {}
        self._totals: dict[str, Counter[str]] = {}

    async def send(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        return self.send_sync(channel, event, delay=delay, at=at)

    def send_sync(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        return self._send_all(channel, [event], delay, at)[0]

    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str]:
        return self._send_all(channel, events, delay, at)

    def _send_all(self, channel: str, events: Sequence[Event], delay: float | None, at: datetime | None) -> list[str]:
        wait = seconds_until(delay, at)
        self.require_valid_channel_name(channel)
        for event in events:
            self.require_valid_event(event)
        packed = [(new_id(), pack(channel, event)) for event in events]
        self._append(channel, packed, wait)
        return [shown_id(event_id) for event_id, _ in packed]

    def _append(self, channel: str, events: Sequence[tuple[int, bytes]], wait: float | None = None) -> None:
        capacity = self.limits_of(channel).capacity
        with self._lock:
            self._expire(channel)
            there = len(self._queues.get(channel, ())) + len(self._scheduled.get(channel, ()))
            if there + len(events) > capacity:
                raise ChannelFull(self.url, channel, capacity, len(events))
            sent, since = time.time() + (wait or 0.0), time.monotonic() + (wait or 0.0)
            if wait is not None:
                for event_id, body in events:
                    self._schedule(channel, _Event(event_id, sent, since, body), since)
                self._wake([channel])
                return
            self._queues.setdefault(channel, deque()).extend(
                _Event(event_id, sent, since, body) for event_id, body in events
            )
            self._wake([channel])

    def _expire(self, channel: str) -> None:
        expiry = self.limits_of(channel).expiry
        if expiry is not None and self._queues.get(channel):
            self._queues[channel] = deque(self._unexpired(channel, expiry))

    def _unexpired(self, channel: str, expiry: float | None) -> Iterable[_Event]:
        oldest = -math.inf if expiry is None else time.monotonic() - expiry
        # A redelivered event does not expire, because its lease guarantees redelivery.
        return (item for item in self._queues.get(channel, ()) if item.since >= oldest or item.attempt > 1)

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        with self._lock:
            self._members.setdefault(group, {})[channel] = time.monotonic()

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        with self._lock:
            self._members.get(group, {}).pop(channel, None)

    async def group_send(self, group: str, event: Event) -> None:
        self.require_valid_group_name(group)
        self.require_valid_event(event)
        body = pack(group, event)
        with self._lock:
            oldest = time.monotonic() - self.group_expiry
            members = {name: at for name, at in self._members.pop(group, {}).items() if at >= oldest}
            if members:
                self._members[group] = members
            for channel in members:
                with suppress(ChannelFull):
                    self._append(channel, [(new_id(), body)])

    async def flush(self) -> None:
        with self._lock:
            self._clear()

    async def close(self) -> None:
        error = LayerUnavailable(self.url, "the layer was closed")
        with self._lock:
            for waiter in itertools.chain(*self._waiters.values()):
                waiter.get_loop().call_soon_threadsafe(_fail, waiter, error)

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        self.require_valid_channel_name(channel)
        while True:
            with self._lock:
                deliveries = [] if channel in self._paused else self._remove_front(channel, limit, lease)
                if deliveries or not wait:
                    return deliveries
                ends = [found.until for found in self._leases.get(channel, {}).values()]
                due = (
                    None
                    if channel in self._paused
                    else min([*ends, *(one.due for one in self._scheduled.get(channel, [])[:1])], default=None)
                )
                waiter: _Waiter = asyncio.get_running_loop().create_future()
                self._waiters.setdefault(channel, set()).add(waiter)
            await self._wait(channel, waiter, due)

    async def _wait(self, channel: str, waiter: _Waiter, due: float | None) -> None:
        delay = None if due is None else max(0.0, due - time.monotonic())
        try:
            await asyncio.wait([waiter], timeout=delay)
            if waiter.done():
                waiter.result()
        finally:
            waiter.cancel()
            with self._lock:
                self._waiters[channel].remove(waiter)
                if not self._waiters[channel]:
                    del self._waiters[channel]

    def _remove_front(self, channel: str, limit: int, lease: float | None) -> list[Delivery]:
        now = time.monotonic()
        leases = self._leases.get(channel, {})
        overdue = deque(sorted((found.until, ticket) for ticket, found in leases.items() if found.until <= now))
        items: list[_Event] = []
        if lease is None:
            while overdue and len(items) < limit:
                items.append(_redelivered(leases.pop(overdue.popleft()[1])))
        retried = self._remove_due(channel, limit - len(items), min(now, overdue[0][0]) if overdue else now)
        items += retried
        if overdue and not items:
            # Under a lease a suspect is taken alone.
            items.append(_redelivered(leases.pop(overdue[0][1])))
        elif not overdue:
            self._expire(channel)
            queue = self._queues.get(channel, deque())
            items += [queue.popleft() for _ in range(min(limit - len(items), len(queue)))]
            if not queue:
                self._queues.pop(channel, None)
        return [self._delivery(channel, item, lease) for item in items]

    def _remove_due(self, channel: str, limit: int, before: float) -> list[_Event]:
        """Remove up to `limit` due retries, and move due delayed events to the end of the queue."""
        scheduled = self._scheduled.get(channel, [])
        retried: list[_Event] = []
        while scheduled and scheduled[0].due <= before and len(retried) < limit:
            item = heapq.heappop(scheduled).item
            if item.attempt > 1:
                retried.append(item)
            else:
                self._queues.setdefault(channel, deque()).append(item)
        return retried

    def _schedule(self, channel: str, item: _Event, due: float) -> None:
        heapq.heappush(self._scheduled.setdefault(channel, []), _Scheduled(due, next(self._numbers), item))

    def _delivery(self, channel: str, item: _Event, lease: float | None) -> Delivery:
        ticket: int | _Event = item
        if lease is not None:
            ticket = next(self._numbers)
            self._leases.setdefault(channel, {})[ticket] = _Lease(time.monotonic() + lease, item)
        return to_delivery(channel, item, ticket)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                self._leases.get(delivery.channel, {}).pop(delivery.ticket, None)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            returned: dict[str, list[_Event]] = {}
            for delivery in deliveries:
                found = self._leases.get(delivery.channel, {}).pop(delivery.ticket, None)
                if found is not None and found.item.suspect:
                    self._leases[delivery.channel][next(self._numbers)] = _Lease(-math.inf, found.item)
                elif found is not None:
                    returned.setdefault(delivery.channel, []).append(found.item)
                elif not isinstance(delivery.ticket, int):
                    since = time.monotonic() if delivery.ticket is None else delivery.ticket.since
                    item = _Event(int(delivery.raw_id), delivery.sent, since, delivery.body, delivery.attempt)
                    returned.setdefault(delivery.channel, []).append(item)
            for channel, items in returned.items():
                self._queues.setdefault(channel, deque()).extendleft(reversed(items))
            self._wake({delivery.channel for delivery in deliveries})

    async def begin(self, delivery: Delivery) -> bool:
        with self._lock:
            found = self._leases.get(delivery.channel, {}).get(self._ticket(delivery))
            if found is not None:
                found.begun = True
            return found is not None

    async def retry(self, delivery: Delivery, delay: float) -> None:
        with self._lock:
            found = self._leases.get(delivery.channel, {}).pop(self._ticket(delivery), None)
            if found is not None:
                item = replace(found.item, attempt=found.item.attempt + 1, suspect=False, crashes=0)
                self._schedule(delivery.channel, item, time.monotonic() + delay)
                # A waiting take must compute its next due time again.
                self._wake([delivery.channel])

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        with self._lock:
            for delivery in deliveries:
                found = self._leases.get(delivery.channel, {}).get(self._ticket(delivery))
                if found is not None:
                    found.until = time.monotonic() + lease

    def _ticket(self, delivery: Delivery) -> int:
        if not isinstance(delivery.ticket, int):
            raise LayerError(self.url, "only an event that was taken with a lease can be redelivered")
        return delivery.ticket

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        body = letter.body or delivery.body or pack(letter.channel, letter.event or {})
        kept = replace(letter, body=body, event=unpack(body)[0], id=str(next(self._numbers)))
        with self._lock:
            if isinstance(delivery.ticket, int) and delivery.ticket not in self._leases.get(delivery.channel, {}):
                # The lease has ended: the event belongs to another worker.
                return
            await self.settle([delivery])
            self._letters[kept.id] = kept
            of_channel = [id_ for id_, other in self._letters.items() if other.channel == letter.channel]
            dropped = of_channel[: max(0, len(of_channel) - self.limits_of(letter.channel).dead_letters)]
            for id_ in dropped:
                del self._letters[id_]
        self._warn_of_dropped_letters({letter.channel: len(dropped)})

    async def pause(self, channel: str) -> None:
        self.require_valid_channel_name(channel)
        with self._lock:
            self._paused.add(channel)

    async def resume(self, channel: str) -> None:
        self.require_valid_channel_name(channel)
        with self._lock:
            self._paused.discard(channel)
            self._wake([channel])

    async def is_paused(self, channel: str) -> bool:
        return channel in self._paused

    async def waiting(self, channel: str) -> int:
        return len(self._queues.get(channel, ()))

    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        with self._lock:
            now = time.monotonic()
            if worker.id not in self._heartbeats:
                for id_ in [id_ for id_, one in self._heartbeats.items() if one.seen < now - NUMBER_KEPT_SECS]:
                    del self._heartbeats[id_]
            heartbeat = self._heartbeats.setdefault(worker.id, _Heartbeat())
            if number > heartbeat.number:
                heartbeat.number = number
                for channel, increments in totals.items():
                    self._totals.setdefault(channel, Counter()).update(increments)
            heartbeat.seen, heartbeat.worker = now, None if last else worker

    async def workers(self) -> list[WorkerInfo]:
        with self._lock:
            now = time.monotonic()
            found = [
                replace(one.worker, seen=now - one.seen)
                for one in self._heartbeats.values()
                if one.worker is not None and now - one.seen <= WORKER_TIMEOUT_SECS
            ]
        return sorted(found, key=lambda worker: worker.started)

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        with self._lock:
            dead: dict[str, Counter[str]] = {}
            for letter in self._letters.values():
                dead.setdefault(letter.channel, Counter())[letter.code] += 1
            return {channel: self._counts(channel, dead.get(channel, {})) for channel in channels}

    def _counts(self, channel: str, dead: Mapping[str, int]) -> Counts:
        queue = self._queues.get(channel)
        return Counts(
            waiting=len(queue or ()),
            scheduled=len(self._scheduled.get(channel, ())),
            leased=len(self._leases.get(channel, ())),
            dead=dict(dead),
            oldest=max(0.0, time.monotonic() - queue[0].since) if queue else None,
            paused=channel in self._paused,
            totals=dict(self._totals.get(channel, {})),
        )

    async def purge(self, channel: str) -> Purged:
        self._require_purgeable(channel)
        with self._lock:
            return Purged(len(self._queues.pop(channel, ())), len(self._scheduled.pop(channel, ())))

    async def peek(self, channel: str) -> AsyncIterator[Delivery]:
        expiry = self.limits_of(channel).expiry
        if "!" in channel:
            return
        with self._lock:
            # The lists hold references to the events, not copies.
            leased = [lease.item for lease in self._leases.get(channel, {}).values()]
            scheduled = sorted(self._scheduled.get(channel, []))
            waiting = [*self._unexpired(channel, expiry)]
        for item in leased:
            yield to_delivery(channel, item)
        for one in scheduled:
            yield replace(to_delivery(channel, one.item), due=time.time() + one.due - time.monotonic())
        for item in waiting:
            yield to_delivery(channel, item)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        with self._lock:
            return [letter for letter in self._letters.values() if channel in {None, letter.channel}]

    async def replay(self, id: str) -> None:  # noqa: A002
        with self._lock:
            letter = self._letters[id]
            event_id = int(letter.event_id or "0", 16) or new_id()
            self._append(letter.channel, [(event_id, letter.body)])
            del self._letters[id]

    async def drop(self, id: str) -> None:  # noqa: A002
        with self._lock:
            del self._letters[id]

    def _wake(self, channels: Iterable[str]) -> None:
        with self._lock:
            for channel in channels:
                for waiter in self._waiters.get(channel, ()):
                    # A closed event loop has no waiter to wake.
                    with suppress(RuntimeError):
                        waiter.get_loop().call_soon_threadsafe(_resolve, waiter)


def _redelivered(lease: _Lease) -> _Event:
    """Return the event of an expired lease as a suspect."""
    item = lease.item
    return replace(item, attempt=item.attempt + lease.begun, suspect=True, crashes=item.crashes + lease.begun)


def to_delivery(channel: str, item: _Event, ticket: int | _Event | None = None) -> Delivery:
    """Return a stored event as a delivery; without a ticket it cannot be settled."""
    event, problem = unpack(item.body)
    delivery = Delivery(channel, event, item.body, item.sent, item.attempt, problem, ticket, raw_id=item.id)
    if isinstance(ticket, int) and item.suspect:
        delivery.suspect, delivery.crashes = True, item.crashes
    return delivery


def _resolve(waiter: _Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _fail(waiter: _Waiter, error: LayerUnavailable) -> None:
    if not waiter.done():
        waiter.set_exception(error)
