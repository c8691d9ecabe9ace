"""Taking under a lease, and what becomes of it."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from channelmap.errors import LayerError, LayerUnavailable, quoted
from channelmap.layer import Delivery
from channelmap.layers.redis.links import Links
from channelmap.layers.redis.loops import InLoop, Spots
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.scripts import BEGIN, POSTPONE, RELEASE, RETRY, SETTLE, TAKE, Script

log = logging.getLogger("channelmap.layers.redis")

#: The keys that a script changes, of those that `keys_of` names: all of them, or those of the leases.
_ALL, _LEASES = slice(None), slice(1, None)

_REPAIRED = (
    "%s: repaired %d faults in the leases of channel %s: entries of its keys …$leases and …$leased were missing or "
    "unreadable, or the keys were about to expire; the events may be delivered again. Did somebody change these keys, "
    "or does the server evict keys (maxmemory-policy)?"
)


class Lease(NamedTuple):
    """The ticket of a leased delivery: where its event lies, which one it is, and whose lease it is."""

    place: Place
    key: str
    member: bytes
    ticket: str


class Taken(NamedTuple):
    """An event, when it was sent, which attempt this is, its lease, and the crashes of a suspect.

    `lease` is None when it was taken for good, `crashes` is None when it is not a suspect.
    """

    member: bytes
    sent: float
    attempt: int
    lease: Lease | None
    crashes: int | None = None


class Wish(NamedTuple):
    """What is to be taken: up to `limit` events not older than `expiry` seconds, for `lease` seconds or for good."""

    channel: str
    limit: int
    expiry: str
    lease: float | None
    ttl: int | str


async def take(here: InLoop, spots: Spots, wish: Wish, *, wait: bool) -> list[Taken]:
    """Take events from the front, those first whose lease has run out.

    Raises:
        LayerUnavailable: a server is away, or refuses.

    """
    changes = None
    while True:
        taken, due = await _take_somewhere(here, spots, wish)
        if taken or not wait:
            return taken
        if changes is None:
            # And then look again: something may have come before we watched.
            changes = [await here.watch(place, keys_of(key)[:2]) for place, key in spots]
            continue
        if await here.changed(spots, changes, due):
            for place, key in spots:
                here.unwatch(place, keys_of(key)[:2])
        changes = None


async def _take_somewhere(here: InLoop, spots: Spots, wish: Wish) -> tuple[list[Taken], float | None]:
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
        if taken:
            return taken, None
        if due is not None:
            dues.append(max(0.0, due))
    if problem:
        raise problem
    return [], min(dues, default=None)


async def _take_at_once(here: InLoop, place: Place, key: str, wish: Wish) -> tuple[list[Taken], float | None]:
    ticket = uuid.uuid4().hex
    lease = "" if wish.lease is None else repr(float(wish.lease))

    def read(reply: Any) -> list[Taken]:
        if reply[2]:
            log.warning(_REPAIRED, place.url, reply[2], quoted(wish.channel, 200))
        return [
            Taken(member, float(sent), attempt, Lease(place, key, member, ticket) if lease else None, *crashes)
            for member, sent, attempt, *crashes in reply[0]
        ]

    async def back(reply: Any) -> None:
        taken = read(reply)
        if lease:
            await _change(here.links, RELEASE, keys_of(key), [one.lease for one in taken if one.lease], wish.ttl)
        elif taken:
            await here.links.put_back(place, key, [(one.member, one.sent) for one in taken], wish.ttl)

    taking = here.links.run(place, TAKE, keys_of(key), wish.expiry, wish.limit, lease, ticket)
    reply = await here.or_back(taking, back)
    return read(reply), float(reply[1]) if reply[1] else None


async def settle(links: Links, deliveries: Sequence[Delivery]) -> None:
    """Forget leased events: they were handled. As `take` raises."""
    await _each(links, SETTLE, _LEASES, deliveries)


async def postpone(links: Links, url: str, deliveries: Sequence[Delivery], delay: float) -> None:
    """Let leases run out `delay` seconds from now.

    Raises:
        LayerError: something was taken for good.
        LayerUnavailable: a server is away, or refuses.

    """
    _require_leases(url, deliveries)
    await _each(links, POSTPONE, _LEASES, deliveries, repr(float(delay)))


async def begin(links: Links, url: str, delivery: Delivery) -> bool:
    """Note that the handler of a leased suspect starts; False when its lease is gone. As `postpone` raises."""
    _require_leases(url, [delivery])
    lease: Lease = delivery.ticket
    return bool(await links.run(lease.place, BEGIN, keys_of(lease.key)[2:], lease.member, lease.ticket))


async def retry(links: Links, url: str, delivery: Delivery, delay: float) -> None:
    """End a lease; its event comes again `delay` seconds from now. As `postpone` raises."""
    _require_leases(url, [delivery])
    await _each(links, RETRY, _LEASES, [delivery], repr(float(delay)))


def _require_leases(url: str, deliveries: Sequence[Delivery]) -> None:
    if any(delivery.ticket is None for delivery in deliveries):
        raise LayerError(url, "only what was taken with a lease can come again by itself")


async def release(links: Links, deliveries: Sequence[Delivery], ttl: int | str) -> None:
    """Put leased events to the front again, while they are still leased. As `take` raises."""
    await _each(links, RELEASE, _ALL, deliveries, ttl)


def keys_of(key: str) -> list[str]:
    """Name the keys that `TAKE` needs."""
    return [key, f"{key}$leases", f"{key}$leased"]


async def _each(links: Links, script: Script, keys: slice, deliveries: Sequence[Delivery], *arguments: Any) -> None:
    by_spot: dict[tuple[Place, str], list[Lease]] = defaultdict(list)
    for delivery in deliveries:
        if delivery.ticket is not None:
            by_spot[delivery.ticket.place, delivery.ticket.key].append(delivery.ticket)
    for (_, key), leases in by_spot.items():
        await _change(links, script, keys_of(key)[keys], leases, *arguments)


async def _change(links: Links, script: Script, keys: list[str], leases: Sequence[Lease], *arguments: Any) -> None:
    if leases:
        pairs = [part for lease in leases for part in (lease.member, lease.ticket)]
        await links.run(leases[0].place, script, keys, *arguments, *pairs)
