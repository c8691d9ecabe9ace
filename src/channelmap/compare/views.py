"""What is meant by a schema: the events that it describes, not all that it happens to accept.

A schema that names properties and says nothing about others accepts them, of any kind. To take that literally
would make every new optional property a break. So the *declared* view closes such objects.
"""

from typing import Any

from channelmap.compare.normal import canonical, is_draft_7
from channelmap.validation import Schema
from channelmap.validation.structure import Pointer, rebuilt

#: Schemas under these keywords judge the same value as the one that they are in.
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "then", "else", "dependentSchemas", "$defs"})
#: To close a schema in one of these may let more through.
_REVERSING = frozenset({"not", "if", "propertyNames"})
_COUNTING = ("oneOf", "contains")


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
    text = canonical(schema)
    if not any(f'"{keyword}"' in text for keyword in _COUNTING):
        return closed
    # Where matches are counted, closing a branch may make an event match just once that matched twice.
    return schema if '"$ref"' in text else {"allOf": [schema, closed]}


class _Closing:
    def __init__(self, schema: dict[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        self.result = self._position((), schema)

    def _position(self, _: Pointer, schema: Schema) -> Schema:
        """Close a schema that stands for a value of its own."""
        result = self._in_place((), schema)
        if not isinstance(result, dict) or not self._names_properties(result):
            return result
        if "additionalProperties" in result or "unevaluatedProperties" in result:
            return result
        return {**result, "unevaluatedProperties": False}

    def _in_place(self, _: Pointer, schema: Schema) -> Schema:
        return rebuilt(schema, self._child) if isinstance(schema, dict) else schema

    def _child(self, pointer: Pointer, schema: Schema) -> Schema:
        if pointer[0] in _REVERSING:
            return schema
        return (self._in_place if pointer[0] in _IN_PLACE else self._position)(pointer, schema)

    def _names_properties(self, schema: Schema) -> bool:
        if isinstance(schema, bool):
            return False
        # That `type` may be there goes without saying: it does not make a schema describe its events.
        if set(schema.get("properties", ())) - {"type"} or schema.get("properties", {}).get("type", True) is not True:
            return True
        branches = [branch for keyword in ("allOf", "anyOf", "oneOf") for branch in schema.get(keyword, ())]
        branches += [schema[keyword] for keyword in ("then", "else") if keyword in schema]
        branches += schema.get("dependentSchemas", {}).values()
        target = self._definitions.get(schema.get("$ref", "").removeprefix("#/$defs/"), True)
        return (isinstance(target, dict) and "properties" in target) or any(map(self._names_properties, branches))
