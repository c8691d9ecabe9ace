"""Locate parts of a normalized schema in the file in which it was written."""

from typing import Any

from channelmap.contract import EventType, Written
from channelmap.diagnostics import Location
from channelmap.pointers import Pointer, steps_of

#: What draft-07 calls what the form calls otherwise.
_OLD_NAMES = {"prefixItems": "items", "items": "additionalItems", "$defs": "definitions"}


def place_of(event_type: EventType, pointer: Pointer, default: Location, *, name: str = "") -> Location:
    """Find the place of a keyword in the schema of an event type, or of the nearest thing around it.

    Args:
        event_type: the event type.
        pointer: the way to the keyword in the form of its schema.
        default: the place where there is no schema.
        name: the entry of the list there that is meant; or, at the end of the pointer, a key.

    Returns:
        The place of the value; of the key of what is around it where it is gone.

    """
    written = event_type.written
    if written is None:
        return default
    way, is_there = _way(written, pointer)
    value = _value(written, way)
    if isinstance(value, list) and name in value:
        return written.locate((*way, value.index(name)))
    return written.locate(way, key=not is_there or way[-1:] == (name,))


def _way(written: Written, pointer: Pointer) -> tuple[Pointer, bool]:
    """Follow a pointer, through the references to other parts of the file; say whether it leads to its end."""
    way: Pointer = ()
    rest = pointer
    for _ in range(2 * len(pointer) + 1):
        if not rest:
            break
        value = _value(written, way)
        step = next((each for each in (rest[0], _OLD_NAMES.get(str(rest[0]))) if _has(value, each)), None)
        reference = value.get("$ref") if isinstance(value, dict) else None
        if step == "allOf" and isinstance(reference, str) and not _has(value[step], rest[1]):
            step = None
        if step is not None:
            way, rest = (*way, step), rest[1:]
        elif isinstance(reference, str) and reference.startswith("#/"):
            way = tuple(steps_of(reference[1:]))
            # The reference stands in a branch of its own where something stands beside it.
            rest = rest[2:] if rest[0] == "allOf" and not _has(_value(written, way), "allOf") else rest
        else:
            break
    return way, not rest


def _value(written: Written, way: Pointer) -> Any:
    value = written.document.data
    for step in (*written.pointer, *way):
        if not _has(value, step):
            return None
        value = value[step]
    return value


def _has(value: Any, step: Any) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value
