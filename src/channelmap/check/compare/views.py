"""The declared view of a schema: the events that it describes, not all that it happens to accept.

A schema that declares some properties accepts any other property with any value. Literally, every new optional property
would then be a break. So the *declared view* closes such objects, also if `additionalProperties: true` is written out,
as generators do.
"""

from collections.abc import Iterator
from typing import Any

from channelmap.check.compare.normal_form import is_draft_7, mentions
from channelmap.pointers import Pointer
from channelmap.validation import Schema
from channelmap.validation.structure import children, map_children

#: Keywords whose schemas judge the same value as the schema around them.
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas"})
#: Keywords that may accept more if the schema in them is closed.
_INVERTING = frozenset({"not", "if", "propertyNames"})
_EXTRAS = frozenset({"additionalProperties", "unevaluatedProperties"})
_COUNTING = frozenset({"oneOf", "contains"})


def event_schema(schema: Schema, event_type: str) -> dict[str, Any]:
    """Return a schema in normal form, restricted to events of one type."""
    envelope = {"type": "object", "properties": {"type": {"const": event_type}}, "required": ["type"]}
    own = schema if isinstance(schema, dict) else {} if schema else {"not": {}}
    return {**own, "allOf": [*own.get("allOf", []), envelope]}


def declared_view(schema: Schema) -> Schema:
    """Return the declared view of a schema in normal form; it accepts only events that the schema accepts."""
    if isinstance(schema, bool) or is_draft_7(schema):
        return schema
    closed = _Closing(schema).result
    if not mentions(schema, _COUNTING):
        return closed
    # Closing a branch may make an event match one branch of a `oneOf` that matched two before.
    both = {"allOf": [_without_definitions(schema), _without_definitions(closed)]}
    return {**both, "$defs": closed["$defs"]} if "$defs" in closed else both


class _Closing:
    """Closes the schemas of whole values, but not the branches that judge the same value.

    Each definition gets a closed and an open copy, for references of either kind.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        more = {
            f"{name}-{use}": change((), target)
            for name, target in self._definitions.items()
            for use, change in (("open", self._in_place), ("closed", self._close))
        }
        result = self._close((), _without_definitions(schema))
        assert isinstance(result, dict)
        self.result = {**result, "$defs": {**self._definitions, **more}} if more else result

    def _close(self, _: Pointer, schema: Schema) -> Schema:
        """Close the schema of a whole value."""
        if isinstance(schema, dict) and schema.keys() == {"$ref"}:
            return {"$ref": f"{schema['$ref']}-closed"}
        result = self._in_place((), schema)
        if not isinstance(result, dict) or _EXTRAS & result.keys():
            return result
        parts = list(self._schemas_of_same_value(schema))
        named = {name for part in parts for name in part.get("properties", ())}
        if not any(map(_describes, parts)):
            return result
        mentioned = {name for part in parts for name in _mentioned_names(part)} - named
        if any(part.get("minProperties", 0) > len(named | mentioned) for part in parts):
            return result
        if mentioned:
            result["properties"] = {**dict.fromkeys(sorted(mentioned), True), **result.get("properties", {})}
        return {**result, "unevaluatedProperties": False}

    def _in_place(self, _: Pointer, schema: Schema) -> Schema:
        if isinstance(schema, bool):
            return schema
        result = map_children(schema, self._child)
        if _describes(result):
            result = {key: value for key, value in result.items() if key not in _EXTRAS or value is not True}
        return {**result, "$ref": f"{schema['$ref']}-open"} if "$ref" in schema else result

    def _child(self, pointer: Pointer, schema: Schema) -> Schema:
        if pointer[0] in _INVERTING:
            return schema
        return (self._in_place if pointer[0] in _IN_PLACE else self._close)(pointer, schema)

    def _schemas_of_same_value(self, schema: Schema) -> Iterator[dict[str, Any]]:
        """Yield the schemas that judge the same value: a schema, its branches, and those that they refer to."""
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
    """Whether a schema declares properties other than just `type`."""
    properties = schema.get("properties", {})
    return properties.get("type", True) is not True or bool(properties.keys() - {"type"})


def _without_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword != "$defs"}


def _mentioned_names(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the names of properties that a schema mentions without declaring them."""
    yield from schema.get("required", ())
    for names in schema.get("dependentRequired", {}).values():
        yield from names
    condition = schema.get("if", True)
    if isinstance(condition, dict):
        yield from condition.get("properties", ())
        yield from condition.get("required", ())
