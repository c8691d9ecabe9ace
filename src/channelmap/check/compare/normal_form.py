"""The normal form of schemas: only keywords that decide about an event, in draft 2020-12, in a fixed order.

Two schemas with the same normal form accept the same events, whatever their descriptions, comments and order.
"""

import hashlib
import json
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from channelmap.validation import BASE_URI, DIALECTS, Schema
from channelmap.validation.structure import children, map_children

_DRAFT_7 = DIALECTS[1]
#: Keywords that decide, in draft 2020-12.
_DECIDING = frozenset(
    {"$ref", "$defs", "type", "const", "enum", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"}
    | {"required", "properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"}
    | {"minProperties", "maxProperties", "dependentRequired", "dependentSchemas"}
    | {"items", "prefixItems", "unevaluatedItems", "minItems", "maxItems", "uniqueItems"}
    | {"contains", "minContains", "maxContains", "minLength", "maxLength", "pattern", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
#: Formats that draft-07 does not assert.
_FORMATS_UNKNOWN_TO_7 = frozenset({"uuid", "duration"})
#: The engine asserts these in draft-07 only, so a schema that has them cannot be converted to 2020-12.
_ONLY_IN_7 = frozenset({"contentEncoding", "contentMediaType"})
#: The engine obeys `dependencies` in 2020-12 too.
_KNOWN_TO_2020 = _DECIDING | {"dependencies"}
_KNOWN_TO_7 = (
    _KNOWN_TO_2020
    - {"prefixItems", "unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas"}
    - {"minContains", "maxContains"}
    | _ONLY_IN_7
    | {"additionalItems"}
)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """Return the canonical text of a JSON value: equal values have equal texts."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical text of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def opaque_reference(value: Any) -> Schema:
    """Return a reference for a schema that cannot be bundled: it only shows whether the schema has changed."""
    return {"$ref": f"{BASE_URI}entangled/{digest(value)}"}


def is_draft_7(schema: Schema) -> bool:
    """Whether a schema in normal form is still of draft-07, because it cannot be converted."""
    return isinstance(schema, dict) and "$schema" in schema


def mentions(schema: Schema, keywords: AbstractSet[str]) -> bool:
    """Whether a schema, or one in it, has one of the keywords."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if not keywords.isdisjoint(value):
                return True
            waiting += [child for _, child in children(value)]
    return False


def normalize(schema: Schema) -> Schema:
    """Return the normal form of a schema without references to other documents."""
    if isinstance(schema, bool):
        return schema
    if str(schema.get("$schema", "")).removesuffix("#") != _DRAFT_7:
        return _reduced(schema, _KNOWN_TO_2020, _split)
    if not mentions(schema, _ONLY_IN_7):
        return _reduced(schema, _KNOWN_TO_7, _from_7)
    left = _reduced(schema, _KNOWN_TO_7, dict)
    return {"$schema": _DRAFT_7, **left} if isinstance(left, dict) else left


def _reduced(schema: Schema, known: AbstractSet[str], rewritten: Callable[[dict[str, Any]], dict[str, Any]]) -> Schema:
    if isinstance(schema, bool):
        return schema
    kept = {keyword: value for keyword, value in schema.items() if keyword in known}
    # From the inside out, because a rewritten schema is of another draft.
    result = rewritten(map_children(kept, lambda _, child: _reduced(child, known, rewritten)))
    for keyword in ("required", "type", "enum"):
        if isinstance(result.get(keyword), list) and len(result[keyword]) > 1:
            result[keyword].sort(key=canonical)
    return dict(sorted(result.items())) or True


def _from_7(schema: dict[str, Any]) -> dict[str, Any]:
    result = _split(schema)
    if result.get("format") in _FORMATS_UNKNOWN_TO_7:
        del result["format"]
    rest = result.pop("additionalItems", True)
    if isinstance(result.get("items"), list):
        result |= {"prefixItems": result["items"], "items": rest}
    return result


def _split(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace `dependencies` by the keywords of 2020-12, in branches of `allOf`."""
    branches = [
        {"dependentRequired" if isinstance(dependency, list) else "dependentSchemas": {name: dependency}}
        for name, dependency in schema.pop("dependencies", {}).items()
    ]
    return {**schema, "allOf": [*schema.get("allOf", []), *branches]} if branches else schema
