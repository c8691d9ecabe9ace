"""Find the keywords that an instance breaks, by a recursive descent through schema and instance with bounded cost.

The engine's own errors cost too much: it tries all alternatives again at every level, and copies the instance for each
error. The descent compares each part of a schema with each part of an instance at most once, and asks the engine only
about single keywords.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from channelmap.validation.alternatives import most_helpful
from channelmap.validation.evaluated import evaluated_items, evaluated_names
from channelmap.validation.fault import Fault, Steps
from channelmap.validation.parts import Part, Parts

#: With more items or properties than this, the engine first tells which of them fit; only the others are descended.
_MAX_WITHOUT_ENGINE = 16


class StepLimitExceeded(Exception):
    """The descent needs more than its maximum number of steps."""


class Descent:
    """One search for the faults of an instance.

    Args:
        parts: the schema.
        limit: number of faults after which the search ends.
        steps: maximum number of keyword evaluations.

    """

    def __init__(self, parts: Parts, limit: float = math.inf, steps: float = math.inf) -> None:
        self.parts = parts
        self._limit = limit
        self._steps = steps
        self._known: dict[tuple[int, Steps], list[Fault]] = {}

    def faults(self, part: Part, value: Any, pointer: Steps = ()) -> list[Fault]:
        """Return the faults of the value at a pointer in a part of the schema.

        Raises:
            StepLimitExceeded: the search takes too many steps.

        """
        schema = part.schema
        if isinstance(schema, bool):
            return [] if schema else [Fault(pointer, "falseSchema", part.path, schema, value)]
        key = id(schema), pointer
        if key not in self._known:
            # A reference back to the same part and value adds no fault.
            self._known[key] = []
            self._known[key] = self._search(part, value, pointer)
        return self._known[key]

    def fits(self, part: Part, value: Any, pointer: Steps) -> bool:
        """Whether a value fits a part of the schema."""
        return not self.faults(part, value, pointer)

    def faults_of_each(
        self, part: Part, values: Iterable[tuple[int | str, Any]], count: int, pointer: Steps
    ) -> Iterator[tuple[int | str, list[Fault]]]:
        """Yield the step and the faults of each value that does not fit the part; `values` come with their steps."""
        fits = self.parts.part_predicate(part) if count > _MAX_WITHOUT_ENGINE else None
        for step, value in values:
            if (fits is None or not fits(value)) and (found := self.faults(part, value, (*pointer, step))):
                yield step, found

    def _search(self, part: Part, value: Any, pointer: Steps) -> list[Fault]:
        found: list[Fault] = []
        for keyword in self.parts.keywords(part.schema):
            self._steps -= 1
            if self._steps < 0:
                raise StepLimitExceeded
            check = _CHECKS.get(keyword)
            if check is not None:
                for fault in check(self, part, value, pointer):
                    found.append(fault)
                    if len(found) >= self._limit:
                        return found
            elif not self.parts.keyword_predicate(part.schema, keyword)(value):
                detail = self.parts.pattern_failure(part.schema["pattern"], value) if keyword == "pattern" else None
                found.append(_fault(part, keyword, value, pointer, detail))
        return found


_Check = Callable[[Descent, Part, Any, Steps], Iterable[Fault]]


def _fault(part: Part, keyword: str, value: Any, pointer: Steps, detail: Any = None) -> Fault:
    return Fault(pointer, keyword, (*part.path, keyword), part.schema, value, detail)


# Keywords that apply other schemas to the same value.


def _all_of(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    for index in range(len(part.schema["allOf"])):
        yield from descent.faults(part.child("allOf", index), value, pointer)


def _alternatives(keyword: str) -> _Check:
    def check(descent: Descent, part: Part, value: Any, pointer: Steps) -> list[Fault]:
        branches = [part.child(keyword, index) for index in range(len(part.schema[keyword]))]
        faults = [descent.faults(branch, value, pointer) for branch in branches]
        fitting = [index for index, found in enumerate(faults) if not found]
        if not fitting:
            tags = [descent.parts.tags(branch) for branch in branches]
            return most_helpful(_fault(part, keyword, value, pointer), faults, tags)
        is_one = keyword == "anyOf" or len(fitting) == 1
        return [] if is_one else [_fault(part, keyword, value, pointer, ("several", fitting))]

    return check


def _not(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    if descent.fits(part.child("not"), value, pointer):
        yield _fault(part, "not", value, pointer)


def _if(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    branch = "then" if descent.fits(part.child("if"), value, pointer) else "else"
    if branch in part.schema:
        for fault in descent.faults(part.child(branch), value, pointer):
            yield fault.with_cause(branch, part.schema["if"])


def _reference(keyword: str) -> _Check:
    def check(descent: Descent, part: Part, value: Any, pointer: Steps) -> list[Fault]:
        return descent.faults(descent.parts.resolve(part, part.schema[keyword]), value, pointer)

    return check


# Objects.


def _required(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:  # noqa: ARG001
    for name in part.schema["required"] if isinstance(value, dict) else ():
        if name not in value:
            yield _fault(part, "required", value, pointer, (name,))


def _dependents(keyword: str) -> _Check:
    def check(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
        for name, dependent in part.schema[keyword].items() if isinstance(value, dict) else ():
            if name not in value:
                continue
            if isinstance(dependent, list):
                found = [_fault(part, keyword, value, pointer, (one,)) for one in dependent if one not in value]
            else:
                found = descent.faults(part.child(keyword, name), value, pointer)
            yield from (fault.with_cause(keyword, name) for fault in found)

    return check


def _properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    for name in part.schema["properties"] if isinstance(value, dict) else ():
        if name in value:
            yield from descent.faults(part.child("properties", name), value[name], (*pointer, name))


def _pattern_properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    for pattern in part.schema["patternProperties"] if isinstance(value, dict) else ():
        names = list(filter(descent.parts.pattern_predicate(pattern), value))
        yield from _faults_below(descent, part.child("patternProperties", pattern), value, names, pointer)


def _additional_properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, dict):
        return ()
    names = [name for name in value if name not in part.schema.get("properties", ())]
    for pattern in part.schema.get("patternProperties", ()):
        matches = descent.parts.pattern_predicate(pattern)
        names = [name for name in names if not matches(name)]
    return _remaining(descent, part, "additionalProperties", value, names, pointer)


def _unevaluated_properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, dict):
        return ()
    seen = evaluated_names(descent, part, value, pointer)
    names = [name for name in value if name not in seen]
    return _remaining(descent, part, "unevaluatedProperties", value, names, pointer)


def _property_names(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    names = value if isinstance(value, dict) else ()
    child = part.child("propertyNames")
    for name, found in descent.faults_of_each(child, ((n, n) for n in names), len(names), (*pointer, "")):
        yield _fault(part, "propertyNames", value, pointer, ((name,), found[0]))


# Arrays.


def _items(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, (list, tuple)):
        return ()
    if isinstance(part.schema["items"], list):
        return _first_items(descent, part, "items", value, pointer)
    first = len(part.schema.get("prefixItems", ()))
    return _remaining(descent, part, "items", value, list(range(first, len(value))), pointer)


def _prefix_items(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    is_array = isinstance(value, (list, tuple))
    return _first_items(descent, part, "prefixItems", value, pointer) if is_array else ()


def _first_items(descent: Descent, part: Part, keyword: str, value: Any, pointer: Steps) -> Iterator[Fault]:
    for index, item in enumerate(value[: len(part.schema[keyword])]):
        yield from descent.faults(part.child(keyword, index), item, (*pointer, index))


def _additional_items(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    first = part.schema.get("items")
    if not isinstance(value, (list, tuple)) or not isinstance(first, list):
        return ()
    return _remaining(descent, part, "additionalItems", value, list(range(len(first), len(value))), pointer)


def _unevaluated_items(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, (list, tuple)):
        return ()
    seen = evaluated_items(descent, part, value, pointer)
    indexes = [index for index in range(len(value)) if index not in seen]
    return _remaining(descent, part, "unevaluatedItems", value, indexes, pointer)


def _contains(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    if not isinstance(value, (list, tuple)):
        return
    mismatched = dict(descent.faults_of_each(part.child("contains"), enumerate(value), len(value), pointer))
    fitting = [index for index in range(len(value)) if index not in mismatched]
    least = 1 if descent.parts.is_draft_07 else part.schema.get("minContains", 1)
    most = math.inf if descent.parts.is_draft_07 else part.schema.get("maxContains", math.inf)
    if len(fitting) < least:
        yield _fault(part, "contains", value, pointer, ("at least", least, fitting))
    if len(fitting) > most:
        yield _fault(part, "contains", value, pointer, ("at most", most, fitting))


# Properties and items that no other keyword covers.


def _remaining(  # noqa: PLR0913, PLR0917
    descent: Descent, part: Part, keyword: str, value: Any, steps: list[Any], pointer: Steps
) -> Iterable[Fault]:
    """Apply the schema of a keyword, usually `false`, to the remaining properties or items."""
    if part.schema[keyword] is False:
        return [_fault(part, keyword, value, pointer, tuple(steps))] if steps else []
    return _faults_below(descent, part.child(keyword), value, steps, pointer)


def _faults_below(descent: Descent, part: Part, value: Any, steps: list[Any], pointer: Steps) -> Iterator[Fault]:
    for _, found in descent.faults_of_each(part, ((step, value[step]) for step in steps), len(steps), pointer):
        yield from found


_CHECKS: dict[str, _Check] = {
    "allOf": _all_of,
    "anyOf": _alternatives("anyOf"),
    "oneOf": _alternatives("oneOf"),
    "not": _not,
    "if": _if,
    "$ref": _reference("$ref"),
    "$dynamicRef": _reference("$dynamicRef"),
    "required": _required,
    "dependentRequired": _dependents("dependentRequired"),
    "dependentSchemas": _dependents("dependentSchemas"),
    "dependencies": _dependents("dependencies"),
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "propertyNames": _property_names,
    "items": _items,
    "prefixItems": _prefix_items,
    "additionalItems": _additional_items,
    "unevaluatedItems": _unevaluated_items,
    "contains": _contains,
}
