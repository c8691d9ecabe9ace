"""What is meant by a schema: the events that it describes, not all that it happens to accept.

A schema that names properties and says nothing about others accepts them, of any kind. To take that literally
would make every new optional property a break. So the *declared* view closes such objects. That others are
accepted may be written out (`additionalProperties: true`, as generators do): it is the same.
"""

from collections.abc import Iterator
from typing import Any

from channelmap.check.compare.normal import is_draft_7, mentions
from channelmap.pointers import Pointer
from channelmap.validation import Schema
from channelmap.validation.structure import children, map_children

#: Schemas under these keywords judge the same value as the one that they are in.
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas"})
#: To close a schema in one of these may let more through.
_REVERSING = frozenset({"not", "if", "propertyNames"})
_EXTRAS = frozenset({"additionalProperties", "unevaluatedProperties"})
_COUNTING = frozenset({"oneOf", "contains"})


def event_schema(schema: Schema, event_type: str) -> dict[str, Any]:
    """Return the schema of the events of one type that a schema in its form accepts."""
    envelope = {"type": "object", "properties": {"type": {"const": event_type}}, "required": ["type"]}
    own = schema if isinstance(schema, dict) else {} if schema else {"not": {}}
    return {**own, "allOf": [*own.get("allOf", []), envelope]}


def declared(schema: Schema) -> Schema:
    """Return the schema, in its form, of the events that it describes; all of them are accepted by it."""
    if isinstance(schema, bool) or is_draft_7(schema):
        return schema
    closed = _Closing(schema).result
    if not mentions(schema, _COUNTING):
        return closed
    # Where matches are counted, closing a branch may make an event match just once that matched twice.
    both = {"allOf": [_without_definitions(schema), _without_definitions(closed)]}
    return {**both, "$defs": closed["$defs"]} if "$defs" in closed else both


class _Closing:
    """Closes what stands for a value of its own, not the branches that judge the same value.

    So each definition comes in two more forms: one for either use.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        more = {
            f"{name}-{use}": change((), target)
            for name, target in self._definitions.items()
            for use, change in (("open", self._in_place), ("closed", self._position))
        }
        result = self._position((), _without_definitions(schema))
        assert isinstance(result, dict)
        self.result = {**result, "$defs": {**self._definitions, **more}} if more else result

    def _position(self, _: Pointer, schema: Schema) -> Schema:
        """Close a schema that stands for a value of its own."""
        if isinstance(schema, dict) and schema.keys() == {"$ref"}:
            return {"$ref": f"{schema['$ref']}-closed"}
        result = self._in_place((), schema)
        if not isinstance(result, dict) or _EXTRAS & result.keys():
            return result
        parts = list(self._of_the_same(schema))
        named = {name for part in parts for name in part.get("properties", ())}
        if not any(map(_describes, parts)):
            return result
        asked_for = {name for part in parts for name in _asked_for(part)} - named
        if any(part.get("minProperties", 0) > len(named | asked_for) for part in parts):
            return result
        if asked_for:
            result["properties"] = {**dict.fromkeys(sorted(asked_for), True), **result.get("properties", {})}
        return {**result, "unevaluatedProperties": False}

    def _in_place(self, _: Pointer, schema: Schema) -> Schema:
        if isinstance(schema, bool):
            return schema
        result = map_children(schema, self._child)
        if _describes(result):
            result = {key: value for key, value in result.items() if key not in _EXTRAS or value is not True}
        return {**result, "$ref": f"{schema['$ref']}-open"} if "$ref" in schema else result

    def _child(self, pointer: Pointer, schema: Schema) -> Schema:
        if pointer[0] in _REVERSING:
            return schema
        return (self._in_place if pointer[0] in _IN_PLACE else self._position)(pointer, schema)

    def _of_the_same(self, schema: Schema) -> Iterator[dict[str, Any]]:
        """Find the schemas in a schema that judge the same value, itself and what it refers to included."""
        waiting = [schema]
        followed: set[str] = set()
        while waiting:
            part = waiting.pop()
            if isinstance(part, bool):
                continue
            yield part
            waiting += [child for pointer, child in children(part) if pointer[0] in _IN_PLACE]
            if "$ref" in part and part["$ref"] not in followed:
                followed.add(part["$ref"])
                waiting.append(self._definitions.get(part["$ref"].removeprefix("#/$defs/"), True))


def _describes(schema: dict[str, Any]) -> bool:
    """Whether a schema describes properties; that `type` may be there goes without saying."""
    properties = schema.get("properties", {})
    return properties.get("type", True) is not True or bool(properties.keys() - {"type"})


def _without_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword != "$defs"}


def _asked_for(schema: dict[str, Any]) -> Iterator[str]:
    """Find the names that a schema speaks of without describing them."""
    yield from schema.get("required", ())
    for names in schema.get("dependentRequired", {}).values():
        yield from names
    condition = schema.get("if", True)
    if isinstance(condition, dict):
        yield from condition.get("properties", ())
        yield from condition.get("required", ())
