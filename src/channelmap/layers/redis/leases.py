"""Take events with a lease; renew, settle, retry and return them."""

import logging
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from channelmap.errors import LayerError, LayerUnavailable, quoted
from channelmap.layer import Delivery
from channelmap.layers.batches import Batch, Part, parts_of
from channelmap.layers.redis.client import ConnectionPool, Script, Topology
from channelmap.layers.redis.keys import keys_of, record_of, scheduled_of, watched_keys
from channelmap.layers.redis.lease_scripts import BEGIN, RENEW, RETRY, RETURN, SETTLE, TAKE
from channelmap.layers.redis.loop_state import LoopState
from channelmap.layers.redis.queues import Shards
from channelmap.layers.redis.rows import Rows, put_back

log = logging.getLogger("channelmap.layers.redis")

_REPAIRED = (
    "%s: repaired %d faults in the leases of channel %s: entries of its keys …$until and …$batches were missing or "
    "unreadable, or the keys were about to expire; the events may be delivered again. Did another client change these "
    "keys, or does the server evict keys (maxmemory-policy)?"
)
_LOST = (
    "%s: the events of %d leases of channel %s are lost: another client deleted entries of its key …$batches, or the "
    "server evicts keys (maxmemory-policy)"
)


class Lease(NamedTuple):
    """The id of a `Batch` in Redis: where its keys are, and the name of the lease."""

    topology: Topology
    key: str
    ticket: str


class Taken(NamedTuple):
    """Events that were taken or peeked at together, oldest first.

    Attributes:
        rows: member and time of sending of each.
        attempts: the attempt of each; empty if each is at its first.
        batch: their lease; `None` if they were taken for good.
        crashes: how often the handler of a suspect crashed; `None` if the events are not suspects.
        due: when a peeked event is due, if it is scheduled.

    """

    rows: Rows
    attempts: Sequence[int] = ()
    batch: Batch | None = None
    crashes: int | None = None
    due: float | None = None


class TakeRequest(NamedTuple):
    """The arguments of a take.

    Attributes:
        channel: its name.
        limit: the maximum number of events.
        expiry: events that are older than so many seconds are dropped; '' for none.
        lease: seconds of the lease; `None` to take for good.
        ttl: seconds until the queue's key expires; '' for never.

    """

    channel: str
    limit: int
    expiry: str
    lease: float | None
    ttl: int | str


async def take(state: LoopState, shards: Shards, request: TakeRequest, *, wait: bool) -> Taken:
    """Take events from the front, redeliveries first.

    Raises:
        LayerUnavailable: a server cannot be reached, or refuses.

    """
    changes = None
    while True:
        taken, due = await _take_somewhere(state, shards, request)
        if taken.rows or not wait:
            return taken
        if changes is None:
            # Then take again: an event may have come before the watch began.
            changes = [await state.watch(topology, watched_keys(key)) for topology, key in shards]
            continue
        if await state.changed(shards, changes, due):
            for topology, key in shards:
                state.unwatch(topology, watched_keys(key))
        changes = None


async def _take_somewhere(state: LoopState, shards: Shards, request: TakeRequest) -> tuple[Taken, float | None]:
    """Take from the first shard with events; return also the seconds until the next lease ends or event is due."""
    dues, problem = [], None
    for topology, key in state.by_turns(shards):
        try:
            with state.asking(topology, skip=len(shards) > 1):
                taken, due = await _take_at_once(state, topology, key, request)
        except LayerUnavailable as error:
            # A lost host must not hide the others.
            problem = error
            continue
        if taken.rows:
            return taken, None
        if due is not None:
            dues.append(max(0.0, due))
    if problem:
        try:
            raise problem
        finally:
            del problem  # the traceback refers to this frame: avoid a cycle
    return Taken([]), min(dues, default=None)


async def _take_at_once(
    state: LoopState, topology: Topology, key: str, request: TakeRequest
) -> tuple[Taken, float | None]:
    ticket = uuid.uuid4().hex
    lease = "" if request.lease is None else repr(float(request.lease))

    def read(reply: Any) -> Taken:
        events, attempts, crashes, _, repaired, lost = reply
        if repaired:
            log.warning(_REPAIRED, topology.url, repaired, quoted(request.channel, 200))
        if lost:
            log.error(_LOST, topology.url, lost, quoted(request.channel, 200))
        rows = [*zip(events[::2], map(float, events[1::2]), strict=True)]
        batch = Batch(Lease(topology, key, ticket), len(rows)) if lease else None
        return Taken(rows, attempts or (), batch, None if crashes < 0 else crashes)

    async def undo(reply: Any) -> None:
        taken = read(reply)
        if taken.batch is not None:
            await _return(state.pool, taken.batch, range(taken.batch.count), request.ttl)
        elif taken.rows:
            await put_back(state.pool, topology, key, taken.rows, request.ttl)

    taking = state.pool.run(topology, TAKE, keys_of(key), request.expiry, request.limit, lease, ticket, request.ttl)
    reply = await state.or_undo(taking, undo)
    return read(reply), float(reply[3]) if reply[3] else None


async def settle(pool: ConnectionPool, deliveries: Sequence[Delivery]) -> None:
    """Settle leased events. Raises as `take`."""
    for part in parts_of(deliveries):
        await _change(pool, SETTLE, part)


async def renew(pool: ConnectionPool, url: str, deliveries: Sequence[Delivery], delay: float) -> None:
    """Let leases end `delay` seconds from now.

    Raises:
        LayerError: an event was taken without a lease.
        LayerUnavailable: a server cannot be reached, or refuses.

    """
    _require_leases(url, deliveries)
    for part in parts_of(deliveries):
        await _change(pool, RENEW, part, repr(float(delay)))


async def begin(pool: ConnectionPool, url: str, delivery: Delivery) -> bool:
    """Record that the handler of a leased suspect starts; return False if its lease is gone. Raises as `renew`."""
    _require_leases(url, [delivery])
    lease: Lease = delivery.ticket.id
    return bool(await pool.run(lease.topology, BEGIN, record_of(lease.key), lease.ticket, delivery.number))


async def retry(pool: ConnectionPool, url: str, delivery: Delivery, delay: float) -> None:
    """End a lease and schedule the redelivery `delay` seconds from now. Raises as `renew`."""
    _require_leases(url, [delivery])
    lease: Lease = delivery.ticket.id
    keys = [*record_of(lease.key), scheduled_of(lease.key)]
    await pool.run(lease.topology, RETRY, keys, repr(float(delay)), lease.ticket, delivery.number)


def _require_leases(url: str, deliveries: Sequence[Delivery]) -> None:
    if not all(isinstance(delivery.ticket, Batch) for delivery in deliveries):
        raise LayerError(url, "only an event that was taken with a lease can be redelivered")


async def give_back(pool: ConnectionPool, deliveries: Sequence[Delivery], ttl: int | str) -> None:
    """Return the events that are still leased to the front. Raises as `take`."""
    for batch, numbers, _ in parts_of(deliveries):
        await _return(pool, batch, numbers, ttl)


async def _return(pool: ConnectionPool, batch: Batch, numbers: Sequence[int], ttl: int | str) -> None:
    topology, key, ticket = batch.id
    await pool.run(topology, RETURN, [key, *record_of(key), scheduled_of(key)], ttl, ticket, len(numbers), *numbers)


def arguments_of(part: Part) -> list[Any]:
    """Return a part of a lease as the scripts read it."""
    batch, numbers, is_whole = part
    return [batch.id.ticket, -batch.count] if is_whole else [batch.id.ticket, len(numbers), *numbers]


async def _change(pool: ConnectionPool, script: Script, part: Part, *arguments: Any) -> None:
    lease: Lease = part.batch.id
    await pool.run(lease.topology, script, record_of(lease.key), *arguments, *arguments_of(part))
