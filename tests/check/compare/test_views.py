"""The declared view accepts only events that the schema accepts, and replacing an exclusive `oneOf` changes nothing."""

from typing import Any

import pytest

from channelmap.check.compare.unions import cases, replace_exclusive_one_of
from channelmap.check.compare.views import declared_view
from channelmap.validation import Validator

AB = {"properties": {"a": {"properties": {"b": {}}}}, "required": ["a"]}
STRAY = {"a": {"b": 1, "stray": 1}}


@pytest.mark.parametrize(
    ("schema", "event"),
    [
        ({"not": AB}, STRAY),
        ({"if": AB, "then": False}, STRAY),
        ({"oneOf": [AB, {"required": ["a"]}]}, STRAY),
        (
            {"properties": {"l": {"contains": {"properties": {"b": {}}, "required": ["b"]}, "maxContains": 1}}},
            {"l": [{"b": 1}, {"b": 1, "stray": 1}]},
        ),
    ],
    ids=["not", "if", "oneOf", "contains"],
)
def test_the_declared_view_never_accepts_more(schema: Any, event: Any) -> None:
    assert not Validator(schema).is_valid(event)
    assert not Validator(declared_view(schema)).is_valid(event)


@pytest.mark.parametrize(
    ("schema", "event", "is_described"),
    [
        ({"properties": {"a": {}}}, {"a": 1, "stray": 1}, False),
        ({"properties": {"a": {}}, "additionalProperties": True}, {"a": 1, "stray": 1}, False),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, {"a": 1, "stray": 1}, True),
        ({"properties": {"m": {"type": "object", "additionalProperties": True}}}, {"m": {"stray": 1}}, True),
        (
            {"properties": {"v": {"anyOf": [{"properties": {"a": {}}, "additionalProperties": True}]}}},
            {"v": {"a": 1, "stray": 1}},
            False,
        ),
        (
            {"properties": {"v": {"anyOf": [{"additionalProperties": True}, {"properties": {"a": {}}}]}}},
            {"v": {"stray": 1}},
            True,
        ),
        ({"properties": {"a": {}}, "patternProperties": {"^s": {}}}, {"a": 1, "stray": 1}, True),
        ({"properties": {"type": True}}, {"stray": 1}, True),
        ({"properties": {"type": {"const": "t"}}}, {"type": "t", "stray": 1}, False),
        ({"properties": {"type": True}, "allOf": [{"properties": {"a": {}}}]}, {"a": 1}, True),
        ({"properties": {"type": True}, "allOf": [{"properties": {"a": {}}}]}, {"stray": 1}, False),
        ({"properties": {"l": {"items": AB}}}, {"l": [STRAY]}, False),
        ({"properties": {"l": {"prefixItems": [AB]}}}, {"l": [STRAY]}, False),
        ({"properties": {"o": {"additionalProperties": AB}}}, {"o": {"x": STRAY}}, False),
        (
            {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}}}},
            {"n": {"n": {"stray": 1}}},
            False,
        ),
    ],
)
def test_the_declared_view_is_closed_where_the_schema_names_properties(
    schema: Any, event: Any, *, is_described: bool
) -> None:
    assert Validator(schema).is_valid(event)
    assert Validator(declared_view(schema)).is_valid(event) is is_described


def kind(name: str, *required: str, **more: Any) -> dict[str, Any]:
    return {"properties": {"kind": {"const": name}, "n": {"type": "integer"}}, "required": ["kind", *required], **more}


EVENTS: list[Any] = [
    {},
    {"kind": "a"},
    {"kind": "b"},
    {"kind": "c"},
    {"kind": "a", "n": 1},
    {"kind": "a", "n": "x"},
    {"kind": "b", "x": 1},
    {"kind": "a", "x": 1},
    {"kind": "a", "n": 1, "x": "y"},
]


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [kind("a"), kind("b")]},
        {"oneOf": [kind("a", "n"), kind("b", additionalProperties=False)]},
        {"oneOf": [kind("a"), kind("b", unevaluatedProperties=False)], "properties": {"x": {"type": "integer"}}},
        {"oneOf": [kind("a"), kind("b")], "additionalProperties": False, "properties": {"kind": {}, "x": {}}},
        {"oneOf": [kind("a"), kind("b")], "unevaluatedProperties": False, "properties": {"x": {"type": "integer"}}},
        {"oneOf": [kind("a", minProperties=1), kind("b")], "minProperties": 2},
        {"oneOf": [kind("a"), kind("b")], "properties": {"n": {"minimum": 5}}, "required": ["n"]},
    ],
)
def test_alternatives_with_different_constants_may_be_compared_one_by_one(schema: Any) -> None:
    together, split = Validator({"type": "object", **schema}), cases(replace_exclusive_one_of(schema), "anyOf")  # type: ignore[arg-type]
    assert len(split) == 2
    each = [Validator(case) for case in split]
    for event in EVENTS:
        assert together.is_valid(event) == any(validator.is_valid(event) for validator in each)


@pytest.mark.parametrize(
    "branches",
    [
        [kind("a"), kind("a", "n")],
        [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}}],
        [kind("a"), {"required": ["kind"]}],
        [{**kind("a"), "properties": {"kind": {"const": 1}}}, {**kind("b"), "properties": {"kind": {"const": 1.0}}}],
    ],
    ids=["the same", "not required", "not a constant", "equal numbers"],
)
def test_alternatives_that_may_match_together_stay_exclusive(branches: Any) -> None:
    schema = replace_exclusive_one_of({"oneOf": branches})
    assert isinstance(schema, dict)
    assert "oneOf" in schema


def test_alternatives_with_different_properties_are_not_exclusive_unless_they_are_objects() -> None:
    schema = replace_exclusive_one_of({"properties": {"v": {"oneOf": [kind("a"), kind("b")]}}})
    assert not Validator(schema).is_valid({"v": "neither is told apart, so both match"})
