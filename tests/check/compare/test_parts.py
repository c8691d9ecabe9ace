"""Proofs part by part are valid for the whole schema."""

from typing import Any

import pytest

from channelmap.check.compare.parts import covers_as_a_whole, covers_in_parts, is_simple

NODE = {"properties": {"n": {"$ref": "#/$defs/node"}}}
DEFINED = {"$defs": {"node": NODE}}


def test_a_recursive_schema_covers_a_similar_one() -> None:
    wider = {"properties": {"n": {"$ref": "#/$defs/node"}, "more": {}}}
    assert covers_in_parts({**NODE, **DEFINED}, {**NODE, "$defs": {"node": wider}})


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (
            {**NODE, **DEFINED, "additionalProperties": False},
            {**NODE, **DEFINED, "allOf": [{"properties": {"b": {}}}], "unevaluatedProperties": False},
        ),
        (
            {"type": "array", "prefixItems": [{}], "maxItems": 0},
            {"type": "array", "prefixItems": [{}], "unevaluatedItems": False},
        ),
        ({**NODE, "$defs": {"node": {**NODE, "type": "object"}}}, {**NODE, **DEFINED}),
        ({**NODE, **DEFINED, "required": ["n"]}, {**NODE, **DEFINED}),
        ({**NODE, **DEFINED, "patternProperties": {"^a": {"type": "string"}}}, {**NODE, **DEFINED}),
        ({**NODE, "$defs": {"node": False}}, {**NODE, **DEFINED}),
        (
            {"$ref": "#/$defs/node", "$defs": {"node": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "integer"}]}}},
            {"type": "string"},
        ),
    ],
    ids=[
        "branches that name properties",
        "unevaluated items",
        "another definition",
        "required",
        "patterns",
        "nothing",
        "itself",
    ],
)
def test_a_schema_that_does_not_cover_another_is_not_proved_to(wide: Any, narrow: Any) -> None:
    assert not covers_in_parts(wide, narrow)


def test_schemas_that_would_take_the_algebra_minutes_are_not_given_to_it() -> None:
    many = {"allOf": [{"anyOf": [{"required": [f"a{index}"]}, {"required": ["b"]}]} for index in range(40)]}
    large = {"properties": {f"p{index}": {"type": "integer"} for index in range(1_000)}}
    assert not is_simple(many)
    assert not is_simple(large)
    assert covers_as_a_whole(many, many) == covers_as_a_whole(large, large) == "unknown"
    assert covers_as_a_whole({"type": "number"}, {"type": "integer"}) == "yes"
