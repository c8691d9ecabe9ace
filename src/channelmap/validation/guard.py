"""What stands in front of the engine, and of every layer: only JSON values pass, and none too deep.

The engine ends the process on very deep instances, raises on what is not JSON where a keyword looks at it,
and passes it where none looks; so what is not JSON is refused before, wherever it stands. So is what JSON could
hold and no layer could: an event that is sent after its judgement must not fail half-way through a file of them.
"""

from collections.abc import Sequence
from itertools import chain
from math import isfinite
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
    """Find the first thing in an event that no layer can carry: its location and, in words, what it is.

    Args:
        event: the event.
        binary: bytes may be in it, as ASGI has it: no schema looks at it.

    """
    if RESERVED in event:
        return Violation("$", "json", f"has the key '{RESERVED}', which is reserved for layers")
    found = _fault_below(event, MAX_DEPTH, binary)
    if found is None:
        return None
    fault, steps = found
    return Violation(path_text(steps[::-1]), "json", fault)


#: What is wrong, and the steps that lead to it, the last one first.
_Fault = tuple[str, list[str | int]]


def _fault_below(container: Any, depth: int, binary: bool) -> _Fault | None:  # noqa: FBT001  (for speed)
    """Find the first fault in a dict, list or tuple, which may hold `depth` levels of containers, itself included."""
    if not depth:
        return f"is nested more than {MAX_DEPTH} levels deep", []
    values = container
    if isinstance(container, dict):
        if fault := _fault_of_keys(container):
            return fault, []
        values = container.values()
    elif len(container) >= _LONG and _is_uniform(container, depth):
        return None
    for value in values:
        kind = type(value)
        if (kind is str and value.isascii()) or (kind is int and _LEAST <= value <= _MOST):
            continue
        if value is None or kind is bool or (kind is float and isfinite(value)):
            continue
        found = _fault_in(value, depth, binary)
        if found is not None:
            index = next(index for index, other in enumerate(values) if other is value)
            found[1].append(list(container)[index] if isinstance(container, dict) else index)
            return found
    return None


def _fault_in(value: Any, depth: int, binary: bool) -> _Fault | None:  # noqa: FBT001  (for speed)
    """Find what is wrong with a value or in it; like the engine, refuse subclasses of scalars."""
    if isinstance(value, (dict, list, tuple)):
        return _fault_below(value, depth - 1, binary)
    kind = type(value)
    fault = ""
    if kind is float:
        fault = "" if isfinite(value) else "is not a finite number"
    elif kind is str:
        fault = "" if _is_text(value) else "holds half of a surrogate pair, which is no text"
    elif kind is int:
        fault = "is an integer beyond 64 bits"
    elif kind is not bool and not (binary and kind is bytes):
        fault = f"expected a JSON value, got {kind.__name__}"
    return (fault, []) if fault else None


def _is_uniform(items: Sequence[Any], depth: int) -> bool:
    """Whether all items are ASCII texts, integers within 64 bits, finite floats, or lists of one of these.

    No item costs a step of its own.
    """
    kinds = set(map(type, items))
    if kinds == {list} and depth > 1:
        items = list(chain.from_iterable(items))
        kinds = set(map(type, items))
    if kinds == {int}:
        return bool(min(items) >= _LEAST and max(items) <= _MOST)
    if kinds == {float}:
        return all(map(isfinite, items))
    return kinds == {str} and all(map(str.isascii, items))


def _fault_of_keys(mapping: dict[Any, Any]) -> str:
    for key in mapping:
        if type(key) is not str:
            return f"has a key that is not text but {type(key).__name__}"
        if not (key.isascii() or _is_text(key)):
            return "has a key with half of a surrogate pair, which is no text"
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


#: The integers that msgpack carries.
_LEAST, _MOST = -(2**63), 2**64 - 1
#: From this many items on, one look at all of them is cheaper than a look at each.
_LONG = 8
