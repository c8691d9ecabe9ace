"""The adapter to the engine's set algebra: what it proves, and what it is not asked."""

import pytest

from channelmap.validation import Schema
from channelmap.validation.algebra import covers, satisfiability, unsatisfiable_parts

NAMED: Schema = {
    "$defs": {"name": {"type": "string", "minLength": 2}},
    "properties": {"name": {"$ref": "#/$defs/name"}},
}
TREE: Schema = {"anyOf": [{"properties": {"next": {"$ref": "#"}}, "required": ["name"]}, {"required": ["next"]}]}
RING: Schema = {
    "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}},
    "$ref": "#/$defs/a",
}
INSIDE_ITSELF: Schema = {"properties": {"x": {"items": {"$ref": "#/properties/x"}}}}


def test_what_refers_to_its_own_definitions_is_compared() -> None:
    assert covers(NAMED, {"properties": {"name": {"type": "string", "minLength": 3}}}) == "yes"
    assert covers({"properties": {"name": {"type": "string", "minLength": 3}}}, NAMED) == "no"


@pytest.mark.parametrize("schema", [TREE, RING, INSIDE_ITSELF, {"$dynamicRef": "#a"}, {"$ref": "#anchor"}])
def test_of_what_refers_to_itself_nothing_is_asked_for_that_may_end_the_process(schema: Schema) -> None:
    assert covers(schema, schema) == "unknown"
    assert satisfiability(schema) == "unknown"
    assert unsatisfiable_parts(schema) == {}


def test_dead_parts_are_found_by_their_pointer() -> None:
    schema: Schema = {"properties": {"id": {"type": "integer", "minimum": 3, "maximum": 1}, "ok": True}}
    assert unsatisfiable_parts(schema) == {"/properties/id": "empty"}
    assert satisfiability({"type": "string", "allOf": [{"type": "integer"}]}) == "no"
