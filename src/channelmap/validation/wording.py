"""Why an instance breaks a schema, in our words: they quote the schema and property names, never a value."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs

from channelmap.errors import Violation, did_you_mean, quoted

Error = jsonschema_rs.ValidationError
Kind = jsonschema_rs.ValidationErrorKind
_Wording = Callable[["_Case"], str]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One keyword of a schema that an instance breaks.

    Attributes:
        pointer: where in the instance.
        keyword: the schema's keyword.
        message: what it expects and what it got.
        schema_path: where the keyword stands in its schema document.
        names: the properties it is about: those that are missing, or not allowed.

    """

    pointer: tuple[str | int, ...]
    keyword: str
    message: str
    schema_path: tuple[str | int, ...]
    names: tuple[str, ...] = ()

    @property
    def violation(self) -> Violation:
        """The same, for an event."""
        return Violation(path_text(self.pointer), self.keyword, self.message)


def path_text(pointer: Sequence[str | int]) -> str:
    """Write a pointer as people do.

    >>> path_text(("sizes", 0, "a b"))
    "$.sizes[0]['a b']"
    """
    return "$" + "".join(map(_step_text, pointer))


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() and len(step) <= 60 else f"[{quoted(step)}]"


def mismatches(error: Error, instance: Any, schema: Any) -> Iterator[Mismatch]:
    """Word an error; where alternatives fail, the errors of the one that was most plausibly meant."""
    branch = _plausible(error) if isinstance(error.kind, (Kind.AnyOf, Kind.OneOfNotValid)) else None
    if branch is not None:
        for inner in branch:
            yield from mismatches(inner, instance, schema)
        return
    pointer, path = _steps(instance, error.instance_path), _steps(schema, error.schema_path)
    case = _Case(error.kind, resolve(instance, pointer), resolve(schema, path[:-1]), path)
    yield Mismatch(pointer, error.kind.name, case.message, path, case.names)


def _steps(value: Any, path: Sequence[str | int]) -> tuple[str | int, ...]:
    """Read a path of the engine, which writes names that consist of digits as numbers."""
    steps: list[str | int] = []
    for step in path:
        steps.append(str(step) if isinstance(value, dict) else step)
        value = resolve(value, steps[-1:])
    return tuple(steps)


def resolve(value: Any, pointer: Sequence[str | int]) -> Any:
    """Follow a pointer; None where it leads nowhere."""
    for step in pointer:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def type_name(value: Any) -> str:
    """Name a value's JSON type."""
    # A bool is an int to Python, so the order counts.
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return "array"


_TYPE_NAMES = (
    (type(None), "null"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (dict, "object"),
)


def _plausible(error: Error) -> list[Error] | None:
    branches = [branch for branch in error.kind.context if branch]  # type: ignore[attr-defined]
    ranked = sorted(branches, key=lambda branch: (_implausibility(branch, error), len(branch)))
    return ranked[0] if ranked and _implausibility(ranked[0], error) < 3 else None


def _implausibility(branch: list[Error], alternatives: Error) -> int:
    """3: quite another type was meant; 2: another constant; 1: something is missing; 0: details are wrong."""
    here = alternatives.instance_path

    def weight(error: Error) -> int:
        match error.kind:
            case Kind.Type() | Kind.FalseSchema() if error.instance_path == here:
                return 3
            case Kind.Constant(expected_value=expected):
                return 2 if type_name(expected) == type_name(error.instance) else 3
            case Kind.Enum(options=options):
                return 2 if type_name(error.instance) in map(type_name, options) else 3
            case Kind.Required() | Kind.AdditionalProperties() if error.instance_path == here:
                return 1
        return 0

    return max(map(weight, branch))


@dataclass(frozen=True, slots=True)
class _Case:
    """What a message can speak of: the kind of error, the value, the schema that it breaks, the path there."""

    kind: Any
    got: Any
    owner: Any
    path: tuple[str | int, ...]

    @property
    def message(self) -> str:
        wording = _WORDINGS.get(type(self.kind), "does not satisfy the schema")
        return wording if isinstance(wording, str) else wording(self)

    @property
    def names(self) -> tuple[str, ...]:
        match self.kind:
            case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
                return tuple(names)
            case Kind.Required(property=name):
                return (name,)
            case Kind.PropertyNames(error=inner):
                return (str(inner.instance),)
            case Kind.FalseSchema() if self.path[-1:] == ("additionalProperties",):
                return tuple(self.got)
        return ()

    @property
    def detail(self) -> Any:
        """The one thing that most kinds tell: the limit, the pattern."""
        return next(iter(self.kind.as_dict().values()))


def _constant(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:60]


def _listed(names: Iterable[str], limit: int = 12) -> str:
    shown = list(islice(names, limit + 1))
    return ", ".join(shown[:limit]) + (", …" if len(shown) > limit else "")


def _type(case: _Case) -> str:
    return f"expected {' or '.join(case.kind.types)}, got {type_name(case.got)}"


def _enum(case: _Case) -> str:
    return f"expected one of {_listed(map(_constant, case.kind.options))}"


def _unexpected(case: _Case) -> str:
    text = f"does not allow {_listed(map(quoted, case.names))}"
    known = case.owner.get("properties", {}) if isinstance(case.owner, dict) else {}
    hint = did_you_mean(case.names[0], known) if len(case.names) == 1 else ""
    return f"{text}; {hint}" if hint else text


def _property_names(case: _Case) -> str:
    inner = _Case(case.kind.error.kind, case.names[0], None, ())
    return f"does not allow the name {quoted(case.names[0])}: {inner.message}"


def _alternatives(case: _Case) -> str:
    kinds = [branch[0].kind for branch in case.kind.context if branch]
    if kinds and all(isinstance(kind, Kind.Type) for kind in kinds):
        types = dict.fromkeys(name for kind in kinds for name in kind.types)
        return f"expected {' or '.join(types)}, got {type_name(case.got)}"
    return f"matches none of the {len(case.kind.context)} alternatives"


def _bound(text: str) -> _Wording:
    return lambda case: f"expected {text} {case.detail}"


def _size(text: str, unit: str, units: str) -> _Wording:
    def wording(case: _Case) -> str:
        return f"expected {text} {case.detail} {unit if case.detail == 1 else units}, got {len(case.got)}"

    return wording


def _naming(text: str) -> _Wording:
    return lambda case: f"{text} {quoted(case.detail)}"


_WORDINGS: dict[type[Kind], str | _Wording] = {
    Kind.Type: _type,
    Kind.Enum: _enum,
    Kind.Constant: lambda case: f"expected {_constant(case.kind.expected_value)}",
    Kind.Required: lambda case: f"requires {quoted(case.names[0])}",
    Kind.AdditionalProperties: _unexpected,
    Kind.UnevaluatedProperties: _unexpected,
    Kind.PropertyNames: _property_names,
    Kind.UnevaluatedItems: "holds more items than it may",
    Kind.AdditionalItems: _size("at most", "item", "items"),
    Kind.AnyOf: _alternatives,
    Kind.OneOfNotValid: _alternatives,
    Kind.OneOfMultipleValid: "matches more than one of the alternatives",
    Kind.Not: "matches what it must not match",
    Kind.FalseSchema: lambda case: _unexpected(case) if case.names else "is not allowed here",
    Kind.Contains: "lacks an item that it must contain",
    Kind.UniqueItems: "holds the same item twice",
    Kind.Minimum: _bound("at least"),
    Kind.Maximum: _bound("at most"),
    Kind.ExclusiveMinimum: _bound("more than"),
    Kind.ExclusiveMaximum: _bound("less than"),
    Kind.MultipleOf: _bound("a multiple of"),
    Kind.MinLength: _size("at least", "character", "characters"),
    Kind.MaxLength: _size("at most", "character", "characters"),
    Kind.MinItems: _size("at least", "item", "items"),
    Kind.MaxItems: _size("at most", "item", "items"),
    Kind.MinProperties: _size("at least", "property", "properties"),
    Kind.MaxProperties: _size("at most", "property", "properties"),
    Kind.Pattern: _naming("does not match the pattern"),
    Kind.Format: _naming("is not in the format"),
    Kind.ContentEncoding: _naming("is not encoded in"),
    Kind.ContentMediaType: _naming("is not of the media type"),
    Kind.BacktrackLimitExceeded: "takes too long to match against the pattern",
    Kind.RegexEngineFailure: "cannot be matched against the pattern",
}
