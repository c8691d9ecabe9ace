"""Split unions into alternatives that exclude each other, such as by a `kind`, so that each can be compared alone.

The engine's algebra gives up on more than a few alternatives, and is slow for `oneOf`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from channelmap.check.compare.merging import disjoint, merge_branch
from channelmap.check.compare.normal_form import is_draft_7
from channelmap.pointers import Pointer
from channelmap.validation import Schema
from channelmap.validation.structure import map_children

#: Each branch is compared with each other one.
_MAX_BRANCHES = 200


def replace_exclusive_one_of(schema: Schema) -> Schema:
    """Replace `oneOf` by `anyOf` where its branches exclude each other, in a schema of whole events in normal form."""
    if isinstance(schema, bool) or is_draft_7(schema):
        return schema
    return _rewritten((), {**schema, "type": schema.get("type", "object")})


def cases(schema: Mapping[str, Any], keyword: str) -> list[dict[str, Any]]:
    """Return one schema for each alternative, merged with the rest of the schema.

    A value that the schema accepts is accepted by one of them; for `anyOf`, the converse holds too.
    """
    rest = {key: value for key, value in schema.items() if key != keyword}
    return [merge_branch(rest, branch) for branch in schema[keyword]]


def _rewritten(_: Pointer, schema: Schema) -> Schema:
    if isinstance(schema, bool):
        return schema
    result = map_children(schema, _rewritten)
    if "oneOf" in result and "anyOf" not in result and _exclude_each_other(result["oneOf"], result):
        result["anyOf"] = result.pop("oneOf")
    return result


def _exclude_each_other(branches: Sequence[Schema], around: Mapping[str, Any]) -> bool:
    if len(branches) > _MAX_BRANCHES:
        return False
    return all(disjoint(*pair) for pair in combinations([_within(branch, around) for branch in branches], 2))


def _within(branch: Schema, around: Mapping[str, Any]) -> Schema:
    """Return a branch with the type and the required properties of the schema around it."""
    if isinstance(branch, bool):
        return branch
    result = {**branch, "required": [*branch.get("required", ()), *around.get("required", ())]}
    return {"type": around["type"], **result} if "type" in around else result
