"""JSON Schema validation: verdicts never raise, and violations quote the schema but never the event."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelmap.errors import Violation
from channelmap.validation import (
    BASE_URI,
    DIALECTS,
    SchemaSet,
    SchemaUnusable,
    Validator,
    schema_mismatches,
    unsupported,
    with_type,
)
from channelmap.validation.cost import is_small, is_too_costly
from channelmap.validation.descent import Descent
from channelmap.validation.parts import Parts


def reasons(validator: Validator, event: Any) -> tuple[str, tuple[Violation, ...]]:
    fault = unsupported(event)
    return ("unsupported-value", (fault,)) if fault else ("schema-mismatch", validator.reasons(event)())


def violations(schema: Any, event: Any) -> list[str]:
    validator = Validator(schema)
    assert not validator.is_valid(event)
    code, found = reasons(validator, event)
    assert code == "schema-mismatch"
    return [str(violation) for violation in found]


def test_a_property_whose_name_consists_of_digits_is_not_an_index() -> None:
    validator = Validator(
        {"properties": {"0": {"type": "integer"}, "years": {"items": {"properties": {"2024": False}}}}}
    )
    code, violations = reasons(validator, {"type": "x", "0": "a", "years": [{"2024": 1}]})
    assert (code, [violation.path for violation in violations]) == (
        "schema-mismatch", ["$['0']", "$.years[0]['2024']"],
    )  # fmt: skip


def test_violations_have_no_duplicates_and_are_at_most_twenty() -> None:
    schema = {"allOf": [{"required": ["a"]}, {"required": ["a"]}]}
    assert violations(schema, {}) == ["$ requires 'a'"]
    assert len(violations({"items": {}, "required": [f"key{n}" for n in range(100)]}, {})) == 20


BASE64 = "send `base64.b64encode(value).decode()`"


@pytest.mark.parametrize(
    ("value", "violation"),
    [
        (b"", Violation("$.v", "json", f"expected a JSON value, got bytes; {BASE64}")),
        ({1}, Violation("$.v", "json", "expected a JSON value, got set; send `list(value)`")),
        (datetime.now(UTC), Violation("$.v", "json", "expected a JSON value, got datetime; send `value.isoformat()`")),
        (uuid.uuid4(), Violation("$.v", "json", "expected a JSON value, got UUID; send `str(value)`")),
        (float("nan"), Violation("$.v", "json", "is not a finite number")),
        (2**64, Violation("$.v", "json", "is an integer beyond 64 bits")),
        (-(10**400), Violation("$.v", "json", "is an integer beyond 64 bits")),
        ([1.5, float("-inf")], Violation("$.v[1]", "json", "is not a finite number")),
        ({1: 2}, Violation("$.v", "json", "has a key that is not text but int")),
        ("\ud800", Violation("$.v", "json", "holds half of a surrogate pair, which is not text")),
        ({"\ud800": 1}, Violation("$.v", "json", "has a key with half of a surrogate pair, which is not text")),
    ],
)
@pytest.mark.parametrize("schema", [{}, {"properties": {"v": {"type": "string", "minLength": 1}}}])
def test_a_value_that_is_not_json_is_rejected_whether_or_not_the_schema_looks_at_it(
    value: Any, violation: Violation, schema: Any
) -> None:
    validator = Validator(schema)
    assert not validator.is_valid({"v": value})
    assert reasons(validator, {"v": value}) == ("unsupported-value", (violation,))


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (0, 2**64, "is an integer beyond 64 bits"),
        (-1, -(2**63) - 1, "is an integer beyond 64 bits"),
        (1.5, float("nan"), "is not a finite number"),
        ("a", "\ud800", "holds half of a surrogate pair, which is not text"),
        (0, b"", f"expected a JSON value, got bytes; {BASE64}"),
        (None, {1: 2}, "has a key that is not text but int"),
        ({"a": [1]}, {"a": {1}}, "expected a JSON value, got set; send `list(value)`"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 50])
def test_an_unsupported_value_in_a_long_list_is_found_with_its_index(
    good: Any, bad: Any, message: str, before: int
) -> None:
    inside = ".a" if bad == {"a": {1}} else ""
    event = {"v": {"items": (*[good] * before, bad, *[good] * 50)}}

    assert unsupported(event) == Violation(f"$.v.items[{before}]{inside}", "json", message)
    assert unsupported({"v": [good] * 50}) is None


def test_an_unsupported_value_in_long_lists_of_lists_is_found_with_its_indexes() -> None:
    rows = [[float(n), 0.5] for n in range(50)]
    assert unsupported({"v": rows}) is None
    assert unsupported({"v": [rows] * 50}) is None
    rows[30][1] = float("inf")
    assert unsupported({"v": rows}) == Violation("$.v[30][1]", "json", "is not a finite number")
    deep: Any = [[1.5] * 9] * 9
    for _ in range(97):
        deep = [deep]
    assert unsupported({"v": deep}) is None
    deepest = Violation("$.v" + 99 * "[0]", "json", "is nested more than 100 levels deep")
    assert unsupported({"v": [deep]}) == deepest
    itself: list[Any] = []
    itself.extend([itself] * 50)
    assert unsupported({"v": itself}) == deepest
    eights: Any = [[]] * 8
    for _ in range(97):
        eights = [eights, *[[]] * 7]
    assert unsupported({"v": eights}) is None
    assert unsupported({"v": [eights, *[[]] * 7]}) == deepest


@pytest.mark.parametrize("item", [0, -(2**63), 2**64 - 1, 1.5, "a", "é", True, None, [], {}])
def test_long_lists_of_any_json_values_pass(item: Any) -> None:
    assert unsupported({"v": [item] * 50}) is None
    assert unsupported({"v": [*[item] * 50, 0, "a", 0.5]}) is None


def test_the_keys_of_the_event_itself_are_checked_too() -> None:
    event: dict[Any, Any] = {1: 2}
    assert not Validator({}).is_valid(event)
    assert not Validator({}).is_valid({"\ud800": 2})


def nested(depth: int) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "tree"}
    for _ in range(depth):
        event = {"type": "tree", "child": event}
    return event


TREE = {"type": "object", "properties": {"child": {"$ref": "#"}}}


def test_an_event_nested_too_deeply_is_rejected_before_it_reaches_the_engine() -> None:
    validator = Validator(TREE)
    assert validator.is_valid(nested(99))
    for depth in (100, 10_000):
        assert not validator.is_valid(nested(depth))
        code, (violation,) = reasons(validator, nested(depth))
        assert (code, violation.message) == ("unsupported-value", "is nested more than 100 levels deep")


def test_violations_are_found_in_time_if_each_level_of_the_event_would_double_the_work() -> None:
    def branch(name: str) -> dict[str, Any]:
        return {"properties": {"child": {"$ref": "#"}}, "required": [name]}

    validator = Validator({"anyOf": [branch("x"), branch("y")]})
    message = "fits no alternative; repair one of: requires 'x'; requires 'y'"
    assert violations({"anyOf": [branch("x"), branch("y")]}, {}) == [f"$ {message}"]
    assert not validator.is_valid(nested(60))
    innermost = "$" + 60 * ".child"
    assert reasons(validator, nested(60)) == ("schema-mismatch", (Violation(innermost, "anyOf", message),))


def chain(keyword: str, levels: int, last: Any) -> dict[str, Any]:
    """Build definitions with two alternatives each, both of which refer to the next one."""
    definitions: dict[str, Any] = {
        f"n{level}": {keyword: [{"$ref": f"#/$defs/n{level + 1}"}, {"$ref": f"#/$defs/n{level + 1}"}]}
        for level in range(levels)
    }
    return {"properties": {"v": {"$ref": "#/$defs/n0"}}, "$defs": {**definitions, f"n{levels}": last}}


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
@pytest.mark.parametrize("last", [{"type": "integer"}, {"type": "integer", "properties": {"v": {"$ref": "#"}}}])
def test_verdict_and_violations_come_in_time_if_each_definition_would_double_the_work(keyword: str, last: Any) -> None:
    validator = Validator(chain(keyword, 40, last))

    assert not validator.is_valid({"v": "a"})
    message = "expected integer, got string"
    name = "type" if keyword == "allOf" else keyword
    assert reasons(validator, {"v": "a"}) == ("schema-mismatch", (Violation("$.v", name, message),))
    assert validator.is_valid({"v": 1}) == (keyword != "oneOf")


def layered(layers: list[int], *, keyword: str = "anyOf") -> dict[str, Any]:
    """Build a chain of definitions; `layers` says how many times each one refers to the next."""
    definitions: dict[str, Any] = {
        f"d{number}": {keyword: [{"$ref": f"#/$defs/d{number + 1}"}] * abreast} for number, abreast in enumerate(layers)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{len(layers)}": {"type": "object"}}}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.sampled_from(["anyOf", "allOf", "oneOf"]))
def test_a_schema_that_is_small_is_never_too_costly(layers: list[int], keyword: str) -> None:
    schema = layered(layers, keyword=keyword)
    assert not (is_small(schema, {}) and is_too_costly(Parts(schema, "urn:x", {}, None)))
    assert not (is_small({"$ref": "urn:y"}, {"urn:y": schema}) and is_too_costly(Parts(schema, "urn:x", {}, None)))


def test_a_schema_with_few_parts_is_small_and_one_with_many_is_not() -> None:
    assert is_small({"properties": {"id": {"type": "integer"}, "tags": {"items": {"type": "string"}}}}, {})
    assert is_small(layered([1, 1]), {})
    assert not is_small(layered([3] * 4), {})
    assert not is_small({"anyOf": [True] * 30}, {})
    assert not is_small({"$ref": "urn:y"}, {"urn:y": {"properties": {str(number): {} for number in range(30)}}})
    assert not is_small({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {})


def test_the_verdict_comes_in_time_if_each_level_of_the_event_would_double_the_work() -> None:
    def level(number: int) -> dict[str, Any]:
        child = {"properties": {"child": {"$ref": f"#/$defs/n{number + 1}"}}}
        return {"anyOf": [{**child, "required": ["type"]}, child]}

    definitions: dict[str, Any] = {f"n{number}": level(number) for number in range(60)}
    validator = Validator({"$ref": "#/$defs/n0", "$defs": {**definitions, "n60": {"required": ["id"]}}})

    assert not validator.is_valid(nested(60))
    assert reasons(validator, nested(60))[1] == (Violation("$" + 60 * ".child", "required", "requires 'id'"),)
    assert validator.is_valid(nested(59))


def test_an_event_with_too_many_faults_gets_one_short_violation() -> None:
    validator = Validator({"properties": {"v": {"items": {"anyOf": [{"required": [str(n)]} for n in range(2_000)]}}}})
    short = Violation("$", "schema", "breaks the schema; finding out where would take too long")
    assert reasons(validator, {"v": [{}] * 50}) == ("schema-mismatch", (short,))


def test_a_deeply_nested_violation_is_found_if_no_alternatives_recur() -> None:
    nullable = {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}
    a = {"properties": {"a": {"items": {"properties": {"b": {"properties": {"c": {"type": "null"}}}}}}}}
    event: dict[str, Any] = {"v": {"a": [{"b": {"c": {}}}]}}
    assert violations({"properties": {"v": nullable}, "$defs": {"a": a}}, event) == [
        "$.v.a[0].b.c expected null, got object"
    ]
    event = nested(20)
    event["child"]["child"]["child"]["child"]["child"]["child"] = 5
    assert violations(TREE, event) == ["$.child.child.child.child.child.child expected object, got integer"]


def test_an_event_that_contains_itself_is_rejected() -> None:
    event: dict[str, Any] = {}
    event["child"] = [event]
    fault = unsupported(event)
    assert fault is not None
    assert fault.message == "is nested more than 100 levels deep"


def test_tuples_are_json() -> None:
    validator = Validator({"properties": {"v": {"items": {"type": "integer"}}}})
    assert validator.is_valid({"v": (1, 2)})
    assert not validator.is_valid({"v": (1, "a")})


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), "é💡", "", 0.1, 1e308, None, True])
def test_unusual_json_values_are_judged(value: Any) -> None:
    assert Validator({"properties": {"v": {"minLength": 0}}}).is_valid({"v": value})
    assert reasons(Validator({"properties": {"v": {"type": "array"}}}), {"v": value})[0] == "schema-mismatch"


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^(\w+\s?)*$", r"^(?=a)(a|a?)+$", r"^(\w+\s?)*\1$"])
def test_an_event_is_rejected_if_its_match_with_a_pattern_would_take_forever(pattern: str) -> None:
    validator = Validator({"properties": {"v": {"pattern": pattern}}})
    assert not validator.is_valid({"v": "a" * 5000 + "!"})
    assert reasons(validator, {"v": "a" * 5000 + "!"})[0] == "schema-mismatch"


def test_a_closed_schema_need_not_declare_the_type() -> None:
    closed: dict[str, Any] = {"properties": {"id": {}}, "additionalProperties": False}
    event = {"type": "made", "id": 1}
    assert not Validator(closed).is_valid(event)
    branches: list[Any] = [
        closed,
        {"allOf": [closed]},
        {"anyOf": [{"oneOf": [closed]}]},
        {"if": closed, "else": False},
        {"allOf": [{"properties": {"id": True}}], "unevaluatedProperties": False},
    ]
    for schema in branches:
        before = repr(schema)
        assert Validator(with_type(schema)).is_valid(event)
        assert repr(schema) == before
    assert not Validator(with_type(closed)).is_valid({"type": "made", "id": 1, "more": 1})


def test_a_declared_type_is_not_changed() -> None:
    schema = {"properties": {"type": {"enum": ["a", "b"]}}}
    assert with_type(schema) == schema
    never = False
    assert with_type(never) is never


def test_formats_are_asserted_in_both_dialects() -> None:
    for dialect in DIALECTS:
        schema = {"$schema": dialect, "properties": {"v": {"format": "date-time"}}}
        assert Validator(schema).is_valid({"v": "2026-11-22T10:00:00Z"})
        assert not Validator(schema).is_valid({"v": "yesterday"})


def test_the_error_for_a_schema_that_cannot_be_compiled_has_a_reason_and_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    far = ["https://example.com/a.json", f"file://{tmp_path}/a.json"]
    for reference in ["#/nowhere", *far]:
        with pytest.raises(SchemaUnusable) as caught:
            Validator({"$ref": reference})
        assert caught.value.reason
    for reference in far:
        with pytest.raises(SchemaUnusable):
            SchemaSet([("https://channelmap.invalid/schemas/b.json", {"$ref": reference})])


def test_schemas_refer_to_each_other_by_their_uri() -> None:
    base = "https://channelmap.invalid/schemas/"
    others = SchemaSet([(f"{base}a/b.json", {"$defs": {"id": {"type": "integer"}}})])
    validator = Validator({"properties": {"id": {"$ref": "b.json#/$defs/id"}}}, f"{base}a/c.json", others)
    assert validator.is_valid({"id": 1})
    assert not validator.is_valid({"id": "1"})


def test_mismatches_with_a_metaschema_have_their_pointer() -> None:
    schema = {"type": "objekt", "required": "id", "properties": {"a": {"minimum": "1", "pattern": "("}}}
    for dialect in DIALECTS:
        found = {mismatch.pointer: mismatch.message for mismatch in schema_mismatches(schema, dialect)}
        assert found == {
            ("type",): "expected one of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string', or array",
            ("required",): "expected array, got string",
            ("properties", "a", "minimum"): "expected number, got string",
            ("properties", "a", "pattern"): "is not in the format 'regex'",
        }


EVENTS = st.dictionaries(
    st.sampled_from(["a", "b", "type"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2, width=16) | st.text("ab", max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        max_leaves=6,
    ),
)
SCHEMAS = [
    {"properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"], "additionalProperties": False},
    {"properties": {"a": {"type": ["string", "null"], "minLength": 2}, "b": {"items": {"type": "number"}}}},
    {"anyOf": [{"required": ["a"]}, {"properties": {"b": {"enum": [1, "a", None, True]}}, "required": ["b"]}]},
    {"additionalProperties": {"anyOf": [{"type": "object", "properties": {"a": {"$ref": "#"}}}, {"maxLength": 2}]}},
    {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "patternProperties": {"^[ab]$": {"uniqueItems": True}}},
]


COMPLEX: list[Any] = [
    {
        "properties": {"a": {"$ref": "#a"}, "b": {"$ref": "inner.json"}},
        "$defs": {
            "a": {"$anchor": "a", "items": {"$ref": "#/$defs/inner/$defs/b"}},
            "inner": {"$id": "inner.json", "type": ["string", "array"], "$defs": {"b": {"minimum": 1}}},
        },
    },
    {
        "allOf": [{"properties": {"a": {"type": "string"}}}, {"anyOf": [{"required": ["b"]}, {"required": ["a"]}]}],
        "if": {"required": ["b"], "properties": {"b": True}},
        "else": {"dependentSchemas": {"a": {"properties": {"type": True}}}},
        "unevaluatedProperties": {"type": "integer"},
    },
    {
        "properties": {"a": {"prefixItems": [{"type": "integer"}], "contains": {"type": "string"},
                             "minContains": 0, "maxContains": 1, "unevaluatedItems": False}},
        "propertyNames": {"enum": ["a", "b"]},
        "patternProperties": {"^b": {"uniqueItems": True, "not": {"minItems": 3}}},
    },
    {
        "$schema": DIALECTS[1],
        "properties": {"a": {"items": [{"type": "integer"}], "additionalItems": {"type": "null"}},
                       "b": {"$ref": "#/definitions/b", "type": "null"}},
        "dependencies": {"a": ["b"], "type": {"required": ["a"]}},
        "definitions": {"b": {"contains": {"enum": [1, "a"]}}},
    },
]  # fmt: skip


@pytest.mark.parametrize("schema", [*SCHEMAS, *COMPLEX])
@given(event=EVENTS)
def test_the_descent_finds_faults_exactly_in_the_events_that_the_engine_rejects(schema: Any, event: Any) -> None:
    parts = Parts(schema, BASE_URI, {}, None)
    assert bool(Descent(parts).faults(parts.root, event)) != Validator(schema).is_valid(event)


@pytest.mark.parametrize("schema", SCHEMAS)
@given(event=EVENTS)
def test_verdicts_are_those_of_the_reference_implementation(schema: Any, event: Any) -> None:
    validator = Validator(schema)
    assert validator.is_valid(event) == jsonschema.Draft202012Validator(schema).is_valid(event)
    assert bool(validator.mismatches(event)) != validator.is_valid(event)
