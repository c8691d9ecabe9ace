"""Alternatives that exclude each other, such as those of a `kind` or of a type: each can be judged for itself.

The engine's algebra gives up on more than a handful of alternatives, and is slow where exactly one must match.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from channelmap.check.compare.merging import absorbed, disjoint
from channelmap.check.compare.normal import is_draft_7
from channelmap.pointers import Pointer
from channelmap.validation import Schema
from channelmap.validation.structure import map_children

#: Each is compared with each.
_MOST_BRANCHES = 200


def exclusive(schema: Schema) -> Schema:
    """Return a schema of whole events, in its form, with `anyOf` where the branches of a `oneOf` exclude each other."""
    if isinstance(schema, bool) or is_draft_7(schema):
        return schema
    return _rewritten((), {**schema, "type": schema.get("type", "object")})


def cases(schema: Mapping[str, Any], keyword: str) -> list[dict[str, Any]]:
    """Return a schema once for each of its alternatives.

    A value that the schema accepts is accepted by one of the cases; of `anyOf`, the other way round too.
    """
    rest = {key: value for key, value in schema.items() if key != keyword}
    return [absorbed(rest, branch) for branch in schema[keyword]]


def _rewritten(_: Pointer, schema: Schema) -> Schema:
    if isinstance(schema, bool):
        return schema
    result = map_children(schema, _rewritten)
    if "oneOf" in result and "anyOf" not in result and _exclude_each_other(result["oneOf"], result):
        result["anyOf"] = result.pop("oneOf")
    return result


def _exclude_each_other(branches: Sequence[Schema], around: Mapping[str, Any]) -> bool:
    if len(branches) > _MOST_BRANCHES:
        return False
    return all(disjoint(*pair) for pair in combinations([_within(branch, around) for branch in branches], 2))


def _within(branch: Schema, around: Mapping[str, Any]) -> Schema:
    """Return a branch with the type and the required properties that the schema around it asks for."""
    if isinstance(branch, bool):
        return branch
    result = {**branch, "required": [*branch.get("required", ()), *around.get("required", ())]}
    return {"type": around["type"], **result} if "type" in around else result
