"""Generate events for one changed keyword: an ordinary event, with values around the bounds at that position.

They find most counterexamples at once, also deep inside an event and at large bounds, which a search by small changes
would not reach.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from channelmap.check.compare.samples import COMMON_VALUES, boundaries, one_of_each, samples, values_near_bounds
from channelmap.check.compare.texts import matching_texts
from channelmap.pointers import Pointer
from channelmap.validation import Schema
from channelmap.validation.keywords import MAPS
from channelmap.validation.structure import children

_UNDECLARED = "undeclared"
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas"})
_BASES = 2
_VALUES_OF_A_SCHEMA = 12


def targeted_events(schemas: Sequence[Schema], pointer: Pointer, event_type: str) -> Iterator[dict[str, Any]]:
    """Yield events with values at one position that may be counterexamples.

    Args:
        schemas: the schemas of two releases, in normal form.
        pointer: the pointer to the changed keyword; one of the schemas may lack its end.
        event_type: the `type` of every event.

    """
    positions = [position for schema in schemas if isinstance(schema, dict) for position in _positions(schema, pointer)]
    inner = [each for position in positions for each in _schemas_at(*position)]
    for schema, way in positions:
        for event in _values_around(schema, way, list(_values(inner, schema)), schema.get("$defs", {})):
            if isinstance(event, dict):
                yield {**event, "type": event_type}


def _positions(schema: dict[str, Any], pointer: Pointer) -> Iterator[tuple[dict[str, Any], Pointer]]:
    """Yield the schema and the pointer from its root; a pointer into a definition goes through a reference to it."""
    if pointer[:1] != ("$defs",):
        yield schema, pointer
        return
    text = f"#/$defs/{pointer[1]}"
    waiting: list[tuple[Pointer, Schema]] = [((), {key: part for key, part in schema.items() if key != "$defs"})]
    seen: set[str] = set()
    while waiting:
        way, part = waiting.pop(0)
        if isinstance(part, bool):
            continue
        reference = part.get("$ref")
        if reference == text:
            yield schema, (*way, *pointer[2:])
            return
        if reference is not None and reference not in seen:
            seen.add(reference)
            waiting.append((way, schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), True)))
        waiting += [((*way, *steps), child) for steps, child in children(part)]


def _schemas_at(schema: dict[str, Any], pointer: Pointer) -> Iterator[Schema]:
    """Yield the innermost schema on the path of a pointer."""
    definitions = schema.get("$defs", {})
    found: Schema = schema
    while isinstance(found, dict):
        found = _resolved(found, definitions)
        step = _step(found, pointer)
        if step is None:
            break
        found, pointer = step
    yield found


def _step(schema: Schema, pointer: Pointer) -> tuple[Schema, Pointer] | None:
    """Follow a pointer to the next schema inside; return it with the rest of the pointer, or `None`."""
    if not pointer or not isinstance(schema, dict) or pointer[0] not in schema:
        return None
    value = schema[pointer[0]]
    if isinstance(value, dict) and pointer[0] in _MAPS:
        return (value[pointer[1]], pointer[2:]) if len(pointer) > 1 and pointer[1] in value else None
    if isinstance(value, list):
        index = pointer[1] if len(pointer) > 1 else None
        is_there = isinstance(index, int) and index < len(value) and isinstance(value[index], (dict, bool))
        return (value[index], pointer[2:]) if is_there else None  # type: ignore[index]
    return (value, pointer[1:]) if isinstance(value, (dict, bool)) else None


_MAPS = MAPS | {"$defs"}


def _resolved(schema: Schema, definitions: dict[str, Any]) -> Schema:
    if isinstance(schema, dict) and "$ref" in schema:
        target = definitions.get(schema["$ref"].removeprefix("#/$defs/"), True)
        return {**target, **schema} if isinstance(target, dict) else schema
    return schema


def _values(schemas: Sequence[Schema], root: dict[str, Any]) -> Iterator[Any]:
    """Yield values near the bounds of schemas at the same position."""
    parts = [schema for schema in schemas if isinstance(schema, dict)]
    yield from boundaries(parts)
    for part in parts:
        yield from one_of_each(part, root.get("$defs", {}))
    for part in parts:
        for sample in islice(samples(part, root.get("$defs", {})), _VALUES_OF_A_SCHEMA):
            yield sample
            if isinstance(sample, dict):
                yield from ({key: item for key, item in sample.items() if key != name} for name in sample)
                yield {**sample, _UNDECLARED: 1}
    yield from COMMON_VALUES
    for part in parts:
        yield from values_near_bounds({key: value for key, value in part.items() if key != "$defs"})


def _values_around(schema: Schema, pointer: Pointer, values: list[Any], definitions: dict[str, Any]) -> Iterator[Any]:
    """Yield values of a schema that have one of the given values at the end of a pointer."""
    schema = _resolved(schema, definitions)
    step = _step(schema, pointer)
    if step is None or not isinstance(schema, dict):
        yield from values
        return
    child, rest = step
    inner = _values_around(child, rest, values, definitions)
    keyword = pointer[0]
    if keyword in {"items", "prefixItems", "unevaluatedItems", "contains"}:
        first = schema.get("prefixItems", [])[: pointer[1] if keyword == "prefixItems" else None]
        head = [next(samples(each, definitions), None) for each in first]
        size = max(schema.get("minItems", 1) - len(head), 1)
        yield from ([*head, *[value] * min(size, 100)] for value in inner)
        return
    if keyword not in _IN_PLACE and keyword not in _NAMED:
        yield from values
        return
    bases = list(_bases(schema, pointer, definitions))
    inside = list(inner)
    names = [""] if keyword in _IN_PLACE else _names(pointer)
    for base in bases:
        for value in inside:
            if keyword in _IN_PLACE:
                yield {**base, **value} if isinstance(value, dict) else value
            else:
                yield from ({**base, name: value} for name in names)


_NAMED = frozenset({"properties", "patternProperties", "additionalProperties", "unevaluatedProperties"})


def _names(pointer: Pointer) -> list[str]:
    match pointer[0]:
        case "properties":
            return [str(pointer[1])]
        case "patternProperties":
            return list(matching_texts(str(pointer[1])))
    return [_UNDECLARED]


def _bases(schema: dict[str, Any], pointer: Pointer, definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield ordinary objects around a position."""
    around = schema
    if pointer[0] in _IN_PLACE:
        around = {key: value for key, value in schema.items() if key != pointer[0]}
    found = chain(islice(samples(around, definitions), 4), [{}])
    yield from islice((sample for sample in found if isinstance(sample, dict)), _BASES)
