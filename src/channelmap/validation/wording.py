"""Turn faults into messages, which quote the schema and property names, but never a value of the instance."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from channelmap.errors import Violation, did_you_mean, quoted
from channelmap.validation.fault import Fault, Steps, type_name

_Wording = Callable[[Fault], str]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One keyword of a schema that an instance breaks.

    Attributes:
        pointer: where in the instance.
        keyword: the schema's keyword.
        message: what the keyword expects and what it got.
        schema_path: where the keyword stands in its schema document.
        names: the missing or unexpected properties, if the keyword is about properties.

    """

    pointer: Steps
    keyword: str
    message: str
    schema_path: Steps
    names: tuple[str, ...] = ()

    @property
    def violation(self) -> Violation:
        """The same, for an event."""
        return Violation(path_text(self.pointer), self.keyword, self.message)


def path_text(pointer: Sequence[str | int]) -> str:
    """Return a pointer in the notation of messages.

    >>> path_text(("sizes", 0, "a b"))
    "$.sizes[0]['a b']"
    """
    return "$" + "".join(map(_step_text, pointer))


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() and len(step) <= 60 else f"[{quoted(step)}]"


def mismatch(fault: Fault) -> Mismatch:
    """Return a fault with its message."""
    return Mismatch(fault.pointer, fault.keyword, _message(fault), fault.path, _names(fault))


def _message(fault: Fault) -> str:
    wording = _WORDINGS.get(fault.keyword, "does not satisfy the schema")
    text = wording if isinstance(wording, str) else wording(fault)
    return "".join([text, *(f", {_cause(keyword, condition)}" for keyword, condition in fault.causes)])


def _names(fault: Fault) -> tuple[str, ...]:
    """Return the properties that are missing or not allowed."""
    if fault.keyword == "propertyNames":
        return fault.detail[0]  # type: ignore[no-any-return]
    is_about_names = isinstance(fault.got, dict) and isinstance(fault.detail, tuple) and fault.keyword in _ABOUT_NAMES
    return fault.detail if is_about_names else ()


_ABOUT_NAMES = frozenset(
    ("required", "dependentRequired", "dependencies", "additionalProperties", "unevaluatedProperties")
)


def _cause(keyword: str, condition: Any) -> str:
    if keyword not in {"then", "else"}:
        return f"because {quoted(condition)} is there"
    reason = f"because it {'matches' if keyword == 'then' else 'does not match'} 'if'"
    description = describe(condition)
    return f"{reason} ({description})" if description else reason


def describe(schema: Any) -> str:
    """Return what a small schema demands, in words; empty if that takes more than a few words."""
    words = list(_demands(schema, "it"))
    return " and ".join(words) if "" not in words and len(words) <= 3 else ""


def _demands(schema: Any, subject: str) -> Iterable[str]:
    """Yield the demands of a schema one by one; an empty text for a demand that cannot be put briefly."""
    if not isinstance(schema, dict):
        return
    names = schema.get("properties", {})
    for keyword, value in schema.items():
        if keyword == "const":
            yield f"{subject} is {_constant(value)}"
        elif keyword == "enum":
            yield f"{subject} is one of {_comma_separated(map(_constant, value))}"
        elif keyword == "type":
            yield f"{subject} is {_any_of_types([value] if isinstance(value, str) else value)}"
        elif keyword == "properties" and subject == "it":
            for name, child in value.items():
                yield from _demands(child, quoted(name))
        elif keyword == "required" and subject == "it":
            yield from (f"{quoted(name)} is there" for name in value if not _is_described(names.get(name)))
        elif keyword not in _ANNOTATIONS:
            yield ""


def _is_described(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema.keys() & {"const", "enum", "type"})


_ANNOTATIONS = frozenset(("$schema", "$id", "$comment", "title", "description", "default", "examples"))


def _constant(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:60]


def _comma_separated(names: Iterable[str], limit: int = 12, separator: str = ", ") -> str:
    shown = list(islice(dict.fromkeys(names), limit + 1))
    return separator.join(shown[:limit]) + (f"{separator}…" if len(shown) > limit else "")


def _any_of_types(types: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(types))


def _type(fault: Fault) -> str:
    types = fault.owner["type"]
    return f"expected {_any_of_types([types] if isinstance(types, str) else types)}, got {type_name(fault.got)}"


def _enum(fault: Fault) -> str:
    return f"expected {_one_of(fault.owner['enum'])}"


def _one_of(constants: Iterable[Any]) -> str:
    words = dict.fromkeys(map(_constant, constants))
    return f"{'one of ' if len(words) > 1 else ''}{_comma_separated(words)}"


def _required(fault: Fault) -> str:
    return f"requires {quoted(fault.detail[0])}"


def _unexpected(fault: Fault) -> str:
    text = f"does not allow {_comma_separated(map(quoted, fault.detail))}"
    hint = did_you_mean(fault.detail[0], fault.owner.get("properties", {})) if len(fault.detail) == 1 else ""
    return f"{text}; {hint}" if hint else text


def _property_names(fault: Fault) -> str:
    (name,), inner = fault.detail
    return f"does not allow the name {quoted(name)}: {_message(inner)}"


def _further_items(fault: Fault) -> str:
    first = fault.detail[0]
    return f"expected at most {_quantity(first, 'item', 'items')}, got {len(fault.got)}"


def _unevaluated_items(fault: Fault) -> str:
    plural = "s" if len(fault.detail) > 1 else ""
    return f"does not allow the item{plural} at {_indexes(fault.detail)}"


def _indexes(indexes: Iterable[int]) -> str:
    return _comma_separated(f"[{index}]" for index in indexes)


def _alternatives(fault: Fault) -> str:
    kind, value = fault.detail
    if kind == "several":
        return (
            f"matches more than one of the alternatives: {_comma_separated(f'number {index + 1}' for index in value)}"
        )
    if kind == "constants":
        return f"expected {_one_of(value)}"
    if kind == "here":
        types, constants = value
        several = ", or " if len(constants) > 1 else " or "
        parts = [*([_one_of(constants)] if constants else []), *([_any_of_types(types)] if types else [])]
        expected = several.join(parts)
        got = type_name(fault.got)
        return f"expected {expected}" + ("" if got in map(type_name, constants) else f", got {got}")
    return f"fits no alternative; repair one of: {_comma_separated(_first_faults(fault, value), separator='; ')}"


def _first_faults(around: Fault, branches: Iterable[Sequence[Fault]]) -> Iterable[str]:
    """Yield the first fault of each alternative, with its path."""
    for branch in branches:
        where = path_text(branch[0].pointer[len(around.pointer) :]).removeprefix("$").removeprefix(".")
        yield f"{where} {_message(branch[0])}" if where else _message(branch[0])


def _not(fault: Fault) -> str:
    description = describe(fault.owner["not"])
    return f"matches what it must not match{f': {description}' if description else ''}"


def _contains(fault: Fault) -> str:
    bound, limit, fitting = fault.detail
    description = describe(fault.owner["contains"])
    which = f"for 'contains'{f' ({description})' if description else ''}"
    return f"expected {bound} {_quantity(limit, 'item', 'items')} {which}, got {len(fitting)}"


def _duplicate_items(fault: Fault) -> str:
    first, second = _first_duplicates(fault.got)
    return f"holds the same item twice, at [{first}] and [{second}]"


def _first_duplicates(items: Sequence[Any]) -> tuple[int, int]:
    seen: dict[Any, int] = {}
    for index, item in enumerate(items):
        first = seen.setdefault(_comparable(item), index)
        if first != index:
            return first, index
    return 0, 0


def _comparable(value: Any) -> Any:
    """Return a hashable value that is equal for equal JSON values: 1 equals 1.0, but not true."""
    if isinstance(value, dict):
        return "object", frozenset((key, _comparable(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "array", tuple(map(_comparable, value))
    return isinstance(value, bool), value


def _quantity(number: int, unit: str, units: str) -> str:
    return f"{number} {unit if number == 1 else units}"


def _bound(text: str) -> _Wording:
    return lambda fault: f"expected {text} {fault.owner[fault.keyword]}"


def _size(text: str, unit: str, units: str) -> _Wording:
    def wording(fault: Fault) -> str:
        return f"expected {text} {_quantity(fault.owner[fault.keyword], unit, units)}, got {len(fault.got)}"

    return wording


def _quoting(text: str) -> _Wording:
    return lambda fault: f"{text} {quoted(fault.owner[fault.keyword])}"


_WORDINGS: dict[str, str | _Wording] = {
    "type": _type,
    "enum": _enum,
    "const": lambda fault: f"expected {_constant(fault.owner['const'])}",
    "required": _required,
    "dependentRequired": _required,
    "dependencies": _required,
    "additionalProperties": _unexpected,
    "unevaluatedProperties": _unexpected,
    "propertyNames": _property_names,
    "items": _further_items,
    "additionalItems": _further_items,
    "unevaluatedItems": _unevaluated_items,
    "anyOf": _alternatives,
    "oneOf": _alternatives,
    "not": _not,
    "falseSchema": "is not allowed here",
    "contains": _contains,
    "uniqueItems": _duplicate_items,
    "minimum": _bound("at least"),
    "maximum": _bound("at most"),
    "exclusiveMinimum": _bound("more than"),
    "exclusiveMaximum": _bound("less than"),
    "multipleOf": _bound("a multiple of"),
    "minLength": _size("at least", "character", "characters"),
    "maxLength": _size("at most", "character", "characters"),
    "minItems": _size("at least", "item", "items"),
    "maxItems": _size("at most", "item", "items"),
    "minProperties": _size("at least", "property", "properties"),
    "maxProperties": _size("at most", "property", "properties"),
    "pattern": lambda fault: f"{fault.detail or 'does not match the pattern'} {quoted(fault.owner['pattern'])}",
    "format": _quoting("is not in the format"),
    "contentEncoding": _quoting("is not encoded in"),
    "contentMediaType": _quoting("is not of the media type"),
}
