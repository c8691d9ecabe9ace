"""Typical edits of a schema, with the expected verdicts: do they break senders or consumers?"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.verdicts import Compatibility, compare_event_type
from channelmap.validation import Validator, with_type


class Edit(NamedTuple):
    """An edit: its name, both schemas, and the verdicts on senders and on consumers."""

    name: str
    old: Any
    new: Any
    senders: str
    consumers: str


OK, BREAKS, LIKELY, OPEN = "compatible", "breaking", "likely", "undecided"
INT, TEXT = {"type": "integer"}, {"type": "string"}


def thing(properties: Any = None, *required: str, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "object", "properties": {"id": INT} if properties is None else properties}
    return {**result, **({"required": list(required)} if required else {}), **more}


def value(schema: Any) -> dict[str, Any]:
    return thing({"v": schema}, "v")


def both(name: str, narrow: Any, wide: Any) -> list[Edit]:
    """An edit that narrows breaks senders; undone, it breaks consumers."""
    return [Edit(f"{name}", wide, narrow, BREAKS, OK), Edit(f"{name}, undone", narrow, wide, OK, BREAKS)]


def values(name: str, narrow: Any, wide: Any) -> list[Edit]:
    return both(name, value(narrow), value(wide))


def ref(definition: Any) -> dict[str, Any]:
    return thing({"v": {"$ref": "#/$defs/part"}}, "v", **{"$defs": {"part": definition}})


def kinds(keyword: str, count: int, more: dict[str, Any]) -> dict[str, Any]:
    branches = [thing({"kind": {"const": f"k{index}"}, f"n{index}": INT}, "kind") for index in range(count)]
    branches[0]["properties"] |= more
    return {"type": "object", "properties": {"kind": TEXT}, keyword: branches}


DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
TREE = {"type": "object", "properties": {"v": INT, "next": {"$ref": "#/$defs/part"}}, "required": ["v"]}
TREE_WIDER = {**TREE, "properties": {**TREE["properties"], "note": TEXT}}  # type: ignore[dict-item]
TREE_TEXT = {**TREE, "properties": {**TREE["properties"], "v": TEXT}}  # type: ignore[dict-item]
PART = {"type": "object", "properties": {"a": INT}, "required": ["a"]}
CONDITION = {"if": {"required": ["a"]}, "then": {"required": ["b"]}}
WITH_DEFAULT = thing({"id": INT, "x": {"default": 1}}, "x")
CLOSED = {"additionalProperties": False}
OTHERS = {"additionalProperties": {"type": ["integer", "string", "null"]}}

EDITS = [
    # Types and values.
    *values("a type loses a member", INT, {"type": ["integer", "null"]}),
    *values("number to integer", INT, {"type": "number"}),
    Edit("another type", value(INT), value(TEXT), BREAKS, BREAKS),
    *values("a value is taken out of an enum", {"enum": ["a", "b"]}, {"enum": ["a", "b", "c"]}),
    *values("an enum is added", {"type": "string", "enum": ["a"]}, TEXT),
    *values("a const is added", {"const": 1}, INT),
    Edit("another const", value({"const": 1}), value({"const": 2}), BREAKS, BREAKS),
    Edit("an enum of one becomes a const", value({"enum": ["a"]}), value({"const": "a"}), OK, OK),
    # Properties.
    *both("a property becomes required", thing(None, "id"), thing()),
    Edit("a required property is added", thing(), thing({"id": INT, "x": TEXT}, "x"), BREAKS, OK),
    Edit("a required property with a default is added", thing(), WITH_DEFAULT, BREAKS, OK),
    Edit("an optional property is added", thing(), thing({"id": INT, "x": TEXT}), OK, OK),
    Edit("an optional property is removed", thing({"id": INT, "x": TEXT}), thing(), OK, OK),
    Edit("a required property is removed", thing({"id": INT, "x": TEXT}, "x"), thing(), OK, BREAKS),
    *both("a property is taken out of a closed object", thing(**CLOSED), thing({"id": INT, "x": TEXT}, **CLOSED)),
    Edit("a property is removed, and the object closed", thing({"id": INT, "x": TEXT}), thing(**CLOSED), BREAKS, OK),
    Edit("an object that says nothing is closed", thing(), thing(**CLOSED), OK, OK),
    Edit("an open object is closed", thing(additionalProperties=True), thing(**CLOSED), OK, OK),
    *both("an object of other values is closed", thing(**CLOSED), thing(**OTHERS)),
    *both("other properties become texts", thing(additionalProperties=TEXT), thing(**OTHERS)),
    *both("other properties are closed", thing(unevaluatedProperties=False), thing(unevaluatedProperties=INT)),
    Edit("a property beside others of its schema", thing(additionalProperties=TEXT),
         thing({"id": INT, "x": TEXT}, additionalProperties=TEXT), OK, OK),
    *both("a pattern of names is added", thing(patternProperties={"^x-": TEXT}, **OTHERS), thing(**OTHERS)),
    *both("rules for names are added", thing(**OTHERS, propertyNames={"maxLength": 5}),
          thing(**OTHERS)),
    *both("more properties at least", thing(minProperties=3, **OTHERS),
          thing(minProperties=2, **OTHERS)),
    *both("fewer properties at most", thing(maxProperties=2, **OTHERS),
          thing(maxProperties=3, **OTHERS)),
    *both("one property needs another", thing({"a": INT, "b": INT}, dependentRequired={"a": ["b"]}),
          thing({"a": INT, "b": INT})),
    Edit("beside a name that is required and not described", thing({"a": INT}, "b"), thing({"a": TEXT}, "b"),
         BREAKS, BREAKS),
    Edit("beside a name that an alternative requires", thing({"a": INT}, anyOf=[{"required": ["b"]}]),
         thing({"a": TEXT}, anyOf=[{"required": ["b"]}]), BREAKS, BREAKS),
    Edit("beside a name that another one needs", thing({"a": INT}, "a", dependentRequired={"a": ["b"]}),
         thing({"a": TEXT}, "a", dependentRequired={"a": ["b"]}), LIKELY, LIKELY),
    Edit("beside names that are only counted", thing({"a": INT}, minProperties=4),
         thing({"a": TEXT}, minProperties=4), LIKELY, LIKELY),
    Edit("of an event that must be another one", {"properties": {"a": INT}, "const": {"type": "t", "b": 1}},
         {"properties": {"a": INT}, "const": {"type": "t", "b": 2}}, BREAKS, BREAKS),
    *both("one property changes another", thing({"a": INT, "b": INT}, dependentSchemas={"a": value(TEXT)}),
          thing({"a": INT, "b": INT, "v": True})),
    *both("a condition is added", thing({"a": INT, "b": INT}, **CONDITION),
          thing({"a": INT, "b": INT})),
    # Numbers and texts.
    *values("a minimum is raised", {"type": "integer", "minimum": 5}, {"type": "integer", "minimum": 0}),
    *values("a maximum is added", {"type": "integer", "maximum": 9}, INT),
    *values("a maximum is excluded", {"type": "number", "exclusiveMaximum": 5}, {"type": "number", "maximum": 5}),
    *values("a multiple of more", {"type": "integer", "multipleOf": 10}, {"type": "integer", "multipleOf": 5}),
    *values("a multiple of fractions", {"type": "number", "multipleOf": 0.5}, {"type": "number", "multipleOf": 0.25}),
    *values("a text must be longer", {"type": "string", "minLength": 3}, TEXT),
    *values("a text must be shorter", {"type": "string", "maxLength": 100}, TEXT),
    *values("a pattern is added", {"type": "string", "pattern": "^[a-z]+$"}, TEXT),
    Edit("another pattern", value({"type": "string", "pattern": "^a+$"}), value({"type": "string", "pattern": "^b+$"}),
         BREAKS, BREAKS),
    Edit("a wider pattern", value({"type": "string", "pattern": "^[a-z]+$"}),
         value({"type": "string", "pattern": "^[a-z0-9]+$"}), LIKELY, BREAKS),
    *values("a format is added", {"type": "string", "format": "date"}, TEXT),
    Edit("another format", value({"type": "string", "format": "date"}), value({"type": "string", "format": "email"}),
         BREAKS, BREAKS),
    # Lists.
    *values("items become narrower", {"type": "array", "items": INT}, {"type": "array", "items": {"type": "number"}}),
    *values("more items at least", {"type": "array", "minItems": 2}, {"type": "array", "minItems": 1}),
    *values("fewer items at most", {"type": "array", "maxItems": 2}, {"type": "array", "maxItems": 3}),
    *values("items become unique", {"type": "array", "uniqueItems": True}, {"type": "array"}),
    *values("an item must be there", {"type": "array", "contains": INT}, {"type": "array"}),
    *values("two items must be there", {"type": "array", "contains": INT, "minContains": 2},
            {"type": "array", "contains": INT}),
    *values("the first item gets a type", {"type": "array", "prefixItems": [INT]}, {"type": "array"}),
    *values("a tuple is closed", {"type": "array", "prefixItems": [INT], "items": False},
            {"type": "array", "prefixItems": [INT]}),
    *values("fewer properties inside", {"type": "object", "maxProperties": 3}, {"type": "object"}),
    # Branches.
    *both("a branch is added to allOf", thing(allOf=[{"required": ["id"]}]), thing()),
    Edit("a branch that only describes is added", thing(), thing(allOf=[{"description": "a thing"}]), OK, OK),
    *values("an alternative is taken out", {"anyOf": [INT, TEXT]}, {"anyOf": [INT, TEXT, {"type": "null"}]}),
    *values("an alternative becomes narrower", {"anyOf": [INT, {"const": "a"}]}, {"anyOf": [INT, TEXT]}),
    *values("one of fewer", {"oneOf": [INT, TEXT]}, {"oneOf": [INT, TEXT, {"type": "null"}]}),
    *values("one of overlapping", {"oneOf": [INT, {"type": "number"}]}, {"oneOf": [{"type": "number"}]}),
    *values("a not is added", {"type": "integer", "not": {"const": 3}}, INT),
    *both("a branch of an event is narrower",
          thing({"kind": TEXT}, oneOf=[thing({"kind": {"const": "a"}, "x": INT}), thing({"kind": {"const": "b"}})]),
          thing({"kind": TEXT}, oneOf=[thing({"kind": {"const": "a"}, "x": {"type": "number"}}),
                                       thing({"kind": {"const": "b"}})])),
    *both("one of many kinds is narrower", kinds("oneOf", 20, {"p0": INT}), kinds("oneOf", 20, {"p0": {}})),
    Edit("one of many kinds gets an optional property", kinds("oneOf", 20, {}), kinds("oneOf", 20, {"p0": INT}),
         OK, OK),
    *both("one of many kinds is gone", kinds("anyOf", 19, {}), kinds("anyOf", 20, {})),
    *values("one of many kinds of items", {"type": "array", "items": kinds("oneOf", 12, {"p0": INT})},
            {"type": "array", "items": kinds("oneOf", 12, {"p0": {}})}),
    # The whole.
    Edit("no schema any more", value(INT), {}, OK, BREAKS),
    Edit("nothing is accepted any more", value(INT), {"not": {}}, BREAKS, OK),
    Edit("only words changed", thing(), thing(title="A thing", description="d", examples=[{"id": 1}]), "same", "same"),
    Edit("only the order changed", thing({"a": INT, "b": TEXT}, "a", "b"), thing({"b": TEXT, "a": INT}, "b", "a"),
         "same", "same"),
    # Nested.
    *values("nested: required", PART, {**PART, "required": []}),
    *values("nested: a type", PART, {**PART, "properties": {"a": {"type": "number"}}}),
    Edit("nested: optional added", value(PART), value({**PART, "properties": {"a": INT, "b": TEXT}}), OK, OK),
    *values("nested in items", {"type": "array", "items": PART}, {"type": "array", "items": {**PART, "required": []}}),
    Edit("nested in items: optional added", value({"type": "array", "items": PART}),
         value({"type": "array", "items": {**PART, "properties": {"a": INT, "b": TEXT}}}), OK, OK),
    *values("nested in other properties", {"type": "object", "additionalProperties": PART},
            {"type": "object", "additionalProperties": {**PART, "required": []}}),
    *both("in a definition", ref(INT), ref({"type": "number"})),
    Edit("a definition is written out", ref(PART), value(PART), "same", "same"),
    Edit("beside a reference", thing({"v": {"$ref": "#/$defs/part", "required": ["a"]}}, "v", **{"$defs": {"part": {
        "type": "object", "properties": {"a": INT, "b": INT}, "required": ["b"]}}}), thing({"v": {
            "$ref": "#/$defs/part"}}, "v", **{"$defs": {"part": {
                "type": "object", "properties": {"a": INT, "b": INT}, "required": ["b"]}}}), OK, BREAKS),
    Edit("recursive: optional added", ref(TREE), ref(TREE_WIDER), OK, OK),
    Edit("recursive: optional added beside a rule", ref({**TREE, "propertyNames": {"maxLength": 9}}),
         ref({**TREE_WIDER, "propertyNames": {"maxLength": 9}}), OK, OK),
    *both("recursive: a rule added", ref({**TREE, "propertyNames": {"maxLength": 9}, **OTHERS}),
          ref({**TREE, **OTHERS})),
    Edit("recursive: another type", ref(TREE), ref(TREE_TEXT), BREAKS, BREAKS),
    Edit("recursive: to the root", thing({"id": INT, "k": {"$ref": "#"}}, "id"),
         thing({"id": TEXT, "k": {"$ref": "#"}}, "id"), BREAKS, BREAKS),
    # Draft-07.
    Edit("the same in draft-07", {**DRAFT_7, **value({"type": "array", "items": [INT], "additionalItems": False})},
         value({"type": "array", "prefixItems": [INT], "items": False}), "same", "same"),
    Edit("narrower than draft-07", {**DRAFT_7, **value({"type": "number"})}, value(INT), BREAKS, OK),
    Edit("draft-07 ignores what is beside a reference",
         {**DRAFT_7, **thing({"v": {"$ref": "#/definitions/n", "minimum": 5}}), "definitions": {"n": INT}},
         thing({"v": INT}), "same", "same"),
    *both("a dependency is added in draft-07", {**DRAFT_7, **thing({"a": INT, "b": INT}, dependencies={"a": ["b"]})},
          {**DRAFT_7, **thing({"a": INT, "b": INT})}),
    *both("a dependency on a schema is added in draft-07",
          {**DRAFT_7, **thing({"a": INT, "b": INT}, dependencies={"a": {"required": ["b"]}})},
          {**DRAFT_7, **thing({"a": INT, "b": INT})}),
    *both("next to numbers that have to be one", thing({"n": {"minimum": 4, "maximum": 4}, "v": INT}, "n", "v"),
          thing({"n": {"minimum": 4, "maximum": 4}, "v": {"type": "number"}}, "n", "v")),
    Edit("draft-07 knows no uuid", {**DRAFT_7, **value({"type": "string", "format": "uuid"})},
         value({"type": "string", "format": "uuid"}), BREAKS, OK),
    Edit("a tuple with an encoding in draft-07",
         {**DRAFT_7, **value({"type": "array", "items": [{"contentEncoding": "base64"}, INT]})},
         {**DRAFT_7, **value({"type": "array", "items": [{"contentEncoding": "base64"}, TEXT]})}, BREAKS, BREAKS),
    *values("a limit beyond all events", {"type": "number", "minimum": 10**400}, {"type": "number"})[:1],
    Edit("draft-07 asserts an encoding", {**DRAFT_7, **value({"type": "string", "contentEncoding": "base64"})},
         value({"type": "string", "contentEncoding": "base64"}), OPEN, BREAKS),
]  # fmt: skip


def accepts(schema: Any, event: dict[str, Any]) -> bool:
    """Return whether a contract with that schema accepts an event."""
    return event["type"] == "t" and Validator(with_type(schema)).is_valid(event)


def proves(compatibility: Compatibility, source: Any, target: Any) -> bool:
    counterexample = compatibility.counterexample
    return counterexample is not None and accepts(source, counterexample) and not accepts(target, counterexample)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_a_typical_edit_has_the_expected_verdict(edit: Edit, released: Callable[..., ReleasedType]) -> None:
    old, new = released(edit.old), released(edit.new)
    senders, consumers = compare_event_type("t", old, new), compare_event_type("t", new, old)
    assert (senders.verdict, consumers.verdict) == (edit.senders, edit.consumers)
    assert (senders.verdict == "breaking") == proves(senders, edit.old, edit.new)
    assert (consumers.verdict == "breaking") == proves(consumers, edit.new, edit.old)


def test_undecided_edits_are_rare() -> None:
    assert len(EDITS) >= 40
    assert sum(OPEN in {edit.senders, edit.consumers} for edit in EDITS) <= 2
