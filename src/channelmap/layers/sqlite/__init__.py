"""Events in one SQLite file, shared by any number of processes of one machine: the embedded default.

`queue`, `leases`, `letters` and `heartbeats` are operations on the file, `connections` runs them, and `notify` wakes
idle workers.
"""
# ruff: noqa: D102  (`ChannelLayer` says what each method promises)

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from channelmap.asgi import Event
from channelmap.errors import ChannelFull, LayerError, LayerUnavailable
from channelmap.layer import (
    ChannelLayer,
    Counts,
    DeadLetter,
    Delivery,
    Purged,
    WorkerInfo,
    seconds_until,
    shown_id,
)
from channelmap.layers.batches import Batch, note_ended, parts_of
from channelmap.layers.ids import new_id
from channelmap.layers.naming import layer_name
from channelmap.layers.packing import pack, unpack, unpack_all
from channelmap.layers.sqlite import heartbeats, leases, letters, queue
from channelmap.layers.sqlite.connections import Connections, Readers
from channelmap.layers.sqlite.notify import Listeners, Notifier
from channelmap.layers.sqlite.outbox import Outbox

_PREFIX = "sqlite:///"

#: Events that `peek` reads at once.
_PEEK_BATCH = 100


class SQLiteChannelLayer(ChannelLayer):
    """A layer in a file: events survive a restart, and an idle worker is woken at once.

    An event that was delivered under a lease does not expire. A file that is deleted while in use is created again;
    events sent within the following second may be lost with the old file.

    Args:
        url: ``sqlite:///relative.db`` (to the current working directory) or ``sqlite:////absolute.db``.
        options: arguments of `ChannelLayer`.

    Raises:
        LayerUnavailable: the URL names no file.

    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**options)
        self.url = url
        path = _path_in(url)
        private, group_expiry = self.limits_of("specific.!"), self.group_expiry
        self._connections = Connections(path, url, lambda db: queue.clean(db, private, group_expiry))
        #: Only for sends to durable channels: other operations may be repeated after a power failure.
        self._durable = Connections(path, url, lambda _: None, durable=True)
        self._outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()
        self._readers = Readers(path, url, self._connections)
        self._notifier = Notifier(path)
        self._listeners = Listeners(path, layer_name(url), partial(self._connections.run_now, queue.occupied))

    async def send(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        if delay is not None or at is not None:
            return (await self.send_many(channel, [event], delay=delay, at=at))[0]
        limits = self.limits_of(channel)
        self.require_valid_event(event)
        event_id, body = new_id(), pack(channel, event)
        if limits.durable:
            fits = await self._send_durably(queue.Sent(channel, [(event_id, body)], limits))
        else:
            fits = await self._connections.run(queue.append, channel, event_id, body, limits)
        if not fits:
            raise ChannelFull(self.url, channel, limits.capacity)
        self._notifier.notify(channel)
        return shown_id(event_id)

    def send_sync(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> str:
        wait, limits = seconds_until(delay, at), self.limits_of(channel)
        self.require_valid_event(event)
        connections = self._durable if limits.durable else self._connections
        event_id, body = new_id(), pack(channel, event)
        if wait is None:
            fits = connections.run_sync(queue.append, channel, event_id, body, limits)
        else:
            fits = connections.run_sync(queue.schedule, channel, [(event_id, body)], limits, wait)
        if not fits:
            raise ChannelFull(self.url, channel, limits.capacity)
        self._notifier.notify(channel)
        return shown_id(event_id)

    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str]:
        wait, limits = seconds_until(delay, at), self.limits_of(channel)
        for event in events:
            self.require_valid_event(event)
        packed = [(new_id(), pack(channel, event)) for event in events]
        if limits.durable:
            fits = await self._send_durably(queue.Sent(channel, packed, limits, wait))
        elif wait is not None:
            fits = await self._connections.run(queue.schedule, channel, packed, limits, wait)
        else:
            fits = await self._connections.run(queue.append_all, channel, packed, limits)
        if not fits:
            raise ChannelFull(self.url, channel, limits.capacity, len(packed))
        # A waiting worker must compute its next due time again.
        self._notifier.notify(channel)
        return [shown_id(event_id) for event_id, _ in packed]

    async def _send_durably(self, sent: queue.Sent) -> bool:
        loop = asyncio.get_running_loop()
        outbox = self._outboxes.get(loop)
        if outbox is None:
            outbox = self._outboxes[loop] = Outbox(self._durable)
        return await outbox.send(sent)

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._connections.run(queue.join, group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._connections.run(queue.leave, group, channel)

    async def group_send(self, group: str, event: Event) -> None:
        self.require_valid_group_name(group)
        self.require_valid_event(event)
        body = pack(group, event)
        reached, durable = await self._connections.run(
            queue.append_to_group, group, body, self.group_expiry, self.limits_of
        )
        sends = [
            self._send_durably(queue.Sent(channel, [(new_id(), body)], self.limits_of(channel))) for channel in durable
        ]
        fits = await asyncio.gather(*sends)
        for channel in (*reached, *itertools.compress(durable, fits)):
            self._notifier.notify(channel)

    async def flush(self) -> None:
        await self._connections.run(queue.clear)

    async def close(self) -> None:
        self._listeners.close(LayerUnavailable(self.url, "the layer was closed"))
        self._connections.close()
        self._durable.close()
        self._notifier.close()

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        limits = self.limits_of(channel)
        listener = self._listeners.current()
        while True:
            taken = await self._connections.run(leases.take, channel, limit, lease, limits)
            if taken.rows or not wait:
                return _deliveries(channel, taken)
            if listener is None or listener.lost:
                listener = self._listeners.open()
                continue
            if await listener.wait(channel, taken.due):
                taken = await self._connections.run(leases.take_notified, channel, limit, lease, limits)
                if taken.rows:
                    return _deliveries(channel, taken)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        if parts := parts_of(deliveries):
            await self._connections.run(leases.settle, parts)
            note_ended(deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        await self._connections.run(leases.give_back, deliveries)
        note_ended(deliveries)
        for channel in {delivery.channel for delivery in deliveries}:
            self._notifier.notify(channel)

    async def begin(self, delivery: Delivery) -> bool:
        self._require_leases([delivery])
        return await self._connections.run(leases.begin, delivery.ticket, delivery.number)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        self._require_leases([delivery])
        await self._connections.run(leases.retry, delivery.channel, delivery.ticket, delivery.number, delay)
        note_ended([delivery])
        # A waiting take must compute its next due time again.
        self._notifier.notify(delivery.channel)

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        self._require_leases(deliveries)
        await self._connections.run(leases.renew, parts_of(deliveries), lease)

    def _require_leases(self, deliveries: Sequence[Delivery]) -> None:
        if not all(isinstance(delivery.ticket, Batch) for delivery in deliveries):
            raise LayerError(self.url, "only an event that was taken with a lease can be redelivered")

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self.bury_many([(delivery, letter)])

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        kept = [
            (delivery, replace(letter, body=letter.body or delivery.body or pack(letter.channel, letter.event or {})))
            for delivery, letter in buried
        ]
        dropped = await self._connections.run(letters.keep, kept, self.limits_of)
        note_ended([delivery for delivery, _ in buried])
        self._warn_of_dropped_letters(dropped)

    async def pause(self, channel: str) -> None:
        self.require_valid_channel_name(channel)
        await self._connections.run(queue.pause, channel)

    async def resume(self, channel: str) -> None:
        self.require_valid_channel_name(channel)
        await self._connections.run(queue.resume, channel)
        self._notifier.notify(channel)

    async def is_paused(self, channel: str) -> bool:
        return await self._readers.run(queue.is_paused, channel)

    async def waiting(self, channel: str) -> int:
        return await self._readers.run(queue.count, channel)

    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        await self._connections.run(heartbeats.heartbeat, worker, totals, number, last=last)

    async def workers(self) -> list[WorkerInfo]:
        found = await self._readers.run(heartbeats.workers)
        return sorted(found, key=lambda worker: worker.started)

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        return await self._readers.run(leases.counts, [*channels])

    async def purge(self, channel: str) -> Purged:
        self._require_purgeable(channel)
        return await self._connections.run(queue.purge, channel)

    async def peek(self, channel: str) -> AsyncIterator[Delivery]:
        expiry = self.limits_of(channel).expiry
        if "!" in channel:
            return
        for read in (leases.read_leased, leases.read_scheduled, partial(queue.read, expiry=expiry)):
            shown = await self._readers.run(read, channel, -sys.maxsize, _PEEK_BATCH)
            while shown.rows:
                deliveries = _deliveries(channel, leases.Taken([*shown.rows], shown.attempts))
                for delivery, due in itertools.zip_longest(deliveries, shown.due):
                    delivery.due = due
                    yield delivery
                shown = await self._readers.run(read, channel, shown.after, _PEEK_BATCH)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        return await self._readers.run(letters.read_all, channel)

    async def replay(self, id: str) -> None:  # noqa: A002
        channel, fits = await self._connections.run(letters.replay, id, self.limits_of)
        if not fits:
            raise ChannelFull(self.url, channel, self.limits_of(channel).capacity)
        self._notifier.notify(channel)

    async def drop(self, id: str) -> None:  # noqa: A002
        await self._connections.run(letters.drop, id)


def _path_in(url: str) -> str:
    path = url.removeprefix(_PREFIX)
    name = os.path.basename(path)  # noqa: PTH119  (of a path that may end in a slash)
    if path == url or name in ("", ":memory:") or {"?", "#"} & set(path):
        reason = "names no file; expected sqlite:///relative.db or sqlite:////absolute.db"
        raise LayerUnavailable(url, reason)
    # SQLite puts its log beside the target of a symbolic link; the sockets go there as well.
    return os.path.realpath(path)


def _deliveries(channel: str, taken: leases.Taken) -> list[Delivery]:
    """Return deliveries of rows; the ticket is the lease or, without a lease, the send time in the file's time."""
    events, ahead = unpack_all([row[2] for row in taken.rows]), taken.ahead
    if events is None:
        read = [(row, *unpack(row[2])) for row in taken.rows]
        deliveries = [
            Delivery(channel, event, body, sent + ahead, 1, problem, sent, raw_id=event_id)
            for (sent, event_id, body), event, problem in read
        ]
    else:
        # The common path: a third of a worker's time per event is spent here.
        pairs = zip(taken.rows, events, strict=True)
        deliveries = [
            Delivery(channel, event, body, sent + ahead, 1, "", sent, False, False, 0, event_id)  # noqa: FBT003
            for (sent, event_id, body), event in pairs
        ]
    for delivery, attempt in zip(deliveries, taken.attempts, strict=False):
        delivery.attempt = attempt
    if taken.lease is not None:
        batch = Batch(taken.lease, len(deliveries))
        for number, delivery in enumerate(deliveries):
            delivery.ticket, delivery.number = batch, number
    if taken.crashes is not None:
        deliveries[0].suspect, deliveries[0].crashes = True, taken.crashes
    return deliveries
