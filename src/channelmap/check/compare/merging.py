"""Merge two schemas into one, and prove that two schemas have no value in common."""

from collections.abc import Mapping
from typing import Any

from channelmap.check.compare.narrowing import LOWER_BOUNDS, UPPER_BOUNDS
from channelmap.check.compare.normal_form import canonical, mentions
from channelmap.validation import Schema, SchemaUnusable, Validator, unsupported

#: Keywords whose schemas judge the same value; `unevaluated…` keywords depend on them.
BRANCHES = frozenset({"allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "$ref"})
#: Keywords that can only be merged together.
_GROUPS = (
    frozenset({"items", "prefixItems"}),
    frozenset({"contains", "minContains", "maxContains"}),
    frozenset({"if", "then", "else"}),
)
_EXTRAS = frozenset({"additionalProperties", "unevaluatedProperties"})
_PROPERTY_KEYWORDS = ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties")
_REFERENCES = frozenset({"$ref"})
_TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})
_MAX_DEPTH = 6


def intersection(one: Schema, other: Schema) -> Schema:
    """Return a schema of the values that both accept."""
    if one is True or other is False:
        return other
    if other is True or one is False:
        return one
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    # Not by `==`, to which `True` equals 1.
    if canonical(one) == canonical(other):
        return one
    return merge(one, other) or {"allOf": [one, other]}


def merge_branch(schema: Mapping[str, Any], branch: Schema) -> dict[str, Any]:
    """Return a schema with a branch of `allOf` merged into it; a branch that cannot be merged stays in `allOf`.

    `unevaluatedProperties` of the schema still applies after the branch.
    """
    if isinstance(branch, bool):
        return dict(schema) if branch else {"not": {}}
    rest = {keyword: value for keyword, value in schema.items() if keyword != "unevaluatedProperties"}
    whole = merge(rest, branch)
    if whole is None or ("unevaluatedProperties" in branch and BRANCHES & rest.keys()):
        return {**schema, "allOf": [*schema.get("allOf", []), branch]}
    if "unevaluatedProperties" in schema and "additionalProperties" not in whole:
        whole["unevaluatedProperties"] = schema["unevaluatedProperties"]
    return whole


def flatten(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the branches of its `allOf` merged into it, as far as possible."""
    branches = schema.get("allOf")
    if not branches:
        return schema
    result = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
    for branch in branches:
        result = merge_branch(result, flatten(branch) if isinstance(branch, dict) else branch)
    return result


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Merge two schemas without a branch; `None` if the values of one keyword cannot be merged."""
    names = _merge_properties(one, other)
    if names is None or "unevaluatedItems" in {*one, *other}:
        return None
    for group in _GROUPS:
        parts = [{key: each[key] for key in group & each.keys()} for each in (one, other)]
        if all(parts) and canonical(parts[0]) != canonical(parts[1]):
            return None
    result = {**one, **other}
    for keyword in one.keys() & other.keys() - {*_PROPERTY_KEYWORDS}:
        value = _merge_keyword(keyword, one[keyword], other[keyword])
        if value is None:
            return None
        result[keyword] = value
    return {**{keyword: value for keyword, value in result.items() if keyword not in _PROPERTY_KEYWORDS}, **names}


def _merge_keyword(keyword: str, one: Any, other: Any) -> Any:
    """Merge two values of one keyword; `None` if only an `allOf` can express both."""
    if keyword == "required":
        return sorted({*one, *other})
    if keyword == "allOf":
        return [*one, *other]
    if keyword in LOWER_BOUNDS:
        return max(one, other)
    if keyword in UPPER_BOUNDS:
        return min(one, other)
    return one if canonical(one) == canonical(other) else None


def _merge_properties(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Merge the keywords for properties of two schemas; `None` if that is not possible."""
    rests = [_additional(each) for each in (one, other)]
    patterns = [each.get("patternProperties", {}) for each in (one, other)]
    properties = [each.get("properties", {}) for each in (one, other)]
    if rests[0] is None or rests[1] is None:
        return None
    for index, other_rest in ((0, rests[1]), (1, rests[0])):
        # `additionalProperties` does not apply to names that a pattern of its own schema matches.
        if patterns[index] and (other_rest is not True or (rests[index] is not True and properties[1 - index])):
            return None
    result: dict[str, Any] = {}
    if names := sorted(properties[0].keys() | properties[1].keys()):
        result["properties"] = {
            name: intersection(properties[0].get(name, rests[0]), properties[1].get(name, rests[1])) for name in names
        }
    if shared := sorted(patterns[0].keys() | patterns[1].keys()):
        result["patternProperties"] = {
            pattern: intersection(patterns[0].get(pattern, True), patterns[1].get(pattern, True)) for pattern in shared
        }
    if any(_EXTRAS & each.keys() for each in (one, other)):
        result["additionalProperties"] = intersection(rests[0], rests[1])
    return result


def _additional(schema: Mapping[str, Any]) -> Schema | None:
    """Return the schema of undeclared properties; `None` if branches may declare more."""
    if "unevaluatedProperties" in schema and BRANCHES & schema.keys():
        return None
    rest: Schema = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    return rest


def disjoint(one: Schema, other: Schema, depth: int = 0) -> bool:
    """Whether it is proved that no value is accepted by both; a reference counts as accepting everything."""
    if one is False or other is False:
        return True
    if isinstance(one, bool) or isinstance(other, bool) or depth > _MAX_DEPTH:
        return False
    kinds = types_of(one) & types_of(other)
    if not kinds or _excludes_values(one, other) or _excludes_values(other, one):
        return True
    if kinds == {"object"} and _properties_differ(one, other, depth):
        return True
    return _branches_differ(one, other, depth) or _branches_differ(other, one, depth)


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the JSON types that a schema may accept; an integer is a number."""
    types = schema.get("type", _TYPES)
    return frozenset(
        {"number" if kind == "integer" else kind for kind in ([types] if isinstance(types, str) else types)}
    )


def values_of(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the only values that a schema can accept, if it lists them."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _excludes_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `one` lists its values and `other` accepts none of them."""
    values = values_of(one)
    if values is None or mentions(dict(other), _REFERENCES):
        return False
    if "const" in one and isinstance(one["const"], str) and isinstance(other.get("const"), str):
        return bool(one["const"] != other["const"])
    try:
        validator = Validator(dict(other))
    except SchemaUnusable:
        return False
    return not any(validator.fits(value) or unsupported({"value": value}) for value in values)


def _properties_differ(one: Mapping[str, Any], other: Mapping[str, Any], depth: int) -> bool:
    """Whether a property that one of them requires has no value that both accept."""
    required = {*one.get("required", ()), *other.get("required", ())}
    return any(disjoint(_property(one, name), _property(other, name), depth + 1) for name in sorted(required))


def _property(schema: Mapping[str, Any], name: str) -> Schema:
    properties = schema.get("properties", {})
    if name in properties:
        return properties[name]  # type: ignore[no-any-return]
    rest = _additional(schema)
    return True if rest is None or schema.get("patternProperties") else rest


def _branches_differ(one: Mapping[str, Any], other: Schema, depth: int) -> bool:
    if any(disjoint(branch, other, depth + 1) for branch in one.get("allOf", ())):
        return True
    return any(
        all(disjoint(branch, other, depth + 1) for branch in one[keyword])
        for keyword in ("anyOf", "oneOf")
        if keyword in one
    )
