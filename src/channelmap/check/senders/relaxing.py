"""Relax a schema so that it checks only the known parts of an event."""

import json
from typing import Any

from channelmap.check.senders.literals import KnownValue
from channelmap.validation import Schema

#: Keywords that change their meaning when a schema is moved.
_POSITION_DEPENDENT = ('"$ref"', '"$dynamicRef"', '"$schema"', '"$id"', '"$anchor"', '"$dynamicAnchor"')


def relaxed(schema: Schema, known: KnownValue) -> Schema:
    """Return a weaker schema that ignores the unknown parts of an event.

    It accepts every event that `schema` accepts. An event that it rejects is therefore invalid, whatever its unknown
    parts are.

    Args:
        schema: a schema without references, as `bundle` returns it; a recursive one accepts everything here.
        known: the known parts of the event, or of the value in it that the schema judges.

    """
    if isinstance(schema, bool):
        return schema
    if known.is_known:
        return schema if _is_self_contained(schema) else True
    if "$ref" in schema or not isinstance(known.value, (dict, list)):
        return True
    kept: dict[str, Any] = {key: schema[key] for key in ("$schema", "type") if key in schema}
    if isinstance(known.value, dict):
        kept |= _relaxed_object(schema, known)
    kept["allOf"] = [relaxed(branch, known) for branch in schema.get("allOf", ())] or [True]
    return kept


def _relaxed_object(schema: dict[str, Any], known: KnownValue) -> dict[str, Any]:
    properties = schema.get("properties", {})
    kept: dict[str, Any] = {
        "properties": {
            name: relaxed(properties[name], known.parts[name]) if name in known.parts else True for name in properties
        },
        "patternProperties": dict.fromkeys(schema.get("patternProperties", ()), True),
    }
    if schema.get("additionalProperties") is False:
        kept["additionalProperties"] = False
    if "required" in schema and not known.is_open:
        kept["required"] = schema["required"]
    return kept


def _is_self_contained(schema: dict[str, Any]) -> bool:
    text = json.dumps(schema)
    return not any(keyword in text for keyword in _POSITION_DEPENDENT)
