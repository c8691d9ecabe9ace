"""Edits of models whose schemas a generator writes: Pydantic, serde with schemars, TypeScript."""

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


OK, BREAKS, LIKELY, OPEN, SAME = "compatible", "breaking", "likely", "undecided", "same"
NULL = {"type": "null"}
INT = {"type": "integer", "title": "N"}
TEXT = {"type": "string", "title": "T"}
NUMBER = {"type": "number"}
CLOSED = {"additionalProperties": False}
OPENED = {"additionalProperties": True}


def model(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """Return the schema of a class, which all three generators write alike."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "title": "Model", "properties": properties, **needed, **more}


def optional(schema: Any) -> dict[str, Any]:
    """Return the schema of Pydantic's `Optional[X] = None`."""
    return {"anyOf": [schema, NULL], "default": None, "title": "V"}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def with_models(properties: dict[str, Any], *required: str, **models: Any) -> dict[str, Any]:
    return model(properties, *required, **{"$defs": models})


def field(schema: Any, **models: Any) -> dict[str, Any]:
    """Return an event schema with one field."""
    return with_models({"v": schema}, "v", **models)


def both(name: str, narrow: Any, wide: Any) -> list[Edit]:
    """An edit that narrows breaks senders; undone, it breaks consumers."""
    return [Edit(name, wide, narrow, BREAKS, OK), Edit(f"{name}, undone", narrow, wide, OK, BREAKS)]


def neither(name: str, old: Any, new: Any) -> list[Edit]:
    return [Edit(name, old, new, OK, OK), Edit(f"{name}, undone", new, old, OK, OK)]


SCALARS = (INT, TEXT, NUMBER, {"type": "boolean"})


def wide_model(count: int) -> dict[str, Any]:
    return model({f"f{index}": optional(SCALARS[index % 4]) for index in range(count)})


def tagged(*, keyword: str = "oneOf", discriminator: bool = True, **models: Any) -> dict[str, Any]:
    """Return the schema of Pydantic's discriminated union, or of TypeScript's with `anyOf`."""
    mapping = {name.lower(): f"#/$defs/{name}" for name in models}
    hint = {"discriminator": {"mapping": mapping, "propertyName": "kind"}} if discriminator else {}
    return {**hint, keyword: [ref(name) for name in models]}


def kind(name: str, properties: Any = None, *required: str, **more: Any) -> dict[str, Any]:
    tag = {"const": name, "title": "Kind", "type": "string"}
    return model({"kind": tag, **(properties or {})}, "kind", *required, **more)


CAT, DOG = kind("cat", {"lives": INT}, "lives"), kind("dog", {"name": optional(TEXT)})
BIRD = kind("bird", {"wings": INT})


def pets(**models: Any) -> dict[str, Any]:
    return field(tagged(**models), **models)


def pets_of_typescript(**models: Any) -> dict[str, Any]:
    return field(tagged(keyword="anyOf", discriminator=False, **models), **models)


def external(**variants: Any) -> dict[str, Any]:
    """Serde's default enum: unit variants as texts, others as an object of one closed property."""
    units = [name for name, variant in variants.items() if variant is None]
    others = [model({name: variant}, name, **CLOSED) for name, variant in variants.items() if variant is not None]
    return field({"oneOf": [*([{"type": "string", "enum": units}] if units else []), *others]})


def internal(**variants: Any) -> dict[str, Any]:
    """Serde's `tag = "type"`, here `kind`: the tag is an enum of one in older versions of schemars."""
    branches = []
    for name, properties in variants.items():
        tag = {"type": "string", "enum": [name]}
        branches.append(model({"kind": tag, **properties}, "kind", *properties))
    return field({"oneOf": branches})


def adjacent(**variants: Any) -> dict[str, Any]:
    """Serde's `tag = "t", content = "c"`."""
    branches = []
    for name, content in variants.items():
        tag = {"type": "string", "const": name}
        there = {} if content is None else {"c": content}
        branches.append(model({"t": tag, **there}, "t", *there))
    return field({"oneOf": branches})


def union(*branches: Any) -> dict[str, Any]:
    return field({"anyOf": list(branches)})


def point(**more: Any) -> dict[str, Any]:
    return model({"x": INT, "y": INT, **more}, "x", "y")


def node(**more: Any) -> dict[str, Any]:
    """Return a recursive event schema."""
    children = {"type": "array", "items": ref("Node")}
    return field(
        ref("Node"), Node=model({"v": INT, "children": children, "parent": optional(ref("Node")), **more}, "v")
    )


HEX = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
MANY = {f"Kind{index}": kind(f"k{index}", {f"n{index}": INT}) for index in range(40)}
BASE = model({"id": INT}, "id")
UNTYPED_MAP = {"type": "object", "additionalProperties": True}

EDITS = [
    # Pydantic: optional fields, nested models, enums, constrained types.
    *neither("an optional field more", model({"a": INT}, "a"), model({"a": INT, "b": optional(TEXT)}, "a")),
    *neither("a 25th optional field in an optional model", with_models({"m": optional(ref("M"))}, M=wide_model(24)),
             with_models({"m": optional(ref("M"))}, M=wide_model(25))),
    *neither("a 61st optional field in a list of models", field({"type": "array", "items": ref("M")}, M=wide_model(60)),
             field({"type": "array", "items": ref("M")}, M=wide_model(61))),
    *neither("an optional field more in a dict of models",
             field({"type": "object", "additionalProperties": ref("M")}, M=wide_model(30)),
             field({"type": "object", "additionalProperties": ref("M")}, M=wide_model(31))),
    *both("a field of an optional model loses null",
          with_models({"m": optional(ref("M"))}, M=model({**wide_model(24)["properties"], "f3": SCALARS[3]})),
          with_models({"m": optional(ref("M"))}, M=wide_model(24))),
    *both("an optional field becomes required", model({"a": INT, "b": optional(TEXT)}, "a", "b"),
          model({"a": INT, "b": optional(TEXT)}, "a")),
    *both("a field loses null", field(TEXT), field(optional(TEXT))),
    *both("an optional model loses null", field(ref("M"), M=BASE), field(optional(ref("M")), M=BASE)),
    *neither("nullable as a list of types", field({"type": ["string", "null"]}), field(optional(TEXT))),
    *both("int or str to int", field(INT), field({"anyOf": [INT, TEXT]})),
    *both("int to float", field(INT), field(NUMBER)),
    *both("a member of an enum is gone", field(ref("Color"), Color={"type": "string", "enum": ["red", "blue"]}),
          field(ref("Color"), Color={"type": "string", "enum": ["red", "blue", "green"]})),
    *neither("an enum of texts gets its type", field({"enum": ["red", "blue"]}),
             field({"type": "string", "enum": ["red", "blue"]})),
    *neither("Literal of one value as enum", field({"const": "red", "type": "string"}), field({"enum": ["red"]})),
    *both("gt to ge", field({"type": "integer", "exclusiveMinimum": 0}), field({"type": "integer", "minimum": 0})),
    *both("another multiple below a maximum", field({"type": "integer", "multipleOf": 10, "maximum": 500}),
          field({"type": "integer", "multipleOf": 10, "maximum": 1000})),
    *both("a maximum beside a multiple", field({"type": "integer", "multipleOf": 10, "maximum": 500}),
          field({"type": "integer", "multipleOf": 10})),
    *both("a long maximum of a text", field({"type": "string", "maxLength": 5000}), field(TEXT)),
    *both("a long maximum beside a pattern", field({"type": "string", "pattern": "^[0-9]+$", "maxLength": 5000}),
          field({"type": "string", "pattern": "^[0-9]+$"})),
    *both("a very long maximum is lowered", field({"type": "string", "maxLength": 65_535}),
          field({"type": "string", "maxLength": 1_000_000})),
    *both("a long list", field({"type": "array", "items": INT, "maxItems": 5000}),
          field({"type": "array", "items": INT})),
    *neither("a length that the pattern implies", field(HEX), field({**HEX, "maxLength": 36})),
    *neither("both lengths that the pattern implies", field(HEX), field({**HEX, "minLength": 16, "maxLength": 16})),
    *both("a length shorter than the pattern's", field({**HEX, "maxLength": 15}), field(HEX)),
    *neither("a length that the format implies", field({"type": "string", "format": "uuid"}),
             field({"type": "string", "format": "uuid", "maxLength": 36})),
    *both("str to UUID", field({"type": "string", "format": "uuid"}), field(TEXT)),
    *both("str to datetime", field({"type": "string", "format": "date-time"}), field(TEXT)),
    *both("a Decimal loses its text", field(NUMBER), field({"anyOf": [NUMBER, TEXT]})),
    Edit("extra=forbid", model({"a": INT}), model({"a": INT}, **CLOSED), OK, OK),
    Edit("a field more under extra=forbid", model({"a": INT}, **CLOSED), model({"a": INT, "b": TEXT}, **CLOSED),
         OK, BREAKS),
    *neither("a field more under extra=allow", model({"a": INT}, **OPENED), model({"a": INT, "b": TEXT}, **OPENED)),
    *neither("a field more in a model under extra=allow", field(ref("M"), M=model({"a": INT}, **OPENED)),
             field(ref("M"), M=model({"a": INT, "b": TEXT}, **OPENED))),
    *neither("a field more in a union under extra=allow",
             pets(Cat={**CAT, **OPENED}, Dog={**DOG, **OPENED}),
             pets(Cat={**CAT, **OPENED}, Dog=kind("dog", {"name": optional(TEXT), "age": INT}, **OPENED))),
    *neither("extra=allow is written out", model({"a": INT}), model({"a": INT}, **OPENED)),
    *both("a free dict becomes a dict of numbers", field({"type": "object", "additionalProperties": NUMBER}),
          field(UNTYPED_MAP)),
    *neither("a field more beside extra fields of one type", model({"a": TEXT}, additionalProperties=TEXT),
             model({"a": TEXT, "b": TEXT}, additionalProperties=TEXT)),
    *both("a field more of another type beside extra fields of one type",
          model({"a": TEXT, "b": {"type": "string", "maxLength": 3}}, additionalProperties=TEXT),
          model({"a": TEXT}, additionalProperties=TEXT)),
    *neither("a field more beside constrained keys", model({"a": INT}, patternProperties={"^x-": TEXT}),
             model({"a": INT, "b": INT}, patternProperties={"^x-": TEXT})),
    *neither("a field more that constrained keys cover", model({"a": INT}, patternProperties={"^x-": TEXT}),
             model({"a": INT, "x-b": TEXT}, patternProperties={"^x-": TEXT})),
    Edit("more constrained keys", model({"a": INT}, patternProperties={"^x-": TEXT}, **CLOSED),
         model({"a": INT}, patternProperties={"^x-": TEXT, "^y-": INT}, **CLOSED), OK, BREAKS),
    *both("values of constrained keys", model({"a": INT}, patternProperties={"^x-": INT}, additionalProperties=TEXT),
          model({"a": INT}, patternProperties={"^x-": NUMBER}, additionalProperties=TEXT)),
    *both("a tuple of more", field({"type": "array", "prefixItems": [INT, INT], "minItems": 2, "maxItems": 2}),
          field({"type": "array", "prefixItems": [INT, NUMBER], "minItems": 2, "maxItems": 2})),
    *both("a set of a list", field({"type": "array", "items": TEXT, "uniqueItems": True}),
          field({"type": "array", "items": TEXT})),
    *neither("inheritance is written out", field({"allOf": [ref("Base")]}, Base=BASE), field(BASE)),
    *neither("a field more beside allOf", field({"allOf": [ref("Base"), model({"a": INT})]}, Base=BASE),
             field({"allOf": [ref("Base"), model({"a": INT, "b": TEXT})]}, Base=BASE)),
    *both("a required field more beside allOf", field({"allOf": [ref("Base"), model({"a": INT}, "a")]}, Base=BASE),
          field({"allOf": [ref("Base"), model({"a": INT})]}, Base=BASE)),
    # Pydantic: unions of models.
    *both("a model of a union is gone", pets(Cat=CAT, Dog=DOG), pets(Cat=CAT, Dog=DOG, Bird=BIRD)),
    *neither("an optional field in a model of a union", pets(Cat=CAT, Dog=DOG),
             pets(Cat=CAT, Dog=kind("dog", {"name": optional(TEXT), "age": optional(INT)}))),
    *both("a field of the second model loses null", pets(Cat=CAT, Dog=kind("dog", {"name": TEXT})),
          pets(Cat=CAT, Dog=DOG)),
    *both("a field of the second model becomes required", pets(Cat=CAT, Dog=kind("dog", {"name": TEXT}, "name")),
          pets(Cat=CAT, Dog=kind("dog", {"name": TEXT}))),
    *neither("the order of a union", pets(Cat=CAT, Dog=DOG), pets(Dog=DOG, Cat=CAT)),
    *neither("oneOf to anyOf", pets(Cat=CAT, Dog=DOG), pets_of_typescript(Cat=CAT, Dog=DOG)),
    *neither("an optional union gets an optional field", field({"anyOf": [tagged(Cat=CAT, Dog=DOG), NULL]},
             Cat=CAT, Dog=DOG),
             field({"anyOf": [tagged(Cat=CAT, Dog=DOG), NULL]}, Cat=CAT, Dog=kind("dog", {"age": INT,
                      "name": optional(TEXT)}))),
    *both("one of 40 models is gone", pets(**dict(list(MANY.items())[:39])), pets(**MANY)),
    *both("a field of the last of 40 models", pets(**{**MANY, "Kind39": kind("k39", {"n39": INT})}),
          pets(**{**MANY, "Kind39": kind("k39", {"n39": optional(INT)})})),
    *both("a list of a union", field({"type": "array", "items": tagged(Cat=CAT, Dog=DOG)}, Cat=CAT, Dog=DOG),
          field({"type": "array", "items": tagged(Cat=CAT, Dog=DOG, Bird=BIRD)}, Cat=CAT, Dog=DOG, Bird=BIRD)),
    *both("a list becomes a list or a single one", field({"type": "array", "items": TEXT}),
          field({"anyOf": [TEXT, {"type": "array", "items": TEXT}]})),
    *neither("a recursive model gets an optional field", node(), node(note=optional(TEXT))),
    *both("a recursive model gets a narrower field", node(w=INT), node(w=optional(INT))),
    # Serde.
    *both("external: a unit variant is gone", external(Stop=None, Go=None), external(Stop=None, Go=None, Turn=None)),
    *both("external: a newtype variant is gone", external(Stop=None, Move=INT), external(Stop=None, Move=INT,
             Say=TEXT)),
    *neither("external: an optional field", external(Stop=None, Move=point(), Say=TEXT),
             external(Stop=None, Move=point(z=optional(INT)), Say=TEXT)),
    *both("external: a field of the last variant", external(Stop=None, Say=TEXT, Move=point(z=INT)),
          external(Stop=None, Say=TEXT, Move=point(z=NUMBER))),
    *neither("external: units one by one", external(Stop=None, Go=None),
             field({"oneOf": [{"type": "string", "const": "Stop"}, {"type": "string", "const": "Go"}]})),
    *both("external: a tuple variant", external(Move={"type": "array", "prefixItems": [INT, INT], "minItems": 2,
             "maxItems": 2}),
          external(Move={"type": "array", "prefixItems": [INT, NUMBER], "minItems": 2, "maxItems": 2})),
    *both("internal: a variant is gone", internal(stop={}, go={"x": INT}), internal(stop={}, go={"x": INT}, turn={})),
    *both("internal: a field", internal(stop={}, go={"x": INT}), internal(stop={}, go={"x": NUMBER})),
    *neither("internal: const for an enum of one", internal(stop={}, go={"x": INT}),
             field({"oneOf": [kind("stop"), kind("go", {"x": INT}, "x")]})),
    *both("adjacent: a variant is gone", adjacent(Stop=None, Go=INT), adjacent(Stop=None, Go=INT, Say=TEXT)),
    *both("adjacent: content", adjacent(Stop=None, Go=INT, Say=TEXT), adjacent(Stop=None, Go=NUMBER, Say=TEXT)),
    *neither("adjacent: an optional field of content", adjacent(Stop=None, Move=point()),
             adjacent(Stop=None, Move=point(z=optional(INT)))),
    *both("an Option of an enum", external(Stop=None, Go=INT), field({"anyOf": [external(Stop=None,
             Go=INT)["properties"]["v"], NULL]})),
    *both("u8 to u16", field({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255}),
          field({"type": "integer", "format": "uint16", "minimum": 0, "maximum": 65535})),
    # TypeScript.
    *both("a literal of a union is gone", field({"type": "string", "enum": ["a", "b"]}),
          field({"type": "string", "enum": ["a", "b", "c"]})),
    *both("a member of string | number", union(TEXT, NUMBER), union(TEXT, NUMBER, {"type": "boolean"})),
    *neither("a union of types as a list", union(TEXT, NUMBER), field({"type": ["string", "number"]})),
    *both("string | null to string", field(TEXT), field({"type": ["string", "null"]})),
    *both("a member of a union of closed interfaces",
          pets_of_typescript(Cat={**CAT, **CLOSED}, Dog={**DOG, **CLOSED}),
          pets_of_typescript(Cat={**CAT, **CLOSED}, Dog={**kind("dog", {"name": optional(TEXT), "age": INT}),
                   **CLOSED})),
    *both("a union without a tag", union(model({"a": INT}, "a", **CLOSED)),
          union(model({"a": INT}, "a", **CLOSED), model({"b": INT}, "b", **CLOSED))),
    *both("a tag of numbers", field({"anyOf": [model({"n": {"type": "number", "const": 1}, "a": INT}, "n")]}),
          field({"anyOf": [model({"n": {"type": "number", "const": number}, "a": INT}, "n") for number in (1, 2)]})),
    *both("a tag that is true or false",
          field({"oneOf": [model({"ok": {"const": True}, "a": INT}, "ok"), model({"ok": {"const": False},
                   "e": TEXT}, "ok")]}),
          field({"oneOf": [model({"ok": {"const": True}, "a": NUMBER}, "ok"), model({"ok": {"const": False},
                   "e": TEXT}, "ok")]})),
    *both("a tag of several values",
          field({"oneOf": [model({"k": {"enum": ["a", "b"]}, "x": INT}, "k"), model({"k": {"enum": ["c"]},
                   "y": INT}, "k")]}),
          field({"oneOf": [model({"k": {"enum": ["a", "b"]}, "x": INT}, "k"), model({"k": {"enum": ["c", "d"]},
                   "y": INT}, "k")]})),
    *neither("a schema in a schema with a name of its own", model({"v": {"$id": "https://example.org/v.json", **BASE}}),
             model({"v": {"$id": "https://example.org/v.json", **BASE}, "w": TEXT})),
    Edit("only names and notes", pets(Cat=CAT, Dog=DOG), {**pets(Cat=CAT, Dog=DOG), "description": "d"}, SAME, SAME),
    # Whole events as unions.
    *both("an event that is a union", {"oneOf": [CAT, DOG]}, {"oneOf": [CAT, DOG, BIRD]}),
    *neither("an event that is a union of closed models", {"oneOf": [{**CAT, **CLOSED}, {**DOG, **CLOSED}]},
             {"anyOf": [{**DOG, **CLOSED}, {**CAT, **CLOSED}]}),
    Edit("another pattern", field({"type": "string", "pattern": "^[a-z]+$"}),
         field({"type": "string", "pattern": "^[a-z0-9]+$"}), LIKELY, BREAKS),
]  # fmt: skip


def accepts(schema: Any, event: dict[str, Any]) -> bool:
    """Return whether a contract with that schema accepts an event."""
    return event["type"] == "t" and Validator(with_type(schema)).is_valid(event)


def proves(compatibility: Compatibility, source: Any, target: Any) -> bool:
    counterexample = compatibility.counterexample
    return counterexample is not None and accepts(source, counterexample) and not accepts(target, counterexample)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_of_a_generated_schema_has_the_expected_verdict(
    edit: Edit, released: Callable[..., ReleasedType]
) -> None:
    old, new = released(edit.old), released(edit.new)
    senders, consumers = compare_event_type("t", old, new), compare_event_type("t", new, old)
    assert (senders.verdict, consumers.verdict) == (edit.senders, edit.consumers)
    assert (senders.verdict == "breaking") == proves(senders, edit.old, edit.new)
    assert (consumers.verdict == "breaking") == proves(consumers, edit.new, edit.old)


def test_undecided_edits_of_generated_schemas_are_rare() -> None:
    assert len(EDITS) >= 60
    verdicts = [verdict for edit in EDITS for verdict in (edit.senders, edit.consumers)]
    assert verdicts.count(OPEN) <= 3
    assert verdicts.count(LIKELY) <= 1
