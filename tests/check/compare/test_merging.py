"""Schemas rewritten for a proof accept the same values; disjoint schemas have no value in common."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channelmap.check.compare.merging import disjoint, flatten, merge, merge_branch
from channelmap.check.compare.parts import covers_in_parts
from channelmap.check.compare.patterns import add_implied_lengths, exclude_each_other
from channelmap.validation import Validator

NAMES = ("a", "b", "x-a")
SCALARS = [None, True, False, 0, 1, 1.0, 2, 0.5, "", "a", "ab", "abc", "x"]
VALUES = [
    *SCALARS,
    *([value] for value in SCALARS),
    *({name: value} for name in NAMES for value in SCALARS),
    *({"a": one, "b": other} for one in SCALARS for other in SCALARS),
    *({"a": one, "x-a": other} for one in SCALARS for other in SCALARS),
]


def keywords(inner: Any) -> Any:
    """Draw a few keywords that interact with each other."""
    choices = {
        "type": st.sampled_from(["object", "string", "integer", "number", "null", "boolean", ["string", "null"]]),
        "const": st.sampled_from(SCALARS),
        "enum": st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3),
        "minimum": st.integers(0, 2),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(["^a", "b$", "^[a-b]{2}$", "^a?b*$", "^.{1,3}$"]),
        "items": inner,
        "properties": st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=2),
        "required": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
        "additionalProperties": inner | st.just(False),  # noqa: FBT003  (a schema)
        "unevaluatedProperties": inner | st.just(False),  # noqa: FBT003
        "patternProperties": st.dictionaries(st.sampled_from(["^x-", "^a"]), inner, min_size=1, max_size=2),
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=3),
        "oneOf": st.lists(inner, min_size=1, max_size=3),
    }
    return st.lists(st.one_of([st.tuples(st.just(key), each) for key, each in choices.items()]), max_size=3).map(dict)


SCHEMAS = keywords(st.recursive(st.booleans(), keywords, max_leaves=6))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SCHEMAS, SCHEMAS)
def test_rewritten_schemas_accept_the_same_values(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = Validator(one), Validator(other)
    whole = merge(one, other)
    both = [Validator(each) for each in ([] if whole is None else [whole])]
    within = {**one, "allOf": [*one.get("allOf", []), other]}
    pairs = [(within, merge_branch(one, other)), (one, flatten(one)), (one, add_implied_lengths(one))]
    compiled = [(Validator(before), Validator(after)) for before, after in pairs]
    for value in VALUES:
        assert all(each.fits(value) == (first.fits(value) and second.fits(value)) for each in both)
        assert all(before.fits(value) == after.fits(value) for before, after in compiled)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SCHEMAS, SCHEMAS, st.sampled_from(["properties", "additionalProperties", "anyOf", "type", "patternProperties"]))
def test_no_value_contradicts_a_proof_of_disjointness(one: dict[str, Any], other: dict[str, Any], keyword: str) -> None:
    near = {**one, keyword: other[keyword]} if keyword in other else {**other, **one}
    for wide, narrow in ((one, near), (near, one), (one, other)):
        outer, inner = Validator(wide), Validator(narrow)
        accepted = [value for value in VALUES if inner.fits(value)]
        if disjoint(wide, narrow):
            assert not [value for value in accepted if outer.fits(value)]
        if covers_in_parts(wide, narrow):
            assert all(outer.fits(value) for value in accepted)


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("^[0-9a-f]{16}$", (16, 16)),
        (r"^v\d+\.\d{1,3}$", (4, None)),
        ("^ab?c*", (1, None)),
        ("^a{2,}?b$", (3, None)),
        ("^(ab)+$", None),
        ("^a|b$", None),
        ("a{3}", None),
        (r"^\p{L}{2}$", None),
        ("^[a-z&&[^b]]$", None),
    ],
)
def test_lengths_are_derived_from_a_simple_pattern(pattern: str, lengths: tuple[int, int | None] | None) -> None:
    found = add_implied_lengths({"pattern": pattern})
    assert (found.get("minLength"), found.get("maxLength")) == (lengths or (None, None))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("^x-", "^y-", True),
        ("^x-", "^x-a", False),
        ("^x", "y", False),
        ("^x?a", "^ya", False),
        ("^x-|^y-", "^y-", False),
        ("^ab*", "^ac", False),
    ],
)
def test_patterns_with_different_prefixes_exclude_each_other(one: str, other: str, *, expected: bool) -> None:
    assert exclude_each_other(one, other) is expected
