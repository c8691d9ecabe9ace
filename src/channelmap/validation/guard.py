"""What stands in front of the engine, and of every layer: only JSON values pass, and none too deep.

The engine ends the process on very deep instances, raises on what is not JSON where a keyword looks at it,
and passes it where none looks; so what is not JSON is refused before, wherever it stands. So is what JSON could
hold and no layer could: an event that is sent after its judgement must not fail half-way through a file of them.
"""

import math
from collections.abc import Callable
from typing import Any

from channelmap.errors import Violation
from channelmap.validation.wording import path_text

MAX_DEPTH = 100
#: Under this key a layer keeps the address of an event; every Channels layer refuses to send an event with it.
RESERVED = "__asgi_channel__"


def is_plain(event: dict[str, Any]) -> bool:
    """Whether an event can be seen through at once: flat, ASCII, and of small integers, it is JSON."""
    for key, value in event.items():
        if type(key) is not str or not key.isascii():
            return False
        kind = type(value)
        if kind is str:
            if not value.isascii():
                return False
        elif kind is int:
            if value.bit_length() > 63:
                return False
        elif value is not None and kind is not bool:
            return False
    return RESERVED not in event


def unsupported(event: dict[str, Any], *, binary: bool = False) -> Violation | None:
    """Find the first thing in an event that may be in none: its place and, in words, what it is.

    Args:
        event: the event.
        binary: bytes may be in it, as ASGI has it: no schema looks at it.

    """
    if RESERVED in event:
        return Violation("$", "json", f"has the key '{RESERVED}', which is reserved for layers")
    # A list of what is still to be seen, not recursion: depth is what is guarded against.
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(event, ())]
    while waiting:
        value, pointer = waiting.pop()
        fault = "" if binary and type(value) is bytes else _fault(value, pointer)
        if fault:
            return Violation(path_text(pointer), "json", fault)
        if isinstance(value, dict):
            waiting.extend((value[key], (*pointer, key)) for key in reversed(value))
        elif isinstance(value, (list, tuple)):
            waiting.extend((item, (*pointer, index)) for index, item in reversed(list(enumerate(value))))
    return None


def _fault(value: Any, pointer: tuple[str | int, ...]) -> str:
    """Say what is wrong with a value itself, or nothing; like the engine, refuse subclasses of scalars."""
    if type(value) in _SCALARS:
        holds, fault = _SCALARS[type(value)]
        return "" if holds(value) else fault
    if not isinstance(value, (dict, list, tuple)):
        return f"expected a JSON value, got {type(value).__name__}"
    if len(pointer) == MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} levels deep"
    return _key_fault(value) if isinstance(value, dict) else ""


def _key_fault(mapping: dict[Any, Any]) -> str:
    for key in mapping:
        if type(key) is not str:
            return f"has a key that is not text but {type(key).__name__}"
        if not _is_text(key):
            return "has a key with half of a surrogate pair, which is no text"
    return ""


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_SCALARS: dict[type, tuple[Callable[[Any], bool], str]] = {
    type(None): (lambda _: True, ""),
    bool: (lambda _: True, ""),
    str: (_is_text, "holds half of a surrogate pair, which is no text"),
    # What msgpack carries.
    int: (lambda value: -(2**63) <= value < 2**64, "is an integer beyond 64 bits"),
    float: (math.isfinite, "is not a finite number"),
}
