"""The adapter to the engine's set algebra: its proofs, and the schemas for which it is not used."""

import pytest

from channelmap.validation import Schema
from channelmap.validation.algebra import covers, satisfiability, unsatisfiable_parts

NAMED: Schema = {
    "$defs": {"name": {"type": "string", "minLength": 2}},
    "properties": {"name": {"$ref": "#/$defs/name"}},
}
TREE: Schema = {"anyOf": [{"properties": {"next": {"$ref": "#"}}, "required": ["name"]}, {"required": ["next"]}]}
MUTUALLY_RECURSIVE: Schema = {
    "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}},
    "$ref": "#/$defs/a",
}
SELF_REFERENCE: Schema = {"properties": {"x": {"items": {"$ref": "#/properties/x"}}}}


def test_schemas_with_references_to_their_own_definitions_are_compared() -> None:
    assert covers(NAMED, {"properties": {"name": {"type": "string", "minLength": 3}}}) == "yes"
    assert covers({"properties": {"name": {"type": "string", "minLength": 3}}}, NAMED) == "no"


@pytest.mark.parametrize(
    "schema", [TREE, MUTUALLY_RECURSIVE, SELF_REFERENCE, {"$dynamicRef": "#a"}, {"$ref": "#anchor"}]
)
def test_a_recursive_schema_is_never_given_to_the_set_algebra(schema: Schema) -> None:
    assert covers(schema, schema) == "unknown"
    assert satisfiability(schema) == "unknown"
    assert unsatisfiable_parts(schema) == {}


def test_unsatisfiable_parts_are_found_with_their_pointer() -> None:
    schema: Schema = {"properties": {"id": {"type": "integer", "minimum": 3, "maximum": 1}, "ok": True}}
    assert unsatisfiable_parts(schema) == {"/properties/id": "empty"}
    assert satisfiability({"type": "string", "allOf": [{"type": "integer"}]}) == "no"
