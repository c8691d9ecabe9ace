"""Keywords that stand for themselves: by which of two values a schema lets less through."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

#: What the narrower value loses, in words.
LIMITS = {
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
#: A larger value lets less through.
UP = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minContains", "minProperties"})
#: A smaller value lets less through.
DOWN = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxContains", "maxProperties"})


def narrows(keyword: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    """Whether a keyword of `target` may refuse what the keywords of `source` let through."""
    was, now = source.get(keyword), target[keyword]
    if keyword in source and was == now:
        return False
    if keyword in UP:
        return keyword not in source or now > was
    if keyword in DOWN:
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
    # 0.3 is a multiple of 0.1, but not to floats.
    return "multipleOf" not in source or Fraction(str(source["multipleOf"])) % Fraction(str(now)) != 0


_RULES: dict[str, Callable[[Mapping[str, Any], Any], bool]] = {
    "type": _type,
    "enum": _values,
    "const": lambda source, now: _values(source, [now]),
    "multipleOf": _multiple,
    "uniqueItems": lambda _, now: bool(now),
}
