"""Taking under a lease, and what becomes of it."""

import logging
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from channelmap.errors import LayerError, LayerUnavailable, quoted
from channelmap.layer import Delivery
from channelmap.layers.batches import Batch, Part, parts_of
from channelmap.layers.redis.keys import keys_of, record_of, scheduled_of, watched_keys
from channelmap.layers.redis.lease_scripts import BEGIN, RENEW, RETRY, RETURN, SETTLE, TAKE
from channelmap.layers.redis.links import Links, Rows
from channelmap.layers.redis.loops import InLoop, Spots
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.scripts import Script

log = logging.getLogger("channelmap.layers.redis")

_REPAIRED = (
    "%s: repaired %d faults in the leases of channel %s: entries of its keys …$until and …$batches were missing or "
    "unreadable, or the keys were about to expire; the events may be delivered again. Did somebody change these keys, "
    "or does the server evict keys (maxmemory-policy)?"
)
_LOST = (
    "%s: the events of %d leases of channel %s are lost: somebody deleted entries of its key …$batches, or the server "
    "evicts keys (maxmemory-policy)"
)


class Lease(NamedTuple):
    """What the id of a `Batch` is here: where its keys are, and the name of the lease."""

    place: Place
    key: str
    ticket: str


class Taken(NamedTuple):
    """Events that were taken together, oldest first.

    Attributes:
        rows: member and time of sending of each.
        attempts: which attempt each is; empty when each is at its first.
        batch: their lease; None when they were taken for good.
        crashes: those of a suspect; None when they are none.
        due: when they are due, if they are scheduled and only looked at.

    """

    rows: Rows
    attempts: Sequence[int] = ()
    batch: Batch | None = None
    crashes: int | None = None
    due: float | None = None


class Wish(NamedTuple):
    """What is to be taken: up to `limit` events not older than `expiry` seconds, for `lease` seconds or for good."""

    channel: str
    limit: int
    expiry: str
    lease: float | None
    ttl: int | str


async def take(here: InLoop, spots: Spots, wish: Wish, *, wait: bool) -> Taken:
    """Take events from the front, those first that are delivered again.

    Raises:
        LayerUnavailable: a server is away, or refuses.

    """
    changes = None
    while True:
        taken, due = await _take_somewhere(here, spots, wish)
        if taken.rows or not wait:
            return taken
        if changes is None:
            # And then look again: something may have come before we watched.
            changes = [await here.watch(place, watched_keys(key)) for place, key in spots]
            continue
        if await here.changed(spots, changes, due):
            for place, key in spots:
                here.unwatch(place, watched_keys(key))
        changes = None


async def _take_somewhere(here: InLoop, spots: Spots, wish: Wish) -> tuple[Taken, float | None]:
    """Take from the first place that has something; and in how many seconds the next lease ends, if there is one."""
    dues, problem = [], None
    for place, key in here.by_turns(spots):
        try:
            with here.asking(place, shun=len(spots) > 1):
                taken, due = await _take_at_once(here, place, key, wish)
        except LayerUnavailable as error:
            # One that is lost must not hide the others.
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
            del problem  # as in `Links`: no cycle
    return Taken([]), min(dues, default=None)


async def _take_at_once(here: InLoop, place: Place, key: str, wish: Wish) -> tuple[Taken, float | None]:
    ticket = uuid.uuid4().hex
    lease = "" if wish.lease is None else repr(float(wish.lease))

    def read(reply: Any) -> Taken:
        events, attempts, crashes, _, repaired, lost = reply
        if repaired:
            log.warning(_REPAIRED, place.url, repaired, quoted(wish.channel, 200))
        if lost:
            log.error(_LOST, place.url, lost, quoted(wish.channel, 200))
        rows = [*zip(events[::2], map(float, events[1::2]), strict=True)]
        batch = Batch(Lease(place, key, ticket), len(rows)) if lease else None
        return Taken(rows, attempts or (), batch, None if crashes < 0 else crashes)

    async def back(reply: Any) -> None:
        taken = read(reply)
        if taken.batch is not None:
            await _return(here.links, taken.batch, range(taken.batch.count), wish.ttl)
        elif taken.rows:
            await here.links.put_back(place, key, taken.rows, wish.ttl)

    taking = here.links.run(place, TAKE, keys_of(key), wish.expiry, wish.limit, lease, ticket, wish.ttl)
    reply = await here.or_back(taking, back)
    return read(reply), float(reply[3]) if reply[3] else None


async def settle(links: Links, deliveries: Sequence[Delivery]) -> None:
    """Forget leased events: they were handled. As `take` raises."""
    for part in parts_of(deliveries):
        await _change(links, SETTLE, part)


async def renew(links: Links, url: str, deliveries: Sequence[Delivery], delay: float) -> None:
    """Let leases run out `delay` seconds from now.

    Raises:
        LayerError: something was taken for good.
        LayerUnavailable: a server is away, or refuses.

    """
    _require_leases(url, deliveries)
    for part in parts_of(deliveries):
        await _change(links, RENEW, part, repr(float(delay)))


async def begin(links: Links, url: str, delivery: Delivery) -> bool:
    """Note that the handler of a leased suspect starts; False when its lease is gone. As `renew` raises."""
    _require_leases(url, [delivery])
    lease: Lease = delivery.ticket.id
    return bool(await links.run(lease.place, BEGIN, record_of(lease.key), lease.ticket, delivery.number))


async def retry(links: Links, url: str, delivery: Delivery, delay: float) -> None:
    """End a lease; its event is delivered again `delay` seconds from now. As `renew` raises."""
    _require_leases(url, [delivery])
    lease: Lease = delivery.ticket.id
    keys = [*record_of(lease.key), scheduled_of(lease.key)]
    await links.run(lease.place, RETRY, keys, repr(float(delay)), lease.ticket, delivery.number)


def _require_leases(url: str, deliveries: Sequence[Delivery]) -> None:
    if not all(isinstance(delivery.ticket, Batch) for delivery in deliveries):
        raise LayerError(url, "only what was taken with a lease can come again by itself")


async def give_back(links: Links, deliveries: Sequence[Delivery], ttl: int | str) -> None:
    """Put leased events to the front again, while they are still leased. As `take` raises."""
    for batch, numbers, _ in parts_of(deliveries):
        await _return(links, batch, numbers, ttl)


async def _return(links: Links, batch: Batch, numbers: Sequence[int], ttl: int | str) -> None:
    place, key, ticket = batch.id
    await links.run(place, RETURN, [key, *record_of(key), scheduled_of(key)], ttl, ticket, len(numbers), *numbers)


def arguments_of(part: Part) -> list[Any]:
    """Name a part of a lease as the scripts read it."""
    batch, numbers, is_whole = part
    return [batch.id.ticket, -batch.count] if is_whole else [batch.id.ticket, len(numbers), *numbers]


async def _change(links: Links, script: Script, part: Part, *arguments: Any) -> None:
    lease: Lease = part.batch.id
    await links.run(lease.place, script, record_of(lease.key), *arguments, *arguments_of(part))
