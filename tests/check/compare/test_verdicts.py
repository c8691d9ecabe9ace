"""Verdicts of comparisons: a search for wrong ones, and single cases."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channelmap.check.compare.counterexamples import CounterexampleSearch
from channelmap.check.compare.normal_form import normalize, opaque_reference
from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.verdicts import compare_event_type
from channelmap.check.compare.views import declared_view, event_schema
from channelmap.validation import Validator, with_type
from channelmap.validation.structure import bundle

Make = Callable[..., ReleasedType]
NAMES = st.sampled_from(["a", "b", "c"])
SMALL = st.integers(0, 3)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 4) | st.sampled_from([0.5, 2.5, "", "a", "ab", "b", "abc", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
EVENTS = st.dictionaries(NAMES, ANY_VALUE, max_size=3).map(lambda event: {**event, "type": "t"})


def some_keywords(inner: Any) -> Any:
    """Draw a few keywords; a schema of thirty would accept nothing."""
    keywords = {
        "type": st.sampled_from(["object", "array", "string", "integer", "number", ["string", "null"]]),
        "enum": st.lists(ANY_VALUE, min_size=1, max_size=3),
        "const": ANY_VALUE,
        "minimum": SMALL,
        "exclusiveMaximum": SMALL,
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "minLength": SMALL,
        "maxLength": SMALL,
        "pattern": st.sampled_from(["^a", "b$", "^[a-b]*$"]),
        "minItems": SMALL,
        "maxItems": SMALL,
        "uniqueItems": st.booleans(),
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "contains": inner,
        "maxContains": SMALL,
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b|c"]), inner, max_size=1),
        "additionalProperties": inner,
        "unevaluatedProperties": inner,
        "propertyNames": inner,
        "required": st.lists(NAMES, max_size=2, unique=True),
        "minProperties": SMALL,
        "maxProperties": SMALL,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=1),
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=2),
        "oneOf": st.lists(inner, min_size=1, max_size=2),
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
    }
    pairs = [st.tuples(st.just(keyword), values) for keyword, values in keywords.items()]
    return st.lists(st.one_of(pairs), max_size=3).map(dict)


SCHEMAS = st.recursive(st.booleans() | some_keywords(st.booleans()), some_keywords, max_leaves=8)
OBJECTS = st.builds(
    lambda properties, more: {"properties": properties} | (more if isinstance(more, dict) else {}),
    st.dictionaries(NAMES, SCHEMAS, max_size=3),
    SCHEMAS,
)


def released(schema: Any) -> ReleasedType:
    return ReleasedType(normalize(bundle(Validator(with_type(schema)))))


def edited(schema: Any, other: Any, keyword: int) -> Any:
    """Replace or remove one keyword, because pairs of unrelated schemas test little."""
    names = sorted({*schema, *other})
    name = names[keyword % len(names)]
    rest = {key: value for key, value in schema.items() if key != name}
    return {**rest, name: other[name]} if name in other else rest


def tree(node: Any) -> Any:
    """Make a recursive schema."""
    properties = {**node.get("properties", {}), "c": {"$ref": "#/$defs/node"}}
    return {"properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": {**node, "properties": properties}}}


def kinds(first: Any) -> Any:
    """Make a schema of alternatives with different constants, for the event and for items of a list in it."""
    branches = [first, {"properties": {"b": {"type": "integer"}}}, {"properties": {"a": {"minimum": 1}}}]
    named = [
        {**branch, "properties": {**branch.get("properties", {}), "c": {"const": text}}, "required": ["c"]}
        for branch, text in zip(branches, ("a", "ab", ""), strict=True)
    ]
    inside = {"type": "array", "items": {"type": "object", "oneOf": named}}
    return {"type": "object", "oneOf": [{**branch, "type": "object"} for branch in named], "properties": {"b": inside}}


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(OBJECTS, OBJECTS, st.integers(0, 9)),
    st.sampled_from([dict, dict, tree, kinds]),
    st.booleans(),
    st.lists(EVENTS, max_size=40),
)
def test_no_event_contradicts_a_proof(pair: Any, shape: Any, strict: bool, events: list[Any]) -> None:  # noqa: FBT001
    old_schema, new_schema = shape(pair[0]), shape(edited(*pair))
    old, new = released(old_schema), released(new_schema)
    view = Validator(event_schema(old.schema if strict else declared_view(old.schema), "t"))
    before, after = Validator(with_type(old_schema)), Validator(with_type(new_schema))
    compatibility = compare_event_type("t", old, new, strict=strict)
    if compatibility.verdict == "breaking":
        proof = compatibility.counterexample
        assert proof is not None
        assert before.is_valid(proof) > after.is_valid(proof)
    if compatibility.is_safe:
        search = CounterexampleSearch("t", (old.schema, new.schema), events)
        assert next(search.events(view.is_valid, lambda event: not after.is_valid(event)), None) is None
    assert all(before.is_valid(event) for event in events if view.is_valid(event))


def test_a_new_optional_property_is_a_break_only_if_strict() -> None:
    old, new = released({"properties": {"a": {}}}), released({"properties": {"a": {}, "b": {"type": "integer"}}})
    assert compare_event_type("t", old, new).verdict == "compatible"
    compatibility = compare_event_type("t", old, new, strict=True)
    assert compatibility.verdict == "breaking"
    assert [change.pointer for change, proof in compatibility.changes if proof] == [("properties", "b")]


def test_an_accepted_example_that_is_now_rejected_proves_a_break() -> None:
    example = {"type": "t", "a": 1, "extra": "x"}
    old = ReleasedType(released({"properties": {"a": {}}}).schema, (example,))
    compatibility = compare_event_type("t", old, released({"properties": {"a": {}}, "additionalProperties": False}))
    assert (compatibility.verdict, compatibility.counterexample) == ("breaking", example)


def test_a_schema_with_references_that_cannot_be_resolved_is_compared_by_its_text() -> None:
    one, other = ReleasedType(opaque_reference({"a": 1})), ReleasedType(opaque_reference({"a": 2}))
    assert compare_event_type("t", one, ReleasedType(opaque_reference({"a": 1}))).verdict == "same"
    assert compare_event_type("t", one, other).verdict == "undecided"
    assert compare_event_type("t", one, released({"properties": {"a": {}}})).verdict == "undecided"


def test_a_new_optional_property_in_a_recursive_one_of_is_not_a_break() -> None:
    def tree(**more: Any) -> ReleasedType:
        properties = {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/part"}, **more}
        part = {"type": "object", "properties": properties, "oneOf": [{"required": ["v"]}]}
        return ReleasedType(normalize({"properties": {"v": {"$ref": "#/$defs/part"}}, "$defs": {"part": part}}))

    assert compare_event_type("t", tree(), tree(note={"type": "string"})).verdict == "compatible"
    assert compare_event_type("t", tree(), tree(v={"type": "string"})).verdict in {"likely", "breaking"}


def test_definitions_that_refer_to_each_other_are_compared() -> None:
    def web(value: Any) -> ReleasedType:
        names = [f"n{index}" for index in range(12)]
        refer = {name: {"$ref": f"#/$defs/{name}"} for name in names}
        kinds = [{"type": "object", "properties": {**refer, "v": value}}, {"type": "array", "items": refer["n0"]}]
        definition = {"anyOf": kinds}
        return released({"properties": {"v": refer["n0"]}, "$defs": dict.fromkeys(names, definition)})

    assert not compare_event_type("t", web({"type": "integer"}), web({"type": "string"})).is_safe


def test_the_type_of_an_event_may_have_a_recursive_schema() -> None:
    name = {"anyOf": [{"type": "string"}, {"items": {"$ref": "#/$defs/name"}}]}
    old = released({"properties": {"type": {"$ref": "#/$defs/name"}, "a": {}}, "$defs": {"name": name}})
    assert compare_event_type("t", old, released({"properties": {"a": {"type": "integer"}}})).verdict == "breaking"


def test_each_change_has_its_own_counterexample() -> None:
    old = released({"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}})
    new = released({"properties": {"a": {"type": "integer", "minimum": 3}, "b": {"type": "string", "maxLength": 2}}})
    proofs = {change.pointer[1]: proof for change, proof in compare_event_type("t", old, new).changes}
    assert proofs.keys() == {"a", "b"}
    assert proofs["a"] != proofs["b"]


@pytest.mark.parametrize(
    "loss",
    [
        "del jsonschema_rs.canonicalize",
        "jsonschema_rs.canonicalize = lambda schema, **options: 'another'",
        "jsonschema_rs.canonicalize = lambda schema, **options: 1 / 0",
        "jsonschema_rs.canonicalize = lambda schema: schema",
    ],
)
def test_without_the_algebra_a_change_that_only_it_can_prove_is_undecided(loss: str) -> None:
    code = f"""
    import jsonschema_rs
    {loss}
    from channelmap.check.compare.releases import ReleasedType
    from channelmap.check.compare.verdicts import compare_event_type as compare
    old = ReleasedType({{"properties": {{"type": True, "a": {{"type": "integer"}}}}}})
    new = ReleasedType({{"properties": {{"type": True, "a": {{"type": "number"}}}}}})
    print(compare("t", old, new).verdict, compare("t", old, ReleasedType({{"not": {{}}}})).verdict)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["undecided", "breaking"], "")
