"""What a rejection says: the place, what is expected there, and why; never a value of the event."""

from typing import Any

import pytest

from channelmap.validation import Validator

SECRET = "s3cret-payload"
DRAFT_07 = "http://json-schema.org/draft-07/schema#"


def words(schema: Any, event: Any) -> list[str]:
    validator = Validator(schema)
    assert not validator.is_valid(event)
    find_violations = validator.reasons(event)
    return [str(violation) for violation in find_violations()]


SHAPE = {
    "oneOf": [
        {"required": ["side"], "properties": {"shape": {"const": "square"}, "side": {"type": "number"}}},
        {"required": ["radius"], "properties": {"shape": {"const": "circle"}, "radius": {"type": "number"}}},
        {"type": "array"},
    ]
}
#: A tag that other properties of the same alternative resemble.
TICKET = {
    "oneOf": [
        {"properties": {"k": {"const": "opened"}, "r": {"properties": {"why": {"enum": ["spam"]}}}}},
        {"properties": {"k": {"const": "closed"}}, "required": ["by"]},
    ]
}
REFERRED = {
    "anyOf": [{"$ref": "#/$defs/made"}, {"$ref": "#/$defs/gone"}],
    "$defs": {
        "made": {"allOf": [{"properties": {"k": {"$ref": "#/$defs/is-made"}}}, {"required": ["id"]}]},
        "is-made": {"const": "made"},
        "gone": {"properties": {"k": {"enum": ["gone", "lost"]}, "id": False}},
    },
}
PAIRS = {
    "anyOf": [
        {"prefixItems": [{"const": "at"}, {"type": "integer"}]},
        {"prefixItems": [{"const": "in"}, {"type": "string", "maxLength": 3}]},
    ]
}
TAGS_AND_UNITS = {
    "oneOf": [
        {"properties": {"unit": {"enum": ["cm", "mm"]}, "k": {"const": "box"}, "w": {"type": "number"}}},
        {"properties": {"unit": {"enum": ["cm", "mm"]}, "k": {"const": "ball"}, "r": {"type": "number"}}},
    ]
}
TWO_TAGS = {
    "anyOf": [
        {"properties": {"k": {"const": "a"}, "v": {"const": 1}, "x": {"type": "null"}}},
        {"properties": {"k": {"const": "a"}, "v": {"const": 2}, "x": {"type": "boolean"}}},
        {"properties": {"k": {"const": "b"}, "v": {"const": 2}, "x": {"type": "array"}}},
    ]
}
COUNTRY = {
    "if": {"properties": {"country": {"const": "US"}}, "required": ["country"]},
    "then": {"required": ["zip"]},
    "else": {"properties": {"zip": False}},
}

TABLE: list[tuple[Any, Any, list[str]]] = [
    # One keyword.
    ({"type": "integer"}, SECRET, ["$.v expected integer, got string"]),
    ({"type": ["integer", "null"]}, [], ["$.v expected integer or null, got array"]),
    ({"type": "string"}, True, ["$.v expected string, got boolean"]),
    ({"type": "object"}, None, ["$.v expected object, got null"]),
    ({"type": "array"}, {}, ["$.v expected array, got object"]),
    ({"type": "boolean"}, 1.5, ["$.v expected boolean, got number"]),
    ({"enum": ["a", 1, None]}, SECRET, ["$.v expected one of 'a', 1, null"]),
    ({"const": "a"}, SECRET, ["$.v expected 'a'"]),
    ({"const": {"a": 1}}, SECRET, ['$.v expected {"a": 1}']),
    ({"required": ["id"]}, {}, ["$.v requires 'id'"]),
    ({"required": ["a", "b"]}, {}, ["$.v requires 'a'", "$.v requires 'b'"]),
    ({"properties": {"a": False}}, {"a": SECRET}, ["$.v.a is not allowed here"]),
    ({"properties": {"extras": {}}, "additionalProperties": False}, {"extra": SECRET},
     ["$.v does not allow 'extra'; did you mean 'extras'?"]),
    ({"additionalProperties": {"type": "null"}}, {"a": 1, "b": None}, ["$.v.a expected null, got integer"]),
    ({"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False}, {"a": 1, "b": 1},
     ["$.v.a expected null, got integer", "$.v does not allow 'b'"]),
    ({"maxProperties": 0}, {"a" * 99: 1}, ["$.v expected at most 0 properties, got 1"]),
    ({"additionalProperties": False}, {"a" * 99: 1}, [f"$.v does not allow '{'a' * 59}…'"]),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1},
     ["$.v does not allow the name 'ab': expected at most 1 character, got 2"]),
    ({"minimum": 3}, 2, ["$.v expected at least 3"]),
    ({"maximum": 3}, 4, ["$.v expected at most 3"]),
    ({"exclusiveMinimum": 3}, 3, ["$.v expected more than 3"]),
    ({"exclusiveMaximum": 3}, 3, ["$.v expected less than 3"]),
    ({"multipleOf": 0.5}, 0.3, ["$.v expected a multiple of 0.5"]),
    ({"minLength": 1}, "", ["$.v expected at least 1 character, got 0"]),
    ({"maxLength": 3}, SECRET, ["$.v expected at most 3 characters, got 14"]),
    ({"minItems": 2}, [1], ["$.v expected at least 2 items, got 1"]),
    ({"maxItems": 1}, [1, 2], ["$.v expected at most 1 item, got 2"]),
    ({"minProperties": 1}, {}, ["$.v expected at least 1 property, got 0"]),
    ({"items": {"type": "integer"}}, [1, SECRET], ["$.v[1] expected integer, got string"]),
    ({"prefixItems": [True, {"type": "null"}]}, [1, 1], ["$.v[1] expected null, got integer"]),
    ({"prefixItems": [True], "items": False}, [1, SECRET], ["$.v expected at most 1 item, got 2"]),
    ({"items": {"type": "integer"}}, [*range(100), SECRET, 1, None],
     ["$.v[100] expected integer, got string", "$.v[102] expected integer, got null"]),
    ({"pattern": "^[a-z]+$"}, "1", ["$.v does not match the pattern '^[a-z]+$'"]),
    ({"format": "date-time"}, SECRET, ["$.v is not in the format 'date-time'"]),
    (False, SECRET, ["$.v is not allowed here"]),
    ({"properties": {"a b": {"type": "null"}}}, {"a b": SECRET}, ["$.v['a b'] expected null, got string"]),
    ({"properties": {"0": {"type": "null"}}}, {"0": SECRET}, ["$.v['0'] expected null, got string"]),
    ({"allOf": [{"minLength": 99}, {"pattern": "^x"}]}, SECRET,
     ["$.v expected at least 99 characters, got 14", "$.v does not match the pattern '^x'"]),

    # Alternatives of types and constants.
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, SECRET, ["$.v expected integer or null, got string"]),
    ({"anyOf": [{"const": "a"}, {"const": "b"}]}, SECRET, ["$.v expected one of 'a', 'b'"]),
    ({"oneOf": [{"enum": ["a", "b"]}, {"const": None}]}, SECRET, ["$.v expected one of 'a', 'b', null"]),
    ({"anyOf": [{"type": "integer"}, {"const": "auto"}]}, SECRET, ["$.v expected 'auto' or integer"]),
    ({"anyOf": [{"type": "integer"}, {"enum": ["auto", "off"]}]}, True,
     ["$.v expected one of 'auto', 'off', or integer, got boolean"]),
    ({"anyOf": [{"type": "object"}, {"type": "string", "minLength": 20}]}, SECRET,
     ["$.v expected at least 20 characters, got 14"]),
    ({"anyOf": [{"type": "null"}, {"type": "object", "required": ["a", "b"]}]}, {},
     ["$.v requires 'a'", "$.v requires 'b'"]),
    ({"anyOf": [{"$ref": "#/$defs/date"}, {"type": "null"}]}, SECRET, ["$.v is not in the format 'date'"]),

    # Alternatives with a tag: it fits.
    (TICKET, {"k": "opened", "r": {"why": None}}, ["$.v.r.why expected 'spam'"]),
    (TICKET, {"k": "opened", "r": {"why": SECRET}, "by": 1}, ["$.v.r.why expected 'spam'"]),
    (TICKET, {"k": "closed", "r": {"why": None}}, ["$.v requires 'by'"]),
    (SHAPE, {"shape": "circle"}, ["$.v requires 'radius'"]),
    (SHAPE, {"shape": "square", "side": SECRET}, ["$.v.side expected number, got string"]),
    (SHAPE, {"shape": "circle", "side": 1, "radius": SECRET}, ["$.v.radius expected number, got string"]),
    (REFERRED, {"k": "made"}, ["$.v requires 'id'"]),
    (REFERRED, {"k": "lost", "id": SECRET}, ["$.v.id is not allowed here"]),
    (PAIRS, ["at", SECRET], ["$.v[1] expected integer, got string"]),
    (PAIRS, ["in", SECRET], ["$.v[1] expected at most 3 characters, got 14"]),
    ({"$schema": DRAFT_07, "oneOf": [{"items": [{"const": "at"}, False]}, {"items": [{"const": "in"}]}]}, ["at", 1],
     ["$.v[1] is not allowed here"]),
    (TAGS_AND_UNITS, {"k": "box", "unit": SECRET}, ["$.v.unit expected one of 'cm', 'mm'"]),
    (TWO_TAGS, {"k": "a", "v": 2, "x": None}, ["$.v.x expected boolean, got null"]),
    ({"items": SHAPE}, [{"shape": "square", "side": 1}, {"shape": "square"}], ["$.v[1] requires 'side'"]),
    ({"anyOf": [{"type": "null"}, SHAPE]}, {"shape": "circle"}, ["$.v requires 'radius'"]),

    # Alternatives with a tag: it is unknown, or missing.
    (TICKET, {"k": SECRET}, ["$.v.k expected one of 'opened', 'closed'"]),
    (TICKET, {"k": 5, "r": {"why": None}}, ["$.v.k expected one of 'opened', 'closed'"]),
    (REFERRED, {"k": SECRET}, ["$.v.k expected one of 'made', 'gone', 'lost'"]),
    (SHAPE, {"shape": SECRET}, ["$.v.shape expected one of 'square', 'circle'"]),
    (PAIRS, [SECRET], ["$.v[0] expected one of 'at', 'in'"]),
    ({"oneOf": [{**branch, "required": ["k"]} for branch in TAGS_AND_UNITS["oneOf"]]}, {"w": 1},
     ["$.v requires 'k'"]),
    (TAGS_AND_UNITS, {"unit": SECRET, "w": 1}, ["$.v.unit expected one of 'cm', 'mm'"]),

    # Alternatives without a tag.
    ({"anyOf": [{"required": ["x"]}, {"required": ["y"]}]}, {},
     ["$.v fits no alternative; repair one of: requires 'x'; requires 'y'"]),
    ({"anyOf": [{"required": ["a"], "properties": {"a": {"type": "null"}}}, {"required": ["b"]}]}, {"a": 1},
     ["$.v.a expected null, got integer"]),
    ({"anyOf": [{"minLength": 20}, {"pattern": "^x"}]}, SECRET,
     [("$.v fits no alternative; repair one of: expected at least 20 characters, got 14; "
       "does not match the pattern '^x'")]),
    ({"anyOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"items": {"maxLength": 1}}}}]},
     {"a": 1, "b": ["", SECRET]},
     [("$.v fits no alternative; repair one of: a expected null, got integer; "
       "b[1] expected at most 1 character, got 14")]),
    ({"anyOf": [{"required": ["a", "b"]}, {"required": ["b", "c"]}]}, {}, ["$.v requires 'b'"]),
    ({"oneOf": [{"type": "string"}, {"minLength": 1}]}, SECRET,
     ["$.v matches more than one of the alternatives: number 1, number 2"]),
    ({"oneOf": [{"type": "null"}, {"type": "string"}, {"minLength": 1}, {"maxLength": 99}]}, SECRET,
     ["$.v matches more than one of the alternatives: number 2, number 3, number 4"]),

    # Counts of `contains`.
    ({"contains": {"const": 1}}, [SECRET], ["$.v expected at least 1 item for 'contains' (it is 1), got 0"]),
    ({"contains": {"const": 1}}, [], ["$.v expected at least 1 item for 'contains' (it is 1), got 0"]),
    ({"contains": {"type": "integer"}, "maxContains": 1}, [1, 2],
     ["$.v expected at most 1 item for 'contains' (it is integer), got 2"]),
    ({"contains": {"type": "integer"}, "minContains": 2}, [1],
     ["$.v expected at least 2 items for 'contains' (it is integer), got 1"]),
    ({"contains": {"minLength": 99}, "minContains": 2, "maxContains": 3}, [SECRET],
     ["$.v expected at least 2 items for 'contains', got 0"]),
    ({"$schema": DRAFT_07, "contains": {"type": "null"}, "minContains": 0}, [1],
     ["$.v expected at least 1 item for 'contains' (it is null), got 0"]),

    # Why a keyword counts.
    ({"dependentRequired": {"a": ["b", "c"]}}, {"a": SECRET},
     ["$.v requires 'b', because 'a' is there", "$.v requires 'c', because 'a' is there"]),
    ({"dependentSchemas": {"a": {"properties": {"b": {"type": "null"}}}}}, {"a": 1, "b": 1},
     ["$.v.b expected null, got integer, because 'a' is there"]),
    ({"$schema": DRAFT_07, "dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, {"a": 1, "c": 1},
     ["$.v requires 'b', because 'a' is there", "$.v requires 'd', because 'c' is there"]),
    (COUNTRY, {"country": "US"}, ["$.v requires 'zip', because it matches 'if' ('country' is 'US')"]),
    (COUNTRY, {"country": SECRET, "zip": SECRET},
     ["$.v.zip is not allowed here, because it does not match 'if' ('country' is 'US')"]),
    ({"if": {"minLength": 3}, "then": {"maxLength": 5}}, SECRET,
     ["$.v expected at most 5 characters, got 14, because it matches 'if'"]),
    ({"if": {"required": ["a"]}, "then": {"if": {"required": ["b"]}, "then": False}}, {"a": 1, "b": 1},
     ["$.v is not allowed here, because it matches 'if' ('b' is there), because it matches 'if' ('a' is there)"]),
    ({"not": {"type": "string"}}, SECRET, ["$.v matches what it must not match: it is string"]),
    ({"not": {"required": ["a"]}}, {"a": SECRET}, ["$.v matches what it must not match: 'a' is there"]),
    ({"not": {"properties": {"k": {"enum": ["a", "b"]}}, "required": ["k"]}}, {"k": "a"},
     ["$.v matches what it must not match: 'k' is one of 'a', 'b'"]),
    ({"not": {"minLength": 1}}, SECRET, ["$.v matches what it must not match"]),

    # Which items.
    ({"uniqueItems": True}, [SECRET, 1, SECRET], ["$.v holds the same item twice, at [0] and [2]"]),
    ({"uniqueItems": True}, [0, {"a": [1]}, False, {"a": [1.0]}],
     ["$.v holds the same item twice, at [1] and [3]"]),
    ({"prefixItems": [True], "unevaluatedItems": False}, [1, SECRET, SECRET],
     ["$.v does not allow the items at [1], [2]"]),
    ({"contains": {"type": "null"}, "unevaluatedItems": False}, [None, SECRET, None],
     ["$.v does not allow the item at [1]"]),
    ({"anyOf": [{"prefixItems": [True, True]}, {"prefixItems": [True, {"type": "null"}, True]}],
      "unevaluatedItems": False}, [1, 1, 1], ["$.v does not allow the item at [2]"]),
    ({"unevaluatedItems": {"type": "null"}}, [None, 1], ["$.v[1] expected null, got integer"]),
    ({"$schema": DRAFT_07, "items": [True], "additionalItems": False}, [1, 2], ["$.v expected at most 1 item, got 2"]),
    ({"unevaluatedProperties": False}, {"a": SECRET, "b": 1}, ["$.v does not allow 'a', 'b'"]),
    ({"allOf": [{"properties": {"a": True}}], "if": {"properties": {"b": True}}, "then": {"properties": {"c": True}},
      "else": {"properties": {"d": True}}, "unevaluatedProperties": False}, dict.fromkeys("abcd"),
     ["$.v does not allow 'd'"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "expected"), TABLE)
def test_a_rejection_says_where_and_why_and_quotes_no_value(schema: Any, value: Any, expected: list[str]) -> None:
    dialect = {"$schema": schema["$schema"]} if isinstance(schema, dict) and "$schema" in schema else {}
    definitions = {"date": {"type": "string", "format": "date"}, **REFERRED["$defs"]}  # type: ignore[dict-item]

    found = words({**dialect, "properties": {"v": schema}, "$defs": definitions}, {"v": value})

    assert found == expected
    assert SECRET not in str(found)
