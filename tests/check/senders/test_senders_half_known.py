"""An event that is known in part is rejected only if it is invalid with any values of its unknown parts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channelmap.check.senders import check_senders
from channelmap.loader import load


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"properties": {"a": {"const": 2}}}]},
        {"oneOf": [{"properties": {"a": {"const": 2}}}]},
        {"not": {"properties": {"a": {"type": "null"}}}},
        {"if": {"properties": {"a": {"type": "null"}}}, "then": False},
        {"if": {"properties": {"a": {"const": 2}}}, "else": False},
        {"dependentSchemas": {"a": {"properties": {"a": {"const": 2}}}}},
        {"patternProperties": {"a": {"const": 2}}},
        {"additionalProperties": {"type": "integer"}},
        {"unevaluatedProperties": {"type": "integer"}},
        {"const": {"type": "t", "a": 2, "b": [1, 2]}},
        {"enum": [{"type": "t", "a": 2, "b": [1, 2]}]},
        {"properties": {"b": {"items": {"type": "integer"}}}},
        {"properties": {"b": {"prefixItems": [{}, {"type": "integer"}]}}},
        {"properties": {"b": {"contains": {"const": 2}}}},
        {"properties": {"b": {"const": [1, 2]}}},
    ],
)
def test_a_keyword_that_depends_on_unknown_parts_is_ignored(schema: Any, project: Path) -> None:
    (project / "s.json").write_text(json.dumps(schema))
    (project / "channels.yaml").write_text("version: 1\nchannels: {c: {consumer: a.B, events: {t: s.json}}}\n")
    (project / "app.py").write_text("layer.send('c', {'type': 't', 'a': x, 'b': [1, x]})")

    assert check_senders(load(), ["app.py"]).findings == ()


TREE = {
    "properties": {
        "children": {"type": "array", "items": {"$ref": "#"}},
        "left": {"$ref": "#/$defs/leaf"},
        "name": {"type": "string"},
    },
    "anyOf": [{"required": ["left"]}, {"required": ["name"]}],
    "allOf": [{"properties": {"name": {"minLength": 2}}}],
    "$defs": {"leaf": {"type": "object", "properties": {"tree": {"$ref": "tree.json"}}}},
}


@pytest.mark.parametrize(
    ("event", "faults"),
    [
        ("{'name': 1, 'left': x}", ["$.name expected string, got integer"]),
        ("{'name': 'a', 'left': x}", ["$.name expected at least 2 characters, got 1"]),
        ("{'other': x}", []),
        ("{'left': x, 'children': [{}]}", []),
        ("{'left': {'tree': 1}, 'children': x}", []),
        ("{'left': {'tree': 1, 'x': x}}", []),
        ("{'children': []}", ["$ fits no alternative; repair one of: requires 'left'; requires 'name'"]),
    ],
)
def test_a_recursive_schema_is_checked_as_far_as_possible(event: str, faults: list[str], project: Path) -> None:
    (project / "tree.json").write_text(json.dumps(TREE))
    (project / "channels.yaml").write_text(
        "version: 1\nchannels: {trees: {consumer: a.B, events: {tree: tree.json}}}\n"
    )
    (project / "app.py").write_text(f"layer.send('trees', {{'type': 'tree', {event[1:]})")

    found = check_senders(load(), ["app.py"]).findings

    assert [finding.message.partition(": ")[2] for finding in found] == faults


SCALARS: Any = st.sampled_from([None, True, 0, 1, 2.5, "a", "b"])
VALUES: Any = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
OBJECTS: Any = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def schemas(values: Any) -> Any:
    def further(inner: Any) -> Any:
        listed = st.lists(inner, min_size=1, max_size=2)
        return st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["object", "array", "string", ["object", "null"]]),
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
                "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
                "additionalProperties": st.booleans() | inner,
                "patternProperties": st.dictionaries(st.just("a|b"), inner, max_size=1),
                "unevaluatedProperties": st.booleans(),
                "items": inner,
                "prefixItems": listed,
                "minItems": st.integers(0, 2),
                "uniqueItems": st.booleans(),
                "maxProperties": st.integers(0, 3),
                "dependentRequired": st.dictionaries(st.sampled_from("abc"), st.just(["a"]), max_size=1),
                "not": inner,
                "if": inner,
                "then": inner,
                "else": inner,
                "anyOf": listed,
                "oneOf": listed,
                "allOf": listed,
                "const": values,
                "enum": st.lists(values, min_size=1, max_size=3),
            },
        )

    return st.recursive(st.booleans() | st.fixed_dictionaries({"const": values}), further, max_leaves=6)


@st.composite
def half_known(draw: Any, value: Any) -> str:
    """Write a value as Python code, with some parts replaced by a name or by `**rest`."""
    if draw(st.integers(0, 4)) == 0:
        return "x"
    if isinstance(value, list):
        return "[" + ", ".join([draw(half_known(item)) for item in value]) + "]"
    if isinstance(value, dict):
        hidden = draw(st.sets(st.sampled_from("abc"))) if draw(st.booleans()) else set()
        parts = [f"{key!r}: {draw(half_known(item))}" for key, item in value.items() if key not in hidden]
        return "{" + ", ".join([*parts, *(["**x"] if hidden else [])]) + "}"
    return repr(value)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), event=OBJECTS)
def test_a_valid_event_stays_valid_if_parts_of_it_are_unknown(data: Any, event: dict[str, Any], project: Path) -> None:
    schema = data.draw(schemas(st.sampled_from([{"type": "t", **event}, *event.values(), 1])))
    (project / "s.json").write_text(json.dumps({"allOf": [schema, True]}))
    (project / "channels.yaml").write_text("version: 1\nchannels: {c: {consumer: a.B, events: {t: s.json}}}\n")
    contract = load()
    if contract.channel("c").judge({"type": "t", **event}) is None:
        parts = [f"{key!r}: {data.draw(half_known(value))}" for key, value in event.items()]
        code = f"layer.send('c', {{{', '.join([repr('type') + ': ' + repr('t'), *parts])}}})"
        (project / "app.py").write_text(code)
        assert check_senders(contract, ["app.py"]).findings == (), code
