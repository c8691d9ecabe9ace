"""Members of a queue, byte for byte as channels_redis 4.3 writes them.

A member has random bytes, which make it unique, and the event: packed, and encrypted if the layer has keys.
"""

import base64
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from channelmap.asgi import Event
from channelmap.errors import EventRejected, Violation
from channelmap.layers.packing import pack, unpack, unpack_all

#: The key under which an event carries the name of its private channel, or the names of a group's members.
ADDRESS = "__asgi_channel__"
#: The minimum number of random bytes that are used as an id; with fewer, the id is so many bytes of a digest.
_SHORTEST_ID, _DIGEST = 8, 12
#: The prefix of encrypted bodies: version and time of a Fernet token, in base64. No packed event begins with it.
_TOKEN = b"gAAAAA"


class Codec:
    """Turn events into members of a queue, and back.

    Args:
        serializer: `msgpack` or `json`.
        prefix_length: the number of random bytes at the beginning of a member.
        keys: encryption keys: the first encrypts, any decrypts; without keys nothing is encrypted.

    Raises:
        ValueError: there is no such serializer, or the encryption cannot be set up.

    """

    def __init__(self, serializer: str, prefix_length: int, keys: Sequence[str | bytes] | None) -> None:
        if serializer not in ("msgpack", "json"):
            raise ValueError(f"unknown serializer_format '{serializer}'; expected msgpack or json")
        self.body = _pack_json if serializer == "json" else pack
        #: As `read`, and keeps the names of the addressed channels in `ADDRESS`.
        self.read_addressed = _unpack_json if serializer == "json" else unpack
        self._prefix_length = max(0, prefix_length)
        self._fernet: Any = _fernet(keys) if keys else None

        self._lock = threading.Lock()
        self._last_score = 0.0

    def score(self) -> float:
        """Return a time later than at any earlier call: equal scores of one sender would lose the order."""
        with self._lock:
            self._last_score = max(time.time(), math.nextafter(self._last_score, math.inf))
            return self._last_score

    def stamped(self, bodies: Sequence[bytes]) -> list[Any]:
        """Return score and member of each body, as ZADD takes them; scores ascend."""
        if len(bodies) == 1:
            return [repr(self.score()), self.member(bodies[0])]
        # One call for all random bytes: a system call for each event costs more than everything else.
        length = self._prefix_length
        noise = os.urandom(length * len(bodies))
        starts = range(0, length * len(bodies), length) if length else [0] * len(bodies)
        return [
            part
            for start, body in zip(starts, bodies, strict=True)
            for part in (repr(self.score()), noise[start : start + length] + self.seal(body))
        ]

    def read(self, body: bytes) -> tuple[Event | None, str]:
        """Return the event and '', or `None` and the problem with the body."""
        event, problem = self.read_addressed(body)
        if event is not None:
            event.pop(ADDRESS, None)
        return event, problem

    def seal(self, body: bytes) -> bytes:
        """Encrypt a body, if the layer has keys."""
        return body if self._fernet is None else bytes(self._fernet.encrypt(body))

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt stored bytes; return bytes that no key decrypts unchanged."""
        return sealed if self._fernet is None else self._decrypted(sealed) or sealed

    def member(self, body: bytes, event_id: bytes = b"") -> bytes:
        """Return the member with a body; a body that is still encrypted is not encrypted again.

        Args:
            body: the packed event.
            event_id: the event's id, as `id_of` returns it; empty for a new id.

        """
        prefix = event_id if len(event_id) == self._prefix_length >= _SHORTEST_ID else os.urandom(self._prefix_length)
        return prefix + (body if body.startswith(_TOKEN) else self.seal(body))

    def id_of(self, member: bytes) -> bytes:
        """Return the id of a member's event: its random bytes, or a digest if they are too few."""
        if self._prefix_length >= _SHORTEST_ID:
            return member[: self._prefix_length]
        return hashlib.sha256(member).digest()[:_DIGEST]

    def ids_of(self, stamped: Sequence[Any]) -> list[str]:
        """Return the ids, as senders see them, of events that `stamped` returned."""
        return [self.id_of(member).hex() for member in stamped[1::2]]

    def open(self, member: bytes) -> tuple[bytes, Event | None, str, bool]:
        """Return a member's body, the event and '', or the body, `None` and the problem.

        The last value is whether the body is still encrypted because no key decrypts it.
        """
        body = member[self._prefix_length :] or member
        if self._fernet is not None:
            opened = self._decrypted(body)
            if opened is None:
                if body.startswith(_TOKEN):
                    return body, None, "the bytes are encrypted with another key", True
                return body, None, "the bytes are not encrypted, and this layer has keys", False
            body = opened
        event, problem = self.read(body)
        if event is None and self._fernet is None and body.startswith(_TOKEN):
            return body, None, "the bytes are encrypted, and this layer has no key", True
        return body, event, problem, False

    def open_all(self, members: Sequence[bytes]) -> list[tuple[bytes, Event, bytes]] | None:
        """Return id, event and body of each member; `None` if `open` must read them one by one."""
        length = self._prefix_length
        if self._fernet is not None or self.body is not pack or length < _SHORTEST_ID:
            return None
        bodies = [member[length:] for member in members]
        events = unpack_all(bodies)
        if events is None:
            return None
        for event in events:
            event.pop(ADDRESS, None)
        return [(member[:length], event, body) for member, event, body in zip(members, events, bodies, strict=True)]

    def decrypted_body(self, body: bytes) -> bytes | None:
        """Decrypt a stored body, if it is encrypted; return `None` if no key decrypts it."""
        if not body.startswith(_TOKEN):
            return body
        return None if self._fernet is None else self._decrypted(body)

    def _decrypted(self, sealed: bytes) -> bytes | None:
        from cryptography.fernet import InvalidToken

        try:
            return bytes(self._fernet.decrypt(sealed))
        except InvalidToken:
            return None


def _fernet(keys: Sequence[str | bytes]) -> Any:
    if isinstance(keys, str | bytes):
        raise ValueError("symmetric_encryption_keys must be a list of possible keys")  # noqa: TRY004  (Channels')
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        reason = "symmetric_encryption_keys need the package cryptography: pip install 'channelmap[encryption]'"
        raise ValueError(reason) from None
    as_bytes = [key.encode() if isinstance(key, str) else key for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key).digest())) for key in as_bytes])


def _pack_json(channel: str, event: Event) -> bytes:
    try:
        return json.dumps(event).encode()
    except (TypeError, ValueError, RecursionError) as error:
        complaint = "is nested too deeply"
        if isinstance(error, TypeError):
            complaint = "holds a value of a type that JSON does not have (such as bytes, a date, a set)"
        named = event.get("type") if isinstance(event.get("type"), str) else None
        violation = Violation("$", "json", complaint)
        raise EventRejected(channel, named, "unsupported-value", [violation]) from None


def _unpack_json(body: bytes) -> tuple[Event | None, str]:
    try:
        event: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        return None, f"the bytes are not JSON ({type(error).__name__})"
    if not isinstance(event, dict):
        return None, f"the bytes are a {type(event).__name__}, not an event"
    return event, ""
