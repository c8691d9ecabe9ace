"""Locate parts of a normalized schema in the file in which it was written."""

from typing import Any

from channelmap.contract import EventType, Written
from channelmap.diagnostics import Location
from channelmap.pointers import Pointer, steps_of

#: Keywords of draft-07 that have another name in normal form.
_DRAFT_7_NAMES = {"prefixItems": "items", "items": "additionalItems", "$defs": "definitions"}


def locate_in_schema(event_type: EventType, pointer: Pointer, default: Location, *, name: str = "") -> Location:
    """Return the location of a keyword in the schema of an event type, or of the nearest part around it.

    Args:
        event_type: the event type.
        pointer: the pointer to the keyword in the normal form of the schema.
        default: the location if there is no schema.
        name: an entry of the list at the pointer, or the last key of the pointer.

    Returns:
        The location of the value; if it does not exist, that of the key around it.

    """
    written = event_type.written
    if written is None:
        return default
    way, is_there = _follow(written, pointer)
    value = _value(written, way)
    if isinstance(value, list) and name in value:
        return written.locate((*way, value.index(name)))
    return written.locate(way, key=not is_there or way[-1:] == (name,))


def _follow(written: Written, pointer: Pointer) -> tuple[Pointer, bool]:
    """Follow a pointer through references within the file; return the pointer reached, and whether it is complete."""
    way: Pointer = ()
    rest = pointer
    for _ in range(2 * len(pointer) + 1):
        if not rest:
            break
        value = _value(written, way)
        step = next((each for each in (rest[0], _DRAFT_7_NAMES.get(str(rest[0]))) if _has(value, each)), None)
        reference = value.get("$ref") if isinstance(value, dict) else None
        if step == "allOf" and isinstance(reference, str) and not _has(value[step], rest[1]):
            step = None
        if step is not None:
            way, rest = (*way, step), rest[1:]
        elif isinstance(reference, str) and reference.startswith("#/"):
            way = tuple(steps_of(reference[1:]))
            # In normal form, a reference beside other keywords is in a branch of its own.
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
