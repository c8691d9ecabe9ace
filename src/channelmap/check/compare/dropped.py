"""Find properties that were removed from a schema although handlers may still read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from channelmap.check.compare.changes import below
from channelmap.pointers import Pointer
from channelmap.validation import Schema

_BRANCHES = ("allOf", "anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class DroppedProperty:
    """An optional property that was removed.

    Attributes:
        pointer: the pointer to its former declaration.
        name: its dotted name in the event.
        instead: names of new properties beside it.

    """

    pointer: Pointer
    name: str
    instead: frozenset[str]


def dropped_properties(old: Schema, new: Schema, at: Pointer = (), subject: str = "") -> Iterator[DroppedProperty]:
    """Find the optional properties of `old` that `new` neither declares nor forbids."""
    if isinstance(old, bool) or isinstance(new, bool):
        return
    named = _named(new)
    gone = set() if _is_closed(new) else old.get("properties", {}).keys() - named - set(old.get("required", ()))
    for name in sorted(gone):
        yield DroppedProperty((*at, "properties", name), below(subject, name), frozenset(named - _named(old)))
    for name in sorted(old.get("properties", {}).keys() & new.get("properties", {}).keys()):
        inner = below(subject, name), (*at, "properties", name)
        yield from dropped_properties(old["properties"][name], new["properties"][name], inner[1], inner[0])
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from dropped_properties(old["items"], new["items"], (*at, "items"), f"{subject}[]")
    for keyword in _BRANCHES:
        pairs = zip(old.get(keyword, ()), new.get(keyword, ()), strict=False)
        for index, (before, after) in enumerate(pairs):
            for drop in dropped_properties(before, after, (*at, keyword, index), subject):
                if drop.pointer[-1] not in named:
                    yield drop


def _named(schema: Schema) -> set[str]:
    """Find the properties that a schema and its branches declare."""
    if isinstance(schema, bool):
        return set()
    inside: list[Any] = [branch for keyword in _BRANCHES for branch in schema.get(keyword, ())]
    inside += [schema[keyword] for keyword in ("then", "else") if keyword in schema]
    return set(schema.get("properties", ())).union(*map(_named, inside))


def _is_closed(schema: dict[str, Any]) -> bool:
    return schema.get("additionalProperties", schema.get("unevaluatedProperties")) is False
