"""What stands in front of the engine, and of every layer: only JSON values pass, and none too deep.

The engine ends the process on very deep instances, raises on what is not JSON where a keyword looks at it,
and passes it where none looks; so what is not JSON is refused before, wherever it stands. So is what JSON could
hold and no layer could: an event that is sent after its judgement must not fail half-way through a file of them.

`unsupported` accepts exact types only. A subclass of str, int, float, dict, list or tuple, such as a member of
`TextChoices`, may change how it is shown or iterated, so layers would not agree on it: `plain_copy` takes its value.
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
    if fault := _reserved(event):
        return fault
    found = _fault_below(event, MAX_DEPTH, binary)
    if found is None:
        return None
    message, steps = found
    return Violation(path_text(steps[::-1]), "json", message)


def _reserved(event: dict[str, Any]) -> Violation | None:
    if RESERVED not in event:
        return None
    return Violation("$", "json", f"has the key '{RESERVED}', which is reserved for layers")


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event that is not judged: a plain copy if it holds a subclass, otherwise the event itself."""
    if type(event) is dict and (is_plain(event) or unsupported(event, binary=True) is None):
        return event
    copy = plain_copy(event, binary=True) if issubclass(type(event), dict) else event
    return event if isinstance(copy, Violation) else copy


def plain_copy(event: dict[str, Any], *, binary: bool = False) -> dict[str, Any] | Violation:
    """Copy an event, each value and key as its plain base type; or say what in it no layer can carry.

    A value is read by the methods of its base type: a subclass may override `__str__`, `__iter__` or `items`.
    Parts that are plain already may be shared with the event.

    Args:
        event: the event, an instance of dict or of a subclass.
        binary: as for `unsupported`.

    """
    try:
        copy: dict[str, Any] = _copy_below(event, MAX_DEPTH, binary)
    except _Unsupported as error:
        return Violation(path_text(error.steps[::-1]), "json", error.fault)
    return _reserved(copy) or copy


class _Unsupported(Exception):
    """No layer can carry this; `steps` lead to it, the last one first."""

    def __init__(self, fault: str, steps: list[str | int]) -> None:
        self.fault = fault
        self.steps = steps
        super().__init__(fault)


def _copy_below(container: Any, depth: int, binary: bool) -> Any:  # noqa: FBT001  (as above)
    """Copy a dict, list or tuple, or an instance of a subclass, which may hold `depth` levels of containers."""
    if not depth:
        raise _Unsupported(f"is nested more than {MAX_DEPTH} levels deep", [])
    if issubclass(type(container), dict):
        values = _with_plain_keys(container)
        return {key: _copy_of(value, key, depth, binary) for key, value in values.items()}
    base = list if issubclass(type(container), list) else tuple
    items = [*base.__iter__(container)]
    if not (len(items) >= _LONG and _is_uniform(items, depth)):
        items = [_copy_of(item, index, depth, binary) for index, item in enumerate(items)]
    return base(items)


def _copy_of(value: Any, step: str | int, depth: int, binary: bool) -> Any:  # noqa: FBT001  (as above)
    """Copy a value that stands at `step` of a container."""
    try:
        return _copy(value, depth, binary)
    except _Unsupported as error:
        error.steps.append(step)
        raise


def _copy(value: Any, depth: int, binary: bool) -> Any:  # noqa: FBT001  (as above)
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
    if found := _fault_in(value, depth, binary):
        raise _Unsupported(*found)
    return value


def _with_plain_keys(mapping: dict[Any, Any]) -> dict[str, Any]:
    """Return the values of a dict, or of an instance of a subclass, by its keys as plain texts."""
    plain = {str.__str__(key) if issubclass(type(key), str) else key: value for key, value in dict.items(mapping)}
    if fault := _fault_of_keys(plain):
        raise _Unsupported(fault, [])
    if len(plain) < dict.__len__(mapping):
        raise _Unsupported("has two keys that are the same text", [])
    return plain


_BASE64 = "base64.b64encode(value).decode()"
#: What to send in place of a value of a class or of one derived from it, by the name of the class.
_CURES = {
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
#: The same for classes that have an attribute: dataclasses, and the models of Pydantic.
_CURES_BY_ATTRIBUTE = {
    "__dataclass_fields__": "dataclasses.asdict(value)",
    "model_dump": 'value.model_dump(mode="json")',
}


def _not_json(kind: type, *, binary: bool) -> str:
    """Say that a value of this class is not JSON, and what to send instead of it."""
    got = kind.__name__
    for base in kind.__mro__:
        cure = _CURES.get(base.__name__)
        if cure is not None:
            break
    else:
        cure = next((cure for name, cure in _CURES_BY_ATTRIBUTE.items() if hasattr(kind, name)), "")
    if not cure:
        return f"expected a JSON value, got {got}; send its content as dict, list, text or number"
    if binary and cure is _BASE64:
        cure = "bytes(value)"
    return f"expected a JSON value, got {got}; send `{cure}`"


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
    """Find what is wrong with a value or in it; like the engine, reject subclasses."""
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        return _fault_below(value, depth - 1, binary)
    fault = ""
    if kind is float:
        fault = "" if isfinite(value) else "is not a finite number"
    elif kind is str:
        fault = "" if _is_text(value) else "holds half of a surrogate pair, which is not text"
    elif kind is int:
        fault = "" if _LEAST <= value <= _MOST else "is an integer beyond 64 bits"
    elif value is not None and kind is not bool and not (binary and kind is bytes):
        fault = _not_json(kind, binary=binary)
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
            return "has a key with half of a surrogate pair, which is not text"
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
