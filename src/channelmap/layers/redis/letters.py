"""Dead letters: a stream for each channel, kept for 30 days and no more of them than the channel's limit."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from channelmap.errors import ChannelFull, LayerError
from channelmap.layer import DeadLetter, Delivery
from channelmap.layers.batches import Batch, parts_of
from channelmap.layers.packing import pack, unpack
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.keys import record_of, scheduled_of
from channelmap.layers.redis.lease_scripts import BURY
from channelmap.layers.redis.leases import arguments_of
from channelmap.layers.redis.links import Links
from channelmap.layers.redis.outbox import terms_of
from channelmap.layers.redis.places import Place
from channelmap.layers.redis.ring import Ring
from channelmap.layers.redis.scripts import DROP, REPLAY
from channelmap.terms import Limits

KEPT_SECS = 30 * 86_400
_DEAD = "$dead"
#: What of a letter is written: the rest is told by the stream, and by the body.
_WRITTEN = tuple(
    field.name for field in dataclasses.fields(DeadLetter) if field.name not in {"id", "event", "event_id"}
)
#: The reason that stands for a letter which somebody has encrypted with another key.
_UNREADABLE = "cannot be read: another key"
_NO_KEY = "holds an event that no key of the layer fits; add its key to symmetric_encryption_keys"
#: A channel, a letter's number in the channel's stream, and which host has it, when it is not the first.
_ID = re.compile(r"(?P<channel>[^:$]+):(?P<number>\d+-\d+)(?:@(?P<host>\d+))?")


class Letters:
    """The dead letters of a layer; each method raises as `Links.run`.

    Args:
        ring: where everything is.
        codec: how events are written, and letters encrypted.
        url: the layer's name in errors.
        limits_of: how much of a channel is kept.

    """

    def __init__(self, ring: Ring, codec: Codec, url: str, limits_of: Callable[[str], Limits]) -> None:
        self._ring = ring
        self._codec = codec
        self._url = url
        self._limits_of = limits_of

    async def keep(self, links: Links, buried: Iterable[tuple[Delivery, DeadLetter]]) -> dict[str, int]:
        """Keep letters, drop the oldest beyond the limit, and end the leases of their events.

        Returns:
            How many were dropped, by channel.

        """
        by_home: dict[tuple[str, Place, str], list[tuple[Delivery, DeadLetter]]] = {}
        dropped: dict[str, int] = {}
        for delivery, letter in buried:
            leased = isinstance(delivery.ticket, Batch)
            place, key = delivery.ticket.id[:2] if leased else self._ring.home(letter.channel)
            by_home.setdefault((letter.channel, place, key), []).append((delivery, letter))
        for (channel, place, key), some in by_home.items():
            limit = self._limits_of(channel).dead_letters
            letters: list[Any] = []
            for delivery, letter in some:
                ticket = delivery.ticket.id.ticket if isinstance(delivery.ticket, Batch) else ""
                letters += [self._document(delivery, letter), letter.event_id, ticket, delivery.number]
            ended = [part for leased in parts_of(one[0] for one in some) for part in arguments_of(leased)]
            keys = [key + _DEAD, *record_of(key)]
            count = await links.run(place, BURY, keys, limit, KEPT_SECS, len(some), *letters, *ended)
            dropped[channel] = dropped.get(channel, 0) + int(count)
        return dropped

    def _document(self, delivery: Delivery, letter: DeadLetter) -> bytes:
        body = letter.body or delivery.body or self._codec.body(letter.channel, letter.event or {})
        fields = {name: getattr(letter, name) for name in _WRITTEN} | {"body": body, "kept": self._codec.score()}
        # A traceback may quote a lone surrogate, which is no UTF-8.
        for name in ("reason", "traceback"):
            fields[name] = fields[name].encode("utf-8", "backslashreplace").decode()
        document = pack(letter.channel, fields)
        # A worker with the wrong key must not lock the letter away from those who have the right one.
        return document if delivery.encrypted else self._codec.seal(document)

    async def read_all(self, links: Links, channel: str | None) -> list[DeadLetter]:
        """List the letters of one channel, or of all, oldest first."""
        found: list[tuple[float, DeadLetter]] = []
        for place in self._ring.places:
            if channel is not None:
                keys = [place.key(self._ring.prefix, channel)]
            else:
                ends = await links.keys(place, place.beginnings(self._ring.prefix)[0], _DEAD)
                keys = [key.decode().removesuffix(_DEAD) for key in ends]
            for key in keys:
                letters = await self._read(links, place, key)
                # Another layer may have a prefix that begins with ours: what it keeps is not ours.
                found += [one for one in letters if place.key(self._ring.prefix, one[1].channel) == key]
        return [letter for _, letter in sorted(found, key=lambda one: one[0])]

    async def replay(self, links: Links, id_: str) -> None:
        """Move a letter's event to the end of its channel.

        Raises:
            KeyError: there is no letter of that id.
            ChannelFull: the channel is full; the letter stays.
            LayerError: the letter cannot be read; it stays.

        """
        place, channel, number = self._split(id_)
        key, limits = place.key(self._ring.prefix, channel), self._limits_of(channel)
        for _, letter in await self._read(links, place, key, number):
            if letter.reason == _UNREADABLE:
                raise LayerError(self._url, f"the dead letter {id_} {_UNREADABLE}")
            if self._codec.decrypted_body(letter.body) is None:
                raise LayerError(self._url, f"the dead letter {id_} {_NO_KEY}")
            member = self._codec.member(letter.body, bytes.fromhex(letter.event_id))
            stamped = (repr(self._codec.score()), member)
            done = await links.run(
                place, REPLAY, [key, key + _DEAD, scheduled_of(key)], *terms_of(limits), 1, *stamped, number
            )
            if not done:
                raise ChannelFull(self._url, channel, limits.capacity)
            if done > 0:
                return
        raise KeyError(id_)

    async def drop(self, links: Links, id_: str) -> None:
        """Delete a letter; KeyError when there is none of that id."""
        place, channel, number = self._split(id_)
        key = place.key(self._ring.prefix, channel) + _DEAD
        if not await links.run(place, DROP, [key], number):
            raise KeyError(id_)

    def _split(self, id_: str) -> tuple[Place, str, str]:
        found = _ID.fullmatch(id_)
        if found is None or int(found["host"] or 0) >= len(self._ring.places):
            raise KeyError(id_)
        return self._ring.places[int(found["host"] or 0)], found["channel"], found["number"]

    async def _read(self, links: Links, place: Place, key: str, number: str = "") -> list[tuple[float, DeadLetter]]:
        """Read the letters of a channel, or the one of that number, each with when it was kept."""
        entries = await links.call(place, key, "XRANGE", key + _DEAD, number or "-", number or "+")
        host = self._ring.places.index(place)
        channel = key.removeprefix(place.together(key) or self._ring.prefix)
        letters = [
            self._letter(channel, fields[1], f"{id_.decode()}{f'@{host}' if host else ''}", *fields[3:])
            for id_, fields in entries
        ]
        # Without a channel's name in it, it is another layer's whose prefix begins with ours.
        return [one for one in letters if _ID.fullmatch(one[1].id)]

    def _letter(self, channel: str, document: bytes, number: str, event_id: bytes = b"") -> tuple[float, DeadLetter]:
        # Version 0.1 writes no id.
        fields: dict[str, Any] = unpack(self._codec.unseal(document))[0] or {}
        if "kept" not in fields:
            died = int(number.partition("-")[0]) / 1_000
            letter = DeadLetter(channel, "unreadable", _UNREADABLE, None, document, died=died, id=f"{channel}:{number}")
            return died, letter
        kept: float = fields.pop("kept")
        body = self._codec.decrypted_body(fields["body"]) or fields["body"]
        event = self._codec.read(body)[0]
        fields |= {"violations": tuple(fields["violations"]), "event": event, "body": body}
        return kept, DeadLetter(**fields, id=f"{fields['channel']}:{number}", event_id=event_id.decode())
