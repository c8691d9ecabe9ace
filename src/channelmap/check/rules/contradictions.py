"""Explain why a schema accepts nothing: find the keywords that exclude each other, in simple cases."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from channelmap.errors import did_you_mean, quoted
from channelmap.pointers import Pointer
from channelmap.validation import Mismatch, Schema, SchemaUnusable, Validator, with_type
from channelmap.validation.algebra import satisfiability

_BOUNDS = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
)


#: Keywords that can forbid undeclared properties, with the keywords that they depend on.
_CLOSING = (
    "propertyNames",
    "maxProperties",
    "dependentSchemas",
    "dependentRequired",
    "unevaluatedProperties",
    "if",
    "not",
)
_DEPENDS_ON = {
    "if": ("then", "else"),
    "maxProperties": ("required",),
    "dependentRequired": ("properties",),
    "unevaluatedProperties": ("properties", "patternProperties"),
}
_DECLARE = "each event carries its type: declare 'type' there"


class Contradiction(NamedTuple):
    """The part of a schema that excludes every value: a pointer to it, the reason, and a hint."""

    pointer: Pointer
    reason: str
    hint: str = ""


def find_contradiction(schema: Schema) -> Contradiction:
    """Return the reason why a schema accepts no value."""
    if isinstance(schema, bool):
        return Contradiction((), "it is false")
    for reason in (_bounds, _values, _required):
        found = reason(schema)
        if found is not None:
            return found
    if "oneOf" in schema and satisfiability(schema) == "no" and _overlaps(schema):
        return Contradiction(("oneOf",), "what matches one alternative of 'oneOf' matches another one too")
    return Contradiction((), "its keywords exclude each other")


def _overlaps(schema: dict[str, Any]) -> bool:
    """Whether a schema would accept something if more than one alternative of its `oneOf` might match."""
    looser = {keyword: value for keyword, value in schema.items() if keyword != "oneOf"}
    alternatives = {"anyOf": schema["oneOf"]}
    return satisfiability({**looser, "allOf": [*schema.get("allOf", ()), alternatives]}) == "yes"


def _bounds(schema: dict[str, Any]) -> Contradiction | None:
    for low, high in _BOUNDS:
        if low in schema and high in schema and schema[low] > schema[high]:
            return Contradiction((low,), f"{quoted(low)} {schema[low]} is above {quoted(high)} {schema[high]}")
    return None


def _values(schema: dict[str, Any]) -> Contradiction | None:
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    keyword = "const" if "const" in schema else "enum"
    if not values:
        return None
    try:
        validator = Validator(schema)
    except SchemaUnusable:
        return None
    refusals = [validator.mismatches(value, 1) for value in values]
    if not all(refusals):
        return None
    others = sorted({quoted(refusal[0].keyword) for refusal in refusals} - {quoted(keyword)})
    return Contradiction((keyword,), f"{quoted(keyword)} holds nothing that {' and '.join(others)} would accept")


def _required(schema: dict[str, Any]) -> Contradiction | None:
    properties = schema.get("properties", {})
    is_closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    for index, name in enumerate(schema.get("required", ())):
        if name in properties and satisfiability(properties[name]) == "no":
            inner = find_contradiction(properties[name])
            return Contradiction(
                ("properties", name, *inner.pointer), f"it requires {quoted(name)}, where {inner.reason}"
            )
        if is_closed and name not in properties:
            hint = did_you_mean(name, properties)
            return Contradiction(("required", index), f"it requires {quoted(name)}, which it does not allow", hint)
    return None


def find_event_contradiction(schema: Schema, bundled: Schema, name: str) -> Contradiction:
    """Return the reason why a schema accepts no event of a type.

    Args:
        schema: the schema as it was written.
        bundled: the same with its references pulled in.
        name: the event's type.

    """
    schema = with_type(schema)
    conjuncts = list(_conjuncts(schema))
    for pointer, conjunct in conjuncts:
        found = _no_object(conjunct) or _other_type(conjunct, name) or _required(conjunct)
        if found is not None:
            return found._replace(pointer=(*pointer, *found.pointer))
    for pointer, conjunct in conjuncts:
        if "$ref" in conjunct and any(map(_is_closed_to_type, _conjuncts_at(bundled, pointer))):
            reason = "what it refers to is closed, and has no property 'type'"
            return Contradiction((*pointer, "$ref"), reason, "declare 'type' there")
    if isinstance(schema, dict) and isinstance(bundled, dict):
        return (
            _in_patterns(bundled, name)
            or _in_alternatives(schema, bundled, name)
            or _keyword_excludes_type(bundled, name)
            or find_contradiction(schema)
        )
    return find_contradiction(schema)


def _keyword_excludes_type(bundled: dict[str, Any], name: str) -> Contradiction | None:
    """Return the keyword that excludes the property `type`; None if the schema accepts no object without it either."""
    untyped = {"type": "object", "not": {"required": ["type"]}}
    required = [other for other in bundled.get("required", ()) if other != "type"]
    if satisfiability({**bundled, "required": required, "allOf": [*bundled.get("allOf", ()), untyped]}) != "yes":
        return None
    for pointer, conjunct in _conjuncts(bundled):
        for keyword in filter(conjunct.__contains__, _CLOSING):
            alone = {other: conjunct[other] for other in (keyword, *_DEPENDS_ON.get(keyword, ())) if other in conjunct}
            if rejects_all(alone, name):
                return Contradiction((*pointer, keyword), f"{quoted(keyword)} leaves no room for 'type'", _DECLARE)
    return Contradiction((), "it accepts no object that has the property 'type'", _DECLARE)


def _in_patterns(bundled: dict[str, Any], name: str) -> Contradiction | None:
    for pattern, values in bundled.get("patternProperties", {}).items():
        if not Validator({"pattern": pattern}).mismatches("type") and (refused := _mismatch(values, name)):
            reason = f"'patternProperties' takes in 'type', which {refused.message}"
            return Contradiction(("patternProperties", pattern), reason, "let the pattern leave out 'type'")
    return None


def _in_alternatives(schema: dict[str, Any], bundled: dict[str, Any], name: str) -> Contradiction | None:
    """Return why the first alternative accepts no event, if none does; the others are often similar."""
    for keyword in ("anyOf", "oneOf"):
        alternatives = bundled.get(keyword, [True]) if keyword in schema else [True]
        if all(rejects_all(alternative, name) for alternative in alternatives):
            inner = find_event_contradiction(schema[keyword][0], alternatives[0], name)
            reason = f"no alternative of {quoted(keyword)} accepts one; in the first, {inner.reason}"
            return Contradiction((keyword, 0, *inner.pointer), reason, inner.hint)
    return None


def rejects_all(bundled: Schema, name: str) -> bool:
    """Whether a schema without references is proved to reject every event of a type."""
    if isinstance(bundled, bool):
        return not bundled
    typed = {"type": "object", "required": ["type"], "properties": {"type": {"const": name}}}
    return satisfiability({**bundled, "allOf": [*bundled.get("allOf", ()), typed]}) == "no"


def _conjuncts_at(schema: Schema, pointer: Pointer) -> list[dict[str, Any]]:
    return [conjunct for below, conjunct in _conjuncts(schema) if below[: len(pointer)] == pointer]


def _conjuncts(schema: Schema) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    """Yield the schemas that an event must all match."""
    if isinstance(schema, dict):
        yield (), schema
        for index, branch in enumerate(schema.get("allOf", ())):
            yield from ((("allOf", index, *pointer), conjunct) for pointer, conjunct in _conjuncts(branch))


def _no_object(schema: dict[str, Any]) -> Contradiction | None:
    types = schema.get("type", "object")
    if "object" in ([types] if isinstance(types, str) else types):
        return None
    return Contradiction(("type",), "an event is an object", "write 'object'")


def _other_type(schema: dict[str, Any], name: str) -> Contradiction | None:
    refused = _mismatch(schema.get("properties", {}).get("type", True), name)
    if refused is None:
        return None
    hint = f"write {quoted(name)}" if refused.keyword in {"const", "enum"} else ""
    return Contradiction(("properties", "type", refused.keyword), f"'type' {refused.message}", hint)


def _mismatch(schema: Schema, value: str) -> Mismatch | None:
    try:
        found = Validator(schema).mismatches(value, 1)
    except SchemaUnusable:
        return None
    return found[0] if found else None


def _is_closed_to_type(schema: dict[str, Any]) -> bool:
    return schema.get("additionalProperties") is False and "type" not in schema.get("properties", {})
