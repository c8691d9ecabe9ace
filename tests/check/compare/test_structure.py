"""Bundled schemas accept the same events as before, and the normal form hides no difference."""

from typing import Any
from urllib.parse import quote

import pytest

from channelmap.check.compare.normal_form import digest, normalize
from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.verdicts import compare_event_type
from channelmap.validation import BASE_URI, SchemaSet, Validator, with_type
from channelmap.validation.structure import CannotBundle, bundle, children, reachable_documents

PART = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def alone(schema: Any, **files: Any) -> Any:
    others = SchemaSet([(f"{BASE_URI}{name}.json", each) for name, each in files.items()])
    return bundle(Validator(with_type(schema), f"{BASE_URI}own.json", others))


def test_keywords_beside_a_reference_still_apply() -> None:
    schema = alone({"properties": {"v": {"$ref": "part.json", "required": ["b"]}}}, part=PART)
    validator = Validator(schema)
    assert validator.is_valid({"v": {"a": 1, "b": 2}})
    assert not validator.is_valid({"v": {"a": 1}})
    assert not validator.is_valid({"v": {"b": 1}})


def test_files_that_refer_to_each_other_are_bundled() -> None:
    one = {"properties": {"n": {"type": "integer"}, "other": {"$ref": "two.json#/$defs/deep"}}}
    two = {"$defs": {"deep": {"type": "array", "items": {"$ref": "one.json"}}}}
    validator = Validator(alone({"properties": {"v": {"$ref": "one.json"}}}, one=one, two=two))
    assert validator.is_valid({"v": {"other": [{"n": 1, "other": [{"n": 2}]}]}})
    assert not validator.is_valid({"v": {"other": [{"n": 1, "other": [{"n": "x"}]}]}})


def test_a_change_in_a_recursive_file_is_found() -> None:
    def node(value: Any) -> ReleasedType:
        tree = {"properties": {"v": value, "next": {"$ref": "node.json"}}}
        return ReleasedType(normalize(alone({"properties": {"tree": {"$ref": "node.json"}}}, node=tree)))

    assert compare_event_type("t", node({"type": "integer"}), node({"type": "number"})).verdict == "compatible"
    assert compare_event_type("t", node({"type": "number"}), node({"type": "integer"})).verdict == "breaking"


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"$anchor": "here"}}, "properties": {"v": {"$ref": "#here"}}},
        {"properties": {"v": {"$id": "there.json", "$ref": "#"}}},
        {"$defs": {"a": {"$id": "there.json", "$defs": {"b": {}}}}, "properties": {"v": {"$ref": "#/$defs/a/$defs/b"}}},
        {"$dynamicAnchor": "node", "properties": {"v": {"$dynamicRef": "#node"}}},
        {"properties": {"v": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}},
        {"$defs": {"0": {}} | {str(n): {"allOf": [{"$ref": f"#/$defs/{n - 1}"}] * 10} for n in range(1, 9)},
         "properties": {"v": {"$ref": "#/$defs/8"}}},
    ],
    ids=["an anchor", "an id beside", "a way through an id", "a dynamic reference", "a metaschema", "a bomb"],
)  # fmt: skip
def test_a_schema_that_cannot_be_bundled_raises(schema: Any) -> None:
    with pytest.raises(CannotBundle):
        alone(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"v": {"$id": "https://example.org/part.json", **PART}}},
        {"$defs": {"a": {"$id": "there.json", **PART}}, "properties": {"v": {"$ref": "there.json"}}},
        {"$defs": {"a": {"$id": "there.json", "$defs": {"b": PART}, "allOf": [{"$ref": "#/$defs/b"}]}},
         "properties": {"v": {"$ref": "#/$defs/a"}}},
        {"properties": {"v": {"$id": "sub/x.json", "allOf": [{"$ref": "../part.json"}]}}},
        {"$defs": {"a": {"$id": "sub/x.json", "allOf": [{"$ref": "../part.json"}]}},
         "properties": {"v": {"$ref": "sub/x.json"}}},
        {"$id": "https://example.org/all.json", "$defs": {"a": PART}, "properties": {"v": {"$ref": "#/$defs/a"}}},
    ],
    ids=["without a reference", "referred to", "a base of its own", "elsewhere", "elsewhere, referred to", "outermost"],
)  # fmt: skip
def test_a_schema_in_a_schema_may_have_an_id(schema: Any) -> None:
    validator = Validator(alone(schema, part=PART))
    assert validator.is_valid({"v": {"a": 1}})
    assert not validator.is_valid({"v": {"a": "x"}})
    assert not validator.is_valid({"v": {}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"required": ["a", "b"]}, {"required": ["b", "a"]}),
        ({"properties": {"title": {"title": "T"}}}, {"properties": {"title": True}}),
        (
            {"properties": {"v": {"dependencies": {"a": ["b"]}}}},
            {"properties": {"v": {"allOf": [{"dependentRequired": {"a": ["b"]}}]}}},
        ),
        ({"x-owner": "me", "$comment": "c", "default": {}}, {}),
    ],
)
def test_equivalent_schemas_have_the_same_normal_form(one: Any, other: Any) -> None:
    assert digest(normalize(alone(one))) == digest(normalize(alone(other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"properties": {"title": {"type": "string"}}}, {"properties": {}}),
        ({"properties": {"v": {"const": {"title": "a"}}}}, {"properties": {"v": {"const": {"title": "b"}}}}),
        ({"properties": {"v": {"enum": [1, "1"]}}}, {"properties": {"v": {"enum": ["1"]}}}),
        ({"properties": {"v": {"prefixItems": [{}, False]}}}, {"properties": {"v": {"prefixItems": [False, {}]}}}),
    ],
)
def test_different_schemas_have_different_normal_forms(one: Any, other: Any) -> None:
    assert digest(normalize(alone(one))) != digest(normalize(alone(other)))


def test_a_value_that_is_not_a_schema_is_ignored_where_a_schema_is_allowed() -> None:
    assert list(children({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": ["x", True]})) == [
        (("prefixItems", 1), True)
    ]


def test_a_recursive_definition_with_a_name_beyond_ascii_can_be_compiled() -> None:
    name = quote("Straße")
    validator = Validator({"$defs": {"Straße": {"items": {"$ref": f"#/$defs/{name}"}}}, "$ref": f"#/$defs/{name}"})
    assert Validator(bundle(validator)).is_valid({"type": "street"})


def test_reachable_documents_show_whether_a_schema_has_changed() -> None:
    near, far = f"{BASE_URI}near.json", f"{BASE_URI}far.json"
    others: dict[str, Any] = {near: {"$ref": "far.json#name"}, far: {"$anchor": "name"}, f"{BASE_URI}unused.json": {}}
    assert set(reachable_documents(Validator(others[near], near, SchemaSet(others.items())))) == {near, far}


def test_a_schema_that_changes_the_base_uri_may_refer_to_every_document() -> None:
    near = f"{BASE_URI}near.json"
    others: dict[str, Any] = {near: {"items": {"$id": "sub/x.json", "$ref": "y.json"}}, f"{BASE_URI}sub/y.json": {}}
    assert set(reachable_documents(Validator(others[near], near, SchemaSet(others.items())))) == set(others)
