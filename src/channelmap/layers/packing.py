"""The encoding of events in a layer: msgpack, as in channels_redis.

Every layer packs events, the memory layer too, so all layers accept and reject the same values.
"""

from collections.abc import Sequence
from typing import Any

from msgpack import Packer, packb, unpackb  # type: ignore[import-untyped]  # msgpack ships no types

from channelmap.asgi import Event
from channelmap.errors import EventRejected, Violation


def pack(channel: str, event: Event) -> bytes:
    """Return a packed event; `channel` is for the error.

    Raises:
        EventRejected: it holds a value that msgpack cannot carry (`unsupported-value`).

    """
    try:
        # `packb` allocates a buffer of 256 KiB, which costs more than the packing.
        return Packer(buf_size=512).pack(event)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        named = event.get("type")
        violation = Violation("$", "msgpack", _reason(error))
        raise EventRejected(
            channel, named if isinstance(named, str) else None, "unsupported-value", [violation]
        ) from None


def _reason(error: Exception) -> str:
    # The message of msgpack may quote the value.
    if isinstance(error, UnicodeEncodeError):
        return "holds text that is not valid Unicode (a lone surrogate)"
    if isinstance(error, OverflowError):
        return "holds an integer beyond 64 bits"
    if isinstance(error, ValueError | RecursionError):
        return "is nested too deeply, or larger than 4 GiB"
    return "holds a value of a type that msgpack has not (such as a date, a set, an object)"


def unpack_all(bodies: Sequence[bytes]) -> list[Event] | None:
    """Unpack several events; return `None` if one is unreadable (`unpack` finds out which)."""
    try:
        events = [unpackb(body, strict_map_key=False) for body in bodies]
    except Exception:  # noqa: BLE001  (as in `unpack`)
        return None
    return events if {dict}.issuperset(map(type, events)) else None


def unpack(body: bytes) -> tuple[Event | None, str]:
    """Return an unpacked event and an empty problem, or None and the problem."""
    try:
        # Channels carries keys that are not strings; the gate decides whether they are allowed.
        event: Any = unpackb(body, strict_map_key=False)
    except Exception as error:  # noqa: BLE001  (msgpack raises many kinds of errors; all mean unreadable)
        return None, f"the bytes are not msgpack ({type(error).__name__})"
    if not isinstance(event, dict):
        return None, f"the bytes are a {type(event).__name__}, not an event"
    return event, ""


def pack_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    """Pack rows of numbers, texts and bytes, such as the events of a lease, for `unpack_rows`."""
    return packb(rows)  # type: ignore[no-any-return]


def unpack_rows(packed: bytes, *, as_bytes: bool = False) -> tuple[Any, ...]:
    """Unpack rows, as tuples; `as_bytes` reads texts as bytes, as Lua's cmsgpack writes these."""
    return unpackb(packed, use_list=False, raw=as_bytes)  # type: ignore[no-any-return]
