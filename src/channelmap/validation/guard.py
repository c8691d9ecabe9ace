"""What stands in front of the engine: only JSON values pass, and none too deep.

The engine ends the process on very deep instances, raises on what is not JSON where a keyword looks at it,
and passes it where none looks; so what is not JSON is refused before, wherever it stands.
"""

import math
from typing import Any

from channelmap.errors import Violation
from channelmap.validation.wording import path_text

MAX_DEPTH = 100

_PLAIN = frozenset({int, bool, type(None)})


def is_supported(event: dict[str, Any]) -> bool:
    """Whether an event consists of JSON values only; one that is flat and ASCII is seen through at once."""
    for key, value in event.items():
        kind = type(value)
        if type(key) is not str or not key.isascii():
            break
        if kind is str:
            if not value.isascii():
                break
        elif kind not in _PLAIN:
            break
    else:
        return True
    return unsupported(event) is None


def unsupported(event: Any) -> Violation | None:
    """Find the first thing in an event that is no JSON value: its place and, in words, what it is."""
    # A list of what is still to be seen, not recursion: depth is what is guarded against.
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(event, ())]
    while waiting:
        value, pointer = waiting.pop()
        fault = _fault(value, pointer)
        if fault:
            return Violation(path_text(pointer), "json", fault)
        if isinstance(value, dict):
            waiting.extend((value[key], (*pointer, key)) for key in reversed(value))
        elif isinstance(value, (list, tuple)):
            waiting.extend((item, (*pointer, index)) for index, item in reversed(list(enumerate(value))))
    return None


def _fault(value: Any, pointer: tuple[str | int, ...]) -> str:
    """Say what is wrong with a value itself, or nothing; like the engine, refuse subclasses of scalars."""
    kind = type(value)
    if kind in _PLAIN or (kind is str and _is_text(value)) or (kind is float and math.isfinite(value)):
        return ""
    if kind is str:
        return "holds half of a surrogate pair, which is no text"
    if kind is float:
        return "is not a finite number"
    if not isinstance(value, (dict, list, tuple)):
        return f"expected a JSON value, got {kind.__name__}"
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
