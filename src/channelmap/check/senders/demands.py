"""What a schema demands of an event of which only a part is known."""

import json
from typing import Any

from channelmap.check.senders.literals import Known
from channelmap.validation import Schema

#: What only means the same where it stands: it may lead back up, or change how all below it is read.
_ROOTED = ('"$ref"', '"$dynamicRef"', '"$schema"', '"$id"', '"$anchor"', '"$dynamicAnchor"')


def demands(schema: Schema, known: Known) -> Schema:
    """Return the part of a schema that does not depend on what is not known.

    Every event that the schema accepts is accepted by the result, and whether a value is accepted by it does not
    depend on what stands for its unknown parts. So what breaks it breaks the schema, whatever those parts are.

    Args:
        schema: without references, as `bundle` returns it; what refers to itself is taken for whatever it may be.
        known: what is known of the event, or of the value in it that the schema is about.

    """
    if isinstance(schema, bool):
        return schema
    if known.is_known:
        return schema if _stands_alone(schema) else True
    if "$ref" in schema or not isinstance(known.value, (dict, list)):
        return True
    kept: dict[str, Any] = {key: schema[key] for key in ("$schema", "type") if key in schema}
    if isinstance(known.value, dict):
        kept |= _of_object(schema, known)
    kept["allOf"] = [demands(branch, known) for branch in schema.get("allOf", ())] or [True]
    return kept


def _of_object(schema: dict[str, Any], known: Known) -> dict[str, Any]:
    properties = schema.get("properties", {})
    kept: dict[str, Any] = {
        "properties": {
            name: demands(properties[name], known.parts[name]) if name in known.parts else True for name in properties
        },
        "patternProperties": dict.fromkeys(schema.get("patternProperties", ()), True),
    }
    if schema.get("additionalProperties") is False:
        kept["additionalProperties"] = False
    if "required" in schema and not known.is_open:
        kept["required"] = schema["required"]
    return kept


def _stands_alone(schema: dict[str, Any]) -> bool:
    text = json.dumps(schema)
    return not any(keyword in text for keyword in _ROOTED)
