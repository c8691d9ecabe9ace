"""Reject events that the engine cannot judge or that no layer can carry: values that are not JSON, and deep nesting.

The engine ends the process on very deep instances. On values that are not JSON, it raises or accepts, depending on
whether a keyword looks at them. Some JSON values cannot be carried by any layer, such as integers beyond 64 bits; an
event that has been judged must not fail later, in the middle of a batch.

`unsupported` accepts exact types only. A subclass of str, int, float, dict, list or tuple, such as a member of
`TextChoices`, may be shown or iterated differently, so layers might disagree about it; `plain_copy` converts it.
"""

from collections.abc import Sequence
from itertools import chain
from math import isfinite
from typing import Any

from channelmap.errors import Violation
from channelmap.trace_key import TRACE_KEY
from channelmap.validation.wording import path_text

MAX_DEPTH = 100
#: The key under which a layer stores the address of an event; every Channels layer refuses to send an event with it.
RESERVED = "__asgi_channel__"
#: The keys that no event may have, with what each is reserved for.
RESERVED_KEYS = {RESERVED: "layers", TRACE_KEY: "tracing"}


def is_plain(event: dict[str, Any]) -> bool:
    """Whether an event is obviously valid JSON: flat, with ASCII texts, small integers, booleans and None only.

    Other events may be valid, too; `unsupported` tells.
    """
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
    return RESERVED not in event and TRACE_KEY not in event


def unsupported(event: dict[str, Any], *, binary: bool = False) -> Violation | None:
    """Return the first value in an event that no layer can carry, as a violation, or None.

    Args:
        event: the event.
        binary: allow bytes, as ASGI does; for events without a schema.

    """
    if reserved := _reserved_key(event):
        return reserved
    found = _unsupported_below(event, MAX_DEPTH, binary)
    if found is None:
        return None
    message, steps = found
    return Violation(path_text(steps[::-1]), "json", message)


def _reserved_key(event: dict[str, Any]) -> Violation | None:
    if RESERVED not in event and TRACE_KEY not in event:
        return None
    key = next(key for key in RESERVED_KEYS if key in event)
    return Violation("$", "json", f"has the key '{key}', which is reserved for {RESERVED_KEYS[key]}")


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """Return a plain copy of an event that contains a subclass, otherwise the event itself; never reject it."""
    if type(event) is dict and (is_plain(event) or unsupported(event, binary=True) is None):
        return event
    copy = plain_copy(event, binary=True) if issubclass(type(event), dict) else event
    return event if isinstance(copy, Violation) else copy


def plain_copy(event: dict[str, Any], *, binary: bool = False) -> dict[str, Any] | Violation:
    """Return a copy of an event with plain base types; or a violation if no layer can carry the event.

    Values are read with the methods of their base types, because a subclass may override `__str__`, `__iter__` or
    `items`. The copy may share plain parts with the event.

    Args:
        event: the event, an instance of dict or of a subclass.
        binary: as for `unsupported`.

    """
    try:
        copy: dict[str, Any] = _copy_below(event, MAX_DEPTH, binary)
    except _Unsupported as error:
        return Violation(path_text(error.steps[::-1]), "json", error.message)
    return _reserved_key(copy) or copy


class _Unsupported(Exception):
    """No layer can carry a value; `steps` is the path to it, innermost step first."""

    def __init__(self, message: str, steps: list[str | int]) -> None:
        self.message = message
        self.steps = steps
        super().__init__(message)


def _copy_below(container: Any, depth: int, binary: bool) -> Any:  # noqa: FBT001  (for speed)
    """Copy a dict, list or tuple (or subclass) of at most `depth` levels of containers, itself included."""
    if not depth:
        raise _Unsupported(f"is nested more than {MAX_DEPTH} levels deep", [])
    if issubclass(type(container), dict):
        values = _with_plain_keys(container)
        return {key: _copy_at(value, key, depth, binary) for key, value in values.items()}
    base = list if issubclass(type(container), list) else tuple
    items = [*base.__iter__(container)]
    if not (len(items) >= _LONG_LIST and _is_uniform(items, depth)):
        items = [_copy_at(item, index, depth, binary) for index, item in enumerate(items)]
    return base(items)


def _copy_at(value: Any, step: str | int, depth: int, binary: bool) -> Any:  # noqa: FBT001  (for speed)
    """Copy the value at `step` of a container; add the step to the path of an error."""
    try:
        return _copy_value(value, depth, binary)
    except _Unsupported as error:
        error.steps.append(step)
        raise


def _copy_value(value: Any, depth: int, binary: bool) -> Any:  # noqa: FBT001  (for speed)
    # Not isinstance: a proxy may claim to be of another class.
    kind = type(value)
    if issubclass(kind, (dict, list, tuple)):
        return _copy_below(value, depth - 1, binary)
    if issubclass(kind, str):
        value = str.__str__(value)
    elif issubclass(kind, float):
        value = float.__float__(value)
    elif issubclass(kind, int) and kind is not bool:
        value = int.__int__(value)
    if found := _unsupported_in(value, depth, binary):
        raise _Unsupported(*found)
    return value


def _with_plain_keys(mapping: dict[Any, Any]) -> dict[str, Any]:
    """Return a dict (or subclass) as a plain dict whose keys are plain texts."""
    plain = {str.__str__(key) if issubclass(type(key), str) else key: value for key, value in dict.items(mapping)}
    if message := _unsupported_key(plain):
        raise _Unsupported(message, [])
    if len(plain) < dict.__len__(mapping):
        raise _Unsupported("has two keys that are the same text", [])
    return plain


_BASE64 = "base64.b64encode(value).decode()"
#: The expression to send instead of a value, by the name of its class or of a base class.
_REPLACEMENTS = {
    "date": "value.isoformat()",
    "time": "value.isoformat()",
    "timedelta": "value.total_seconds()",
    "Decimal": "str(value)",
    "Fraction": "str(value)",
    "UUID": "str(value)",
    "PurePath": "str(value)",
    "Promise": "str(value)",  # Django's lazy texts.
    "Enum": "value.value",
    "set": "list(value)",
    "frozenset": "list(value)",
    "deque": "list(value)",
    "mappingproxy": "dict(value)",
    "ndarray": "value.tolist()",
    "generic": "value.item()",  # NumPy's scalars.
    "bytes": _BASE64,
    "bytearray": _BASE64,
    "memoryview": _BASE64,
}
#: The same by an attribute of the class: dataclasses, and the models of Pydantic.
_REPLACEMENTS_BY_ATTRIBUTE = {
    "__dataclass_fields__": "dataclasses.asdict(value)",
    "model_dump": 'value.model_dump(mode="json")',
}


def _not_json(kind: type, *, binary: bool) -> str:
    """Return the message for a value of a class that is not JSON, with what to send instead."""
    got = kind.__name__
    for base in kind.__mro__:
        replacement = _REPLACEMENTS.get(base.__name__)
        if replacement is not None:
            break
    else:
        found = (expression for name, expression in _REPLACEMENTS_BY_ATTRIBUTE.items() if hasattr(kind, name))
        replacement = next(found, "")
    if not replacement:
        return f"expected a JSON value, got {got}; send its content as dict, list, text or number"
    if binary and replacement is _BASE64:
        replacement = "bytes(value)"
    return f"expected a JSON value, got {got}; send `{replacement}`"


#: A message, and the path to the value that it is about, innermost step first.
_Found = tuple[str, list[str | int]]


def _unsupported_below(container: Any, depth: int, binary: bool) -> _Found | None:  # noqa: FBT001  (for speed)
    """Return the first unsupported value in a dict, list or tuple of at most `depth` levels, itself included."""
    if not depth:
        return f"is nested more than {MAX_DEPTH} levels deep", []
    values = container
    if isinstance(container, dict):
        if message := _unsupported_key(container):
            return message, []
        values = container.values()
    elif len(container) >= _LONG_LIST and _is_uniform(container, depth):
        return None
    for value in values:
        kind = type(value)
        if (kind is str and value.isascii()) or (kind is int and _MIN_INTEGER <= value <= _MAX_INTEGER):
            continue
        if value is None or kind is bool or (kind is float and isfinite(value)):
            continue
        found = _unsupported_in(value, depth, binary)
        if found is not None:
            index = next(index for index, other in enumerate(values) if other is value)
            found[1].append(list(container)[index] if isinstance(container, dict) else index)
            return found
    return None


def _unsupported_in(value: Any, depth: int, binary: bool) -> _Found | None:  # noqa: FBT001  (for speed)
    """Return the first unsupported value: `value` itself or one inside it. Like the engine, reject subclasses."""
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        return _unsupported_below(value, depth - 1, binary)
    message = ""
    if kind is float:
        message = "" if isfinite(value) else "is not a finite number"
    elif kind is str:
        message = "" if _is_text(value) else "holds half of a surrogate pair, which is not text"
    elif kind is int:
        message = "" if _MIN_INTEGER <= value <= _MAX_INTEGER else "is an integer beyond 64 bits"
    elif value is not None and kind is not bool and not (binary and kind is bytes):
        message = _not_json(kind, binary=binary)
    return (message, []) if message else None


def _is_uniform(items: Sequence[Any], depth: int) -> bool:
    """Whether all items are ASCII texts, integers within 64 bits, finite floats, or lists of one of these.

    The items are checked by built-in functions, without a Python loop.
    """
    kinds = set(map(type, items))
    if kinds == {list} and depth > 1:
        items = list(chain.from_iterable(items))
        kinds = set(map(type, items))
    if kinds == {int}:
        return bool(min(items) >= _MIN_INTEGER and max(items) <= _MAX_INTEGER)
    if kinds == {float}:
        return all(map(isfinite, items))
    return kinds == {str} and all(map(str.isascii, items))


def _unsupported_key(mapping: dict[Any, Any]) -> str:
    for key in mapping:
        if type(key) is not str:
            return f"has a key that is not text but {type(key).__name__}"
        if not (key.isascii() or _is_text(key)):
            return "has a key with half of a surrogate pair, which is not text"
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


#: The range of integers that msgpack can encode.
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
#: Minimum number of items for which `_is_uniform` is cheaper than a check of each item.
_LONG_LIST = 8
