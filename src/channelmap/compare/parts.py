"""A proof in parts: where the engine's algebra gives up on a whole schema, it may know each property.

It gives up on what refers to itself, and on much that no change has touched. Here equal parts cover each other
whatever they are, and a recursive schema covers another if it does so on the assumption that it does.
"""

from collections.abc import Mapping
from typing import Any

from channelmap.compare.normal import canonical, is_draft_7
from channelmap.compare.unions import cases
from channelmap.validation import Schema, Validator
from channelmap.validation.algebra import Answer, covers
from channelmap.validation.walk import subschemas

#: What is taken apart; all else must cover what is beside it on the other side.
_OF_OBJECTS = frozenset(
    {"properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "required"}
)
_OF_LISTS = frozenset({"items", "prefixItems"})
_TAKEN_APART = _OF_OBJECTS | _OF_LISTS | {"$defs"}
#: Branches, which may name properties too: then only the engine knows what is *unevaluated*.
_BRANCHES = frozenset({"allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "$ref"})

#: The algebra multiplies alternatives, and compares patterns by pairs: beyond this it may take minutes.
_MOST_ALTERNATIVES = 50
_MOST_SUBSCHEMAS = 1_000


def is_simple(schema: Schema) -> bool:
    """Whether the engine's algebra can be asked about a schema: it answers within seconds, or never."""
    keywords = [pointer[-2:-1] for pointer, _ in subschemas(schema)]
    alternatives = sum(keyword in {("allOf",), ("anyOf",), ("oneOf",)} for keyword in keywords)
    return len(keywords) <= _MOST_SUBSCHEMAS and alternatives <= _MOST_ALTERNATIVES


def covers_as_a_whole(wide: Schema, narrow: Schema) -> Answer:
    """Ask the engine's algebra whether `wide` accepts every value that `narrow` does, where it may be asked."""
    return covers(wide, narrow) if is_simple(wide) and is_simple(narrow) else "unknown"


def covers_in_parts(wide: Schema, narrow: Schema) -> bool:
    """Whether it is proved that `wide` accepts every value that `narrow` does; both in their form."""
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
        self._assumed: set[tuple[str, str]] = set()

    def holds(self, wide: Schema, narrow: Schema) -> bool:
        if wide is True or narrow is False:
            return True
        texts = canonical(wide), canonical(narrow)
        if any('"$ref"' in text for text in texts):
            if texts in self._assumed or (texts[0] == texts[1] and self._wide == self._narrow):
                return True
            self._assumed.add(texts)
        elif texts[0] == texts[1] or covers_as_a_whole(wide, narrow) == "yes":
            return True
        wide, narrow = _resolved(wide, self._wide), _resolved(narrow, self._narrow)
        alternatives = cases(narrow)
        if alternatives:
            others = cases(wide)
            return all(self.holds(others.get(tag, wide), case) for tag, case in alternatives.items())
        beside = [_beside(schema) for schema in (wide, narrow)]
        if beside == [wide, narrow] or any("unevaluatedItems" in schema for schema in beside):
            return False
        if _BRANCHES & beside[1].keys():
            narrow = {keyword: value for keyword, value in narrow.items() if keyword != "unevaluatedProperties"}
        return self.holds(*beside) and self._objects(wide, narrow) and self._lists(wide, narrow)

    def _objects(self, wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
        if not _may_be(narrow, "object"):
            return True
        patterns = wide.get("patternProperties", {}).keys()
        if patterns != narrow.get("patternProperties", {}).keys():
            return False
        if not set(wide.get("required", ())) <= set(narrow.get("required", ())):
            return False
        names = wide.get("properties", {}).keys() | narrow.get("properties", {}).keys()
        pairs = [(_property(wide, name), _property(narrow, name)) for name in sorted(names)]
        pairs += [(wide["patternProperties"][text], narrow["patternProperties"][text]) for text in sorted(patterns)]
        return all(self.holds(*pair) for pair in [*pairs, (_rest(wide), _rest(narrow))])

    def _lists(self, wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
        if not _may_be(narrow, "array"):
            return True
        heads = wide.get("prefixItems", []), narrow.get("prefixItems", [])
        count = max(map(len, heads))
        rests = wide.get("items", True), narrow.get("items", True)
        padded = [head + [rest] * (count - len(head)) for head, rest in zip(heads, rests, strict=True)]
        return all(self.holds(*pair) for pair in [*zip(*padded, strict=True), rests])


def _resolved(schema: Schema, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Write out a reference; what cannot be seen through gets a keyword that ends the proof."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if "$ref" not in schema:
        return schema
    target = definitions.get(schema["$ref"].removeprefix("#/$defs/"))
    is_all = schema.keys() <= {"$ref", "$defs"}
    return target if isinstance(target, dict) and is_all else schema


def _beside(schema: dict[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword not in _TAKEN_APART}


def _may_be(schema: dict[str, Any], kind: str) -> bool:
    types = schema.get("type", kind)
    return kind == types or kind in types


def _rest(schema: dict[str, Any]) -> Schema:
    """Return the schema of what is not named; there are no branches, so *unevaluated* is *additional*."""
    rest: Schema = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
    return rest


def _property(schema: dict[str, Any], name: str) -> Schema:
    found = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    found += [child for pattern, child in schema.get("patternProperties", {}).items() if _matches(pattern, name)]
    if not found:
        return _rest(schema)
    return found[0] if len(found) == 1 else {"allOf": found}


def _matches(pattern: str, name: str) -> bool:
    return Validator({"propertyNames": {"pattern": pattern}}).is_valid({name: None})
