"""Prove part by part that one schema covers another, if the engine's algebra cannot decide about the whole.

The algebra gives up on recursive schemas and on many parts that have not changed. Here equal parts cover each other,
and recursive schemas are proved by induction: one covers another if it does so on the assumption that it does.
"""

import functools
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import combinations
from typing import Any

from channelmap.check.compare.merging import BRANCHES, disjoint, flatten, intersection, types_of, values_of
from channelmap.check.compare.normal_form import canonical, is_draft_7
from channelmap.check.compare.patterns import add_implied_lengths, exclude_each_other
from channelmap.check.compare.unions import cases
from channelmap.pointers import Pointer
from channelmap.validation import Schema, SchemaUnusable, Validator
from channelmap.validation.algebra import Answer, covers
from channelmap.validation.walk import subschemas

#: Keywords that are compared one by one; the other keywords of both schemas are compared as one schema.
_OBJECT_KEYWORDS = frozenset(
    {"properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "required"}
)
_ARRAY_KEYWORDS = frozenset({"items", "prefixItems"})
_DECOMPOSED = _OBJECT_KEYWORDS | _ARRAY_KEYWORDS | {"$defs"}
_UNIONS = ("anyOf", "oneOf")

#: Limits beyond which the algebra may take minutes: it multiplies alternatives, and compares patterns pairwise.
_MAX_ALTERNATIVES = 50
_MAX_SUBSCHEMAS = 1_000
#: Maximum number of pairs of schemas that one proof compares.
_MAX_STEPS = 20_000
#: Maximum number of patterns of names; each combination of them is compared.
_MAX_PATTERNS = 6


def is_simple(schema: Schema) -> bool:
    """Whether a schema is small enough for the engine's algebra, which would otherwise run too long."""
    found = list(subschemas(schema))
    scalar = {pointer for pointer, part in found if isinstance(part, dict) and _is_scalar_union(pointer, part)}
    alternatives = sum(
        pointer[-2:-1] in {("allOf",), ("anyOf",), ("oneOf",)} and pointer[:-2] not in scalar for pointer, _ in found
    )
    return len(found) <= _MAX_SUBSCHEMAS and alternatives <= _MAX_ALTERNATIVES


def _is_scalar_union(pointer: Pointer, schema: dict[str, Any]) -> bool:
    """Whether a schema is a union of scalars, such as a nullable text, as a property or list item."""
    branches = [branch for keyword in _UNIONS for branch in schema.get(keyword, ())]
    is_own_value = not BRANCHES & {*pointer[-2:]}
    return is_own_value and all(
        isinstance(branch, dict) and "type" in branch and not types_of(branch) & {"object", "array"}
        for branch in branches
    )


def covers_as_a_whole(wide: Schema, narrow: Schema) -> Answer:
    """Ask the engine's algebra whether `wide` accepts every value that `narrow` accepts, if both are simple."""
    return covers(wide, narrow) if is_simple(wide) and is_simple(narrow) else "unknown"


def covers_in_parts(wide: Schema, narrow: Schema) -> bool:
    """Whether it is proved that `wide` accepts every value that `narrow` accepts; both in normal form."""
    if is_draft_7(wide) or is_draft_7(narrow):
        return False
    return _Proof(_definitions(wide), _definitions(narrow)).holds(wide, narrow)


def _definitions(schema: Schema) -> Mapping[str, Any]:
    definitions: Mapping[str, Any] = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    return definitions


class _Proof:
    def __init__(self, wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> None:
        self._wide = wide
        self._narrow = narrow
        self._have_equal_definitions = canonical(wide) == canonical(narrow)
        self._known: dict[tuple[str, str], bool] = {}
        #: Recursive pairs, with the depth inside the value below which they may be assumed to hold.
        self._assumed: dict[tuple[str, str], int] = {}
        self._depth = 0
        self._steps = 0

    def holds(self, wide: Schema, narrow: Schema) -> bool:
        if wide is True or narrow is False:
            return True
        self._steps += 1
        if self._steps > _MAX_STEPS:
            return False
        texts = canonical(wide), canonical(narrow)
        if any('"$ref"' in text for text in texts):
            return self._holds_recursively(texts, wide, narrow)
        if texts not in self._known:
            is_plain = texts[0] == texts[1] or covers_as_a_whole(wide, narrow) == "yes"
            self._known[texts] = is_plain or self._holds_in_parts(wide, narrow)
        return self._known[texts]

    def _holds_recursively(self, texts: tuple[str, str], wide: Schema, narrow: Schema) -> bool:
        if texts[0] == texts[1] and self._have_equal_definitions:
            return True
        if texts in self._assumed:
            # Only inside a smaller value: otherwise the proof would be circular.
            return self._assumed[texts] < self._depth
        self._assumed[texts] = self._depth
        if not self._holds_in_parts(wide, narrow):
            return False
        self._assumed[texts] = -1
        return True

    def _try(self, wide: Schema, narrow: Schema) -> bool:
        """Try one of several proofs; if it fails, forget its assumptions."""
        before = dict(self._assumed)
        if self.holds(wide, narrow):
            return True
        self._assumed = before
        return False

    def _holds_in_parts(self, wide: Schema, narrow: Schema) -> bool:
        values = values_of(narrow) if isinstance(narrow, dict) else None
        if values is not None and self._accepts_all(wide, values):
            return True
        wide, narrow = _resolved(wide, self._wide), add_implied_lengths(_resolved(narrow, self._narrow))
        for keyword in _UNIONS:
            if keyword in narrow:
                return all(self.holds(wide, case) for case in cases(narrow, keyword))
        for keyword in _UNIONS:
            if keyword in wide:
                return self._holds_for_alternatives(keyword, wide, narrow)
        if "allOf" in wide:
            rest = {keyword: value for keyword, value in wide.items() if keyword != "allOf"}
            return all(self.holds(part, narrow) for part in [*wide["allOf"], rest])
        if any(self._try(wide, part) for part in narrow.get("allOf", ())):
            return True
        return self._holds_for_each_keyword(wide, narrow)

    def _accepts_all(self, wide: Schema, values: list[Any]) -> bool:
        whole = {**wide, "$defs": self._wide} if isinstance(wide, dict) else wide
        try:
            validator = Validator(whole)
        except SchemaUnusable:
            return False
        return all(validator.fits(value) for value in values)

    def _holds_for_alternatives(self, keyword: str, wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
        possible = [case for case in cases(wide, keyword) if not disjoint(case, narrow)]
        if (keyword == "anyOf" or len(possible) == 1) and any(self._try(case, narrow) for case in possible):
            return True
        types = narrow.get("type")
        return isinstance(types, list) and all(self.holds(wide, {**narrow, "type": kind}) for kind in types)

    def _holds_for_each_keyword(self, wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
        beside = [_other_keywords(schema) for schema in (wide, narrow)]
        if beside == [wide, narrow]:
            return covers_as_a_whole(wide, narrow) == "yes"
        if any("unevaluatedItems" in schema for schema in beside):
            return False
        if BRANCHES & beside[1].keys():
            narrow = {keyword: value for keyword, value in narrow.items() if keyword != "unevaluatedProperties"}
        if not self.holds(*beside):
            return False
        self._depth += 1
        try:
            return self._objects(wide, narrow) and self._lists(wide, narrow)
        finally:
            self._depth -= 1

    def _objects(self, wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
        if "object" not in types_of(narrow):
            return True
        if not set(wide.get("required", ())) <= set(narrow.get("required", ())):
            return False
        names = wide.get("properties", {}).keys() | narrow.get("properties", {}).keys()
        pairs = [(_property(wide, name), _property(narrow, name)) for name in sorted(names)]
        others = _undeclared_pairs(wide, narrow)
        return others is not None and all(self.holds(*pair) for pair in [*pairs, *others])

    def _lists(self, wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
        if "array" not in types_of(narrow):
            return True
        heads = wide.get("prefixItems", []), narrow.get("prefixItems", [])
        count = max(map(len, heads))
        rests = wide.get("items", True), narrow.get("items", True)
        padded = [head + [rest] * (count - len(head)) for head, rest in zip(heads, rests, strict=True)]
        return all(self.holds(*pair) for pair in [*zip(*padded, strict=True), rests])


def _resolved(schema: Schema, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the reference of a schema, and merge its `allOf`, as far as possible."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if "$ref" not in schema:
        return flatten(schema)
    target = definitions.get(schema["$ref"].removeprefix("#/$defs/"))
    if not isinstance(target, (dict, bool)):
        return schema
    rest = {keyword: value for keyword, value in schema.items() if keyword not in {"$ref", "$defs"}}
    return flatten({**rest, "allOf": [*rest.get("allOf", []), target]})


def _other_keywords(schema: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword not in _DECOMPOSED}


def _additional(schema: dict[str, Any]) -> Schema:
    """Return the schema of undeclared properties; without branches, `unevaluated…` is the same as `additional…`."""
    rest: Schema = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    return rest


def _property(schema: dict[str, Any], name: str) -> Schema:
    matching = {pattern for pattern in schema.get("patternProperties", ()) if _matches(pattern, name)}
    if name not in schema.get("properties", {}):
        return _undeclared_property(schema, matching)
    own: Schema = schema["properties"][name]
    return intersection(own, _undeclared_property(schema, matching)) if matching else own


def _undeclared_property(schema: dict[str, Any], matching: AbstractSet[str]) -> Schema:
    """Return the schema of an undeclared property whose name matches these patterns."""
    own = [child for pattern, child in schema.get("patternProperties", {}).items() if pattern in matching]
    return functools.reduce(intersection, own) if own else _additional(schema)


def _undeclared_pairs(wide: dict[str, Any], narrow: dict[str, Any]) -> list[tuple[Schema, Schema]] | None:
    """Return pairs of schemas for properties that neither declares; `None` if there are too many patterns."""
    patterns = sorted(wide.get("patternProperties", {}).keys() | narrow.get("patternProperties", {}).keys())
    if len(patterns) > _MAX_PATTERNS:
        return None
    combined = (set(chosen) for size in range(len(patterns) + 1) for chosen in combinations(patterns, size))
    return [
        (_undeclared_property(wide, matching), _undeclared_property(narrow, matching))
        for matching in combined
        if not any(exclude_each_other(*pair) for pair in combinations(sorted(matching), 2))
    ]


def _matches(pattern: str, name: str) -> bool:
    return _validator_of_names(pattern).fits({name: None})


@functools.lru_cache(maxsize=1_000)
def _validator_of_names(pattern: str) -> Validator:
    return Validator({"propertyNames": {"pattern": pattern}})
