"""Alternatives that a constant tells apart, such as a `kind`: each can be judged for itself.

The engine's algebra gives up on more than a handful of alternatives, and is slow where exactly one must match.
"""

from collections.abc import Sequence
from typing import Any

from channelmap.compare.normal import is_draft_7
from channelmap.validation import Schema
from channelmap.validation.structure import Pointer, rebuilt

#: These mean something else beside other keywords.
_LOOKING_ASIDE = frozenset(
    {"additionalProperties", "unevaluatedProperties", "items", "prefixItems", "unevaluatedItems"}
    | {"contains", "minContains", "maxContains", "if", "then", "else"}
)


def exclusive(schema: Schema) -> Schema:
    """Return a schema of whole events, in its form, with `anyOf` where the branches of a `oneOf` exclude each other."""
    if isinstance(schema, bool) or is_draft_7(schema):
        return schema
    return _rewritten((), {**schema, "type": schema.get("type", "object")})


def cases(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Split a schema whose alternatives a constant tells apart, by that constant; empty where there are none.

    A value that the schema accepts is accepted by one of the cases, and the other way round.
    """
    branches = schema.get("anyOf", ())
    tags = _tags(branches, schema)
    if not tags:
        return {}
    rest = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return {tag: _joined(rest, branch) for tag, branch in zip(tags, branches, strict=True)}


def _rewritten(_: Pointer, schema: Schema) -> Schema:
    if isinstance(schema, bool):
        return schema
    result = rebuilt(schema, _rewritten)
    branches = result.get("oneOf", ())
    # What is no object has no properties to tell it apart by.
    objects = result.get("type") == "object" or all(_is_object(branch) for branch in branches)
    if branches and objects and "anyOf" not in result and _tags(branches, result):
        result["anyOf"] = result.pop("oneOf")
    return result


def _is_object(schema: Schema) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "object"


def _tags(branches: Sequence[Schema], around: dict[str, Any]) -> list[str]:
    """Find the texts of a property that every branch requires, each another one; none where there is no such."""
    known = [branch for branch in branches if isinstance(branch, dict) and "properties" in branch]
    if len(known) < 2 or len(known) < len(branches):
        return []
    for name in sorted(known[0]["properties"]):
        parts = [branch["properties"].get(name) for branch in known]
        required = all(name in (*branch.get("required", ()), *around.get("required", ())) for branch in known)
        constants = [part.get("const") for part in parts if isinstance(part, dict)]
        tags = [constant for constant in constants if isinstance(constant, str)]
        if required and len(set(tags)) == len(known):
            return tags
    return []


def _joined(rest: dict[str, Any], branch: dict[str, Any]) -> dict[str, Any]:
    """Put a branch into what is around it where that says the same, and beside it where it might not."""
    clash = any(rest[key] != branch[key] for key in rest.keys() & branch.keys() - {"properties", "required"})
    looks_aside = "additionalProperties" in rest or _LOOKING_ASIDE & branch.keys()
    if clash or looks_aside:
        return {**rest, "allOf": [*rest.get("allOf", []), branch]}
    outer, inner = rest.get("properties", {}), branch["properties"]
    shared = {name: _both(outer[name], inner[name]) for name in outer.keys() & inner.keys()}
    required = sorted({*rest.get("required", ()), *branch.get("required", ())})
    return {**rest, **branch, "properties": {**outer, **inner, **shared}, "required": required}


def _both(one: Schema, other: Schema) -> Schema:
    return other if one is True else one if other is True else {"allOf": [one, other]}
