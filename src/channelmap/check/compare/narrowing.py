"""Compare two values of one keyword: whether the new value accepts less than the old one."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

#: A description of the values that a narrower keyword no longer accepts.
LOST_BY_KEYWORD = {
    "type": "values of another type",
    "const": "other values",
    "enum": "other values",
    "minimum": "smaller numbers",
    "exclusiveMinimum": "smaller numbers",
    "maximum": "larger numbers",
    "exclusiveMaximum": "larger numbers",
    "multipleOf": "other numbers",
    "minLength": "shorter texts",
    "maxLength": "longer texts",
    "pattern": "texts that do not match",
    "format": "texts in another format",
    "contentEncoding": "texts that are not encoded so",
    "contentMediaType": "texts of another media type",
    "minItems": "shorter lists",
    "maxItems": "longer lists",
    "uniqueItems": "lists that hold an item twice",
    "minContains": "lists with fewer of them",
    "maxContains": "lists with more of them",
    "minProperties": "smaller objects",
    "maxProperties": "larger objects",
    "$ref": "some values",
}
#: A larger value of these keywords accepts less.
LOWER_BOUNDS = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minContains", "minProperties"})
#: A smaller value of these keywords accepts less.
UPPER_BOUNDS = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxContains", "maxProperties"})


def narrows(keyword: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    """Whether a keyword of `target` may reject a value that the keywords of `source` accept."""
    was, now = source.get(keyword), target[keyword]
    if keyword in source and was == now:
        return False
    if keyword in LOWER_BOUNDS:
        return keyword not in source or now > was
    if keyword in UPPER_BOUNDS:
        return keyword not in source or now < was
    rule = _RULES.get(keyword)
    return rule(source, now) if rule else True


def _type(source: Mapping[str, Any], now: Any) -> bool:
    if "type" not in source:
        return True
    allowed = {*_listed(now)} | ({"integer"} if "number" in _listed(now) else set())
    return not {*_listed(source["type"])} <= allowed


def _values(source: Mapping[str, Any], now: Any) -> bool:
    before = [source["const"]] if "const" in source else source.get("enum")
    after = now if isinstance(now, list) else [now]
    return before is None or any(value not in after for value in before)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _multiple(source: Mapping[str, Any], now: Any) -> bool:
    # Not by floats: to them, 0.3 is not a multiple of 0.1.
    return "multipleOf" not in source or Fraction(str(source["multipleOf"])) % Fraction(str(now)) != 0


_RULES: dict[str, Callable[[Mapping[str, Any], Any], bool]] = {
    "type": _type,
    "enum": _values,
    "const": lambda source, now: _values(source, [now]),
    "multipleOf": _multiple,
    "uniqueItems": lambda _, now: bool(now),
}
