"""Dead letters: a stream for each channel, for 30 days and up to the channel's limit."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

from channelmap.errors import ChannelFull, LayerError
from channelmap.layer import DeadLetter, Delivery
from channelmap.layers.batches import Batch, parts_of
from channelmap.layers.packing import pack, unpack
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.keys import letters_of, record_of, scheduled_of
from channelmap.layers.redis.lease_scripts import BURY
from channelmap.layers.redis.leases import arguments_of
from channelmap.layers.redis.queues import Queues
from channelmap.layers.redis.scripts import DROP, REPLAY
from channelmap.layers.redis.sender import limit_arguments
from channelmap.limits import Limits

KEPT_SECS = 30 * 86_400
_DEAD = "$dead"
#: The fields of a letter that are stored; the others follow from the stream and the body.
_WRITTEN = tuple(
    field.name for field in dataclasses.fields(DeadLetter) if field.name not in {"id", "event", "event_id"}
)
#: The reason of a letter that is encrypted with another key.
_UNREADABLE = "cannot be read: another key"
_NO_KEY = "holds an event that no key of the layer fits; add its key to symmetric_encryption_keys"
#: A letter's id: the channel, the number in the channel's stream, and the host's position if it is not the first.
_ID = re.compile(r"(?P<channel>[^:$]+):(?P<number>\d+-\d+)(?:@(?P<host>\d+))?")


class Letters:
    """The dead letters of a layer; each method raises as `ConnectionPool.run`.

    Args:
        queues: where the queues are.
        codec: packs events and encrypts letters.
        url: the layer's name in errors.
        limits_of: returns a channel's limits.

    """

    def __init__(self, queues: Queues, codec: Codec, url: str, limits_of: Callable[[str], Limits]) -> None:
        self._queues = queues
        self._codec = codec
        self._url = url
        self._limits_of = limits_of

    async def keep(self, pool: ConnectionPool, buried: Iterable[tuple[Delivery, DeadLetter]]) -> dict[str, int]:
        """Store letters, drop the oldest beyond the limit, and end the leases of their events.

        Returns:
            How many letters were dropped, by channel.

        """
        by_home: dict[tuple[str, Topology, str], list[tuple[Delivery, DeadLetter]]] = {}
        dropped: dict[str, int] = {}
        for delivery, letter in buried:
            leased = isinstance(delivery.ticket, Batch)
            topology, key = delivery.ticket.id[:2] if leased else self._queues.home(letter.channel)
            by_home.setdefault((letter.channel, topology, key), []).append((delivery, letter))
        for (channel, topology, key), some in by_home.items():
            limit = self._limits_of(channel).dead_letters
            letters: list[Any] = []
            for delivery, letter in some:
                ticket = delivery.ticket.id.ticket if isinstance(delivery.ticket, Batch) else ""
                letters += [self._document(delivery, letter), letter.event_id, letter.code, ticket, delivery.number]
            ended = [part for leased in parts_of(one[0] for one in some) for part in arguments_of(leased)]
            keys = [*letters_of(key), *record_of(key)]
            count = await pool.run(topology, BURY, keys, limit, KEPT_SECS, len(some), *letters, *ended)
            dropped[channel] = dropped.get(channel, 0) + int(count)
        return dropped

    def _document(self, delivery: Delivery, letter: DeadLetter) -> bytes:
        body = letter.body or delivery.body or self._codec.body(letter.channel, letter.event or {})
        fields = {name: getattr(letter, name) for name in _WRITTEN} | {"body": body, "kept": self._codec.score()}
        # A traceback may quote a lone surrogate, which UTF-8 cannot encode.
        for name in ("reason", "traceback"):
            fields[name] = fields[name].encode("utf-8", "backslashreplace").decode()
        document = pack(letter.channel, fields)
        # A worker with the wrong key must not encrypt the letter, or workers with the right key could not read it.
        return document if delivery.encrypted else self._codec.seal(document)

    async def read_all(self, pool: ConnectionPool, channel: str | None) -> list[DeadLetter]:
        """Return the letters of one channel, or of all, oldest first."""
        found: list[tuple[float, DeadLetter]] = []
        for topology in self._queues.topologies:
            if channel is not None:
                keys = [topology.key(self._queues.prefix, channel)]
            else:
                ends = await pool.keys(topology, topology.key_prefix(self._queues.prefix), _DEAD)
                keys = [key.decode().removesuffix(_DEAD) for key in ends]
            for key in keys:
                letters = await self._read(pool, topology, key)
                # The prefix of another layer may begin with this layer's prefix; its letters are left out.
                found += [one for one in letters if topology.key(self._queues.prefix, one[1].channel) == key]
        return [letter for _, letter in sorted(found, key=lambda one: one[0])]

    async def replay(self, pool: ConnectionPool, id_: str) -> None:
        """Move a letter's event to the end of its channel.

        Raises:
            KeyError: there is no letter with that id.
            ChannelFull: the channel is full; the letter stays.
            LayerError: the letter cannot be read; it stays.

        """
        topology, channel, number = self._split(id_)
        key, limits = topology.key(self._queues.prefix, channel), self._limits_of(channel)
        for _, letter in await self._read(pool, topology, key, number):
            if letter.reason == _UNREADABLE:
                raise LayerError(self._url, f"the dead letter {id_} {_UNREADABLE}")
            if self._codec.decrypted_body(letter.body) is None:
                raise LayerError(self._url, f"the dead letter {id_} {_NO_KEY}")
            member = self._codec.member(letter.body, bytes.fromhex(letter.event_id))
            stamped = (repr(self._codec.score()), member)
            done = await pool.run(
                topology,
                REPLAY,
                [key, *letters_of(key), scheduled_of(key)],
                *limit_arguments(limits), 1, *stamped, number,
            )  # fmt: skip
            if not done:
                raise ChannelFull(self._url, channel, limits.capacity)
            if done > 0:
                return
        raise KeyError(id_)

    async def drop(self, pool: ConnectionPool, id_: str) -> None:
        """Delete a letter; raise KeyError if there is no letter with that id."""
        topology, channel, number = self._split(id_)
        keys = letters_of(topology.key(self._queues.prefix, channel))
        if not await pool.run(topology, DROP, keys, number):
            raise KeyError(id_)

    def _split(self, id_: str) -> tuple[Topology, str, str]:
        found = _ID.fullmatch(id_)
        if found is None or int(found["host"] or 0) >= len(self._queues.topologies):
            raise KeyError(id_)
        return self._queues.topologies[int(found["host"] or 0)], found["channel"], found["number"]

    async def _read(
        self, pool: ConnectionPool, topology: Topology, key: str, number: str = ""
    ) -> list[tuple[float, DeadLetter]]:
        """Return the letters of a channel, or the one with that number, each with the time when it was stored."""
        entries = await pool.call(topology, key, "XRANGE", key + _DEAD, number or "-", number or "+")
        host = self._queues.topologies.index(topology)
        channel = key.removeprefix(topology.hash_tag(key) or self._queues.prefix)
        letters = [
            self._letter(channel, fields[1], f"{id_.decode()}{f'@{host}' if host else ''}", *fields[3:4])
            for id_, fields in entries
        ]
        # An id without a channel's name belongs to another layer whose prefix begins with this layer's.
        return [one for one in letters if _ID.fullmatch(one[1].id)]

    def _letter(self, channel: str, document: bytes, number: str, event_id: bytes = b"") -> tuple[float, DeadLetter]:
        # Version 0.1 stored no event id.
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
