"""Two schemas of one value as a single one, and whether two schemas have no value in common."""

from collections.abc import Mapping
from typing import Any

from channelmap.check.compare.limits import DOWN, UP
from channelmap.check.compare.normal import canonical, mentions
from channelmap.validation import Schema, SchemaUnusable, Validator, unsupported

#: Keywords that judge the same value by further schemas: what is *unevaluated* depends on them.
BRANCHES = frozenset({"allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "$ref"})
#: Keywords that mean something only together.
_GROUPS = (
    frozenset({"items", "prefixItems"}),
    frozenset({"contains", "minContains", "maxContains"}),
    frozenset({"if", "then", "else"}),
)
_EXTRAS = frozenset({"additionalProperties", "unevaluatedProperties"})
_OF_NAMES = ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties")
_REFERENCES = frozenset({"$ref"})
_KINDS = frozenset({"null", "boolean", "number", "string", "array", "object"})
_MAX_DEPTH = 6


def both(one: Schema, other: Schema) -> Schema:
    """Return a schema of the values that both accept."""
    if one is True or other is False:
        return other
    if other is True or one is False:
        return one
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    # Not by `==`, to which true is 1.
    if canonical(one) == canonical(other):
        return one
    return merged(one, other) or {"allOf": [one, other]}


def absorbed(schema: Mapping[str, Any], branch: Schema) -> dict[str, Any]:
    """Return a schema with a branch of its `allOf` written into it, or left there where that is not possible.

    What is *unevaluated* in the schema is so after the branch.
    """
    if isinstance(branch, bool):
        return dict(schema) if branch else {"not": {}}
    rest = {keyword: value for keyword, value in schema.items() if keyword != "unevaluatedProperties"}
    whole = merged(rest, branch)
    if whole is None or ("unevaluatedProperties" in branch and BRANCHES & rest.keys()):
        return {**schema, "allOf": [*schema.get("allOf", []), branch]}
    if "unevaluatedProperties" in schema and "additionalProperties" not in whole:
        whole["unevaluatedProperties"] = schema["unevaluatedProperties"]
    return whole


def flat(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with all branches of its `allOf` written into it that can be."""
    branches = schema.get("allOf")
    if not branches:
        return schema
    result = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
    for branch in branches:
        result = absorbed(result, flat(branch) if isinstance(branch, dict) else branch)
    return result


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the two as one schema without a branch; `None` where they say different things by one keyword."""
    names = _names(one, other)
    if names is None or "unevaluatedItems" in {*one, *other}:
        return None
    for group in _GROUPS:
        parts = [{key: each[key] for key in group & each.keys()} for each in (one, other)]
        if all(parts) and canonical(parts[0]) != canonical(parts[1]):
            return None
    result = {**one, **other}
    for keyword in one.keys() & other.keys() - {*_OF_NAMES}:
        value = _one_value(keyword, one[keyword], other[keyword])
        if value is None:
            return None
        result[keyword] = value
    return {**{keyword: value for keyword, value in result.items() if keyword not in _OF_NAMES}, **names}


def _one_value(keyword: str, one: Any, other: Any) -> Any:
    """Put together what two schemas say by one keyword; `None` where only a branch can say both."""
    if keyword == "required":
        return sorted({*one, *other})
    if keyword == "allOf":
        return [*one, *other]
    if keyword in UP:
        return max(one, other)
    if keyword in DOWN:
        return min(one, other)
    return one if canonical(one) == canonical(other) else None


def _names(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Put together what two schemas say of the names of properties; `None` where that is not possible."""
    rests = [_rest(each) for each in (one, other)]
    patterns = [each.get("patternProperties", {}) for each in (one, other)]
    properties = [each.get("properties", {}) for each in (one, other)]
    if rests[0] is None or rests[1] is None:
        return None
    for index, other_rest in ((0, rests[1]), (1, rests[0])):
        # A name that a pattern matches is not left to `additionalProperties` of its own schema.
        if patterns[index] and (other_rest is not True or (rests[index] is not True and properties[1 - index])):
            return None
    result: dict[str, Any] = {}
    if names := sorted(properties[0].keys() | properties[1].keys()):
        result["properties"] = {
            name: both(properties[0].get(name, rests[0]), properties[1].get(name, rests[1])) for name in names
        }
    if shared := sorted(patterns[0].keys() | patterns[1].keys()):
        result["patternProperties"] = {
            pattern: both(patterns[0].get(pattern, True), patterns[1].get(pattern, True)) for pattern in shared
        }
    if any(_EXTRAS & each.keys() for each in (one, other)):
        result["additionalProperties"] = both(rests[0], rests[1])
    return result


def _rest(schema: Mapping[str, Any]) -> Schema | None:
    """Return the schema of names that a schema does not declare; `None` where branches may declare more."""
    if "unevaluatedProperties" in schema and BRANCHES & schema.keys():
        return None
    rest: Schema = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    return rest


def disjoint(one: Schema, other: Schema, depth: int = 0) -> bool:
    """Whether it is proved that no value is accepted by both; a reference is taken to accept everything."""
    if one is False or other is False:
        return True
    if isinstance(one, bool) or isinstance(other, bool) or depth > _MAX_DEPTH:
        return False
    kinds = kinds_of(one) & kinds_of(other)
    if not kinds or _no_value(one, other) or _no_value(other, one):
        return True
    if kinds == {"object"} and _properties_differ(one, other, depth):
        return True
    return _branches_differ(one, other, depth) or _branches_differ(other, one, depth)


def kinds_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the JSON types that a schema may accept; an integer is a number."""
    types = schema.get("type", _KINDS)
    return frozenset(
        {"number" if kind == "integer" else kind for kind in ([types] if isinstance(types, str) else types)}
    )


def values_of(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the only values that a schema can accept, where it lists them."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _no_value(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one lists its values, and the other accepts none of them."""
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
    """Whether a property that one of them requires cannot fit both."""
    required = {*one.get("required", ()), *other.get("required", ())}
    return any(disjoint(_property(one, name), _property(other, name), depth + 1) for name in sorted(required))


def _property(schema: Mapping[str, Any], name: str) -> Schema:
    properties = schema.get("properties", {})
    if name in properties:
        return properties[name]  # type: ignore[no-any-return]
    rest = _rest(schema)
    return True if rest is None or schema.get("patternProperties") else rest


def _branches_differ(one: Mapping[str, Any], other: Schema, depth: int) -> bool:
    if any(disjoint(branch, other, depth + 1) for branch in one.get("allOf", ())):
        return True
    return any(
        all(disjoint(branch, other, depth + 1) for branch in one[keyword])
        for keyword in ("anyOf", "oneOf")
        if keyword in one
    )
