"""What an instance breaks in a schema, found by a descent through both whose cost is bounded.

The engine's own errors cost too much: it goes through all alternatives anew at every level, and copies the instance for
each error. Here each part of a schema is held against each part of an instance once, whichever way leads there, and the
engine is only asked about single keywords.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from channelmap.validation.alternatives import plausible
from channelmap.validation.evaluated import evaluated_items, evaluated_names
from channelmap.validation.fault import Fault, Steps
from channelmap.validation.parts import Part, Parts

#: Items or properties from which on the engine is asked which of them fit, before any is looked into.
_MANY = 16


class TooLong(Exception):
    """The descent has taken all the steps that it may take."""


class Descent:
    """One search for what an instance breaks.

    Args:
        parts: the schema.
        limit: faults after which it ends.
        steps: keywords that are held against parts of the instance, at most.

    """

    def __init__(self, parts: Parts, limit: float = math.inf, steps: float = math.inf) -> None:
        self.parts = parts
        self._limit = limit
        self._steps = steps
        self._known: dict[tuple[int, Steps], list[Fault]] = {}

    def faults(self, part: Part, value: Any, pointer: Steps = ()) -> list[Fault]:
        """Find what a value at a pointer breaks in a part of the schema; TooLong when that takes too many steps."""
        schema = part.schema
        if isinstance(schema, bool):
            return [] if schema else [Fault(pointer, "falseSchema", part.path, schema, value)]
        key = id(schema), pointer
        if key not in self._known:
            # A reference that leads back to itself rejects nothing.
            self._known[key] = []
            self._known[key] = self._search(part, value, pointer)
        return self._known[key]

    def fits(self, part: Part, value: Any, pointer: Steps) -> bool:
        """Whether a value fits a part of the schema."""
        return not self.faults(part, value, pointer)

    def each(
        self, part: Part, values: Iterable[tuple[int | str, Any]], count: int, pointer: Steps
    ) -> Iterator[tuple[int | str, list[Fault]]]:
        """Find the faults of each of many values that are held against the same part; leave out those without."""
        fits = self.parts.engine(part) if count > _MANY else None
        for step, value in values:
            if (fits is None or not fits(value)) and (found := self.faults(part, value, (*pointer, step))):
                yield step, found

    def _search(self, part: Part, value: Any, pointer: Steps) -> list[Fault]:
        found: list[Fault] = []
        for keyword in self.parts.keywords(part.schema):
            self._steps -= 1
            if self._steps < 0:
                raise TooLong
            look = _LOOKS.get(keyword)
            if look is not None:
                for fault in look(self, part, value, pointer):
                    found.append(fault)
                    if len(found) >= self._limit:
                        return found
            elif not self.parts.leaf(part.schema, keyword)(value):
                detail = self.parts.gives_up(part.schema["pattern"], value) if keyword == "pattern" else None
                found.append(_fault(part, keyword, value, pointer, detail))
        return found


_Look = Callable[[Descent, Part, Any, Steps], Iterable[Fault]]


def _fault(part: Part, keyword: str, value: Any, pointer: Steps, detail: Any = None) -> Fault:
    return Fault(pointer, keyword, (*part.path, keyword), part.schema, value, detail)


# Keywords that hold other schemas against the same value.


def _all_of(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    for index in range(len(part.schema["allOf"])):
        yield from descent.faults(part.child("allOf", index), value, pointer)


def _alternatives(keyword: str) -> _Look:
    def look(descent: Descent, part: Part, value: Any, pointer: Steps) -> list[Fault]:
        branches = [part.child(keyword, index) for index in range(len(part.schema[keyword]))]
        faults = [descent.faults(branch, value, pointer) for branch in branches]
        fitting = [index for index, found in enumerate(faults) if not found]
        if not fitting:
            tags = [descent.parts.tags(branch) for branch in branches]
            return plausible(_fault(part, keyword, value, pointer), faults, tags)
        is_one = keyword == "anyOf" or len(fitting) == 1
        return [] if is_one else [_fault(part, keyword, value, pointer, ("several", fitting))]

    return look


def _not(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    if descent.fits(part.child("not"), value, pointer):
        yield _fault(part, "not", value, pointer)


def _if(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    branch = "then" if descent.fits(part.child("if"), value, pointer) else "else"
    if branch in part.schema:
        for fault in descent.faults(part.child(branch), value, pointer):
            yield fault.because(branch, part.schema["if"])


def _reference(keyword: str) -> _Look:
    def look(descent: Descent, part: Part, value: Any, pointer: Steps) -> list[Fault]:
        return descent.faults(descent.parts.referred(part, part.schema[keyword]), value, pointer)

    return look


# Objects.


def _required(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:  # noqa: ARG001
    for name in part.schema["required"] if isinstance(value, dict) else ():
        if name not in value:
            yield _fault(part, "required", value, pointer, (name,))


def _dependents(keyword: str) -> _Look:
    def look(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
        for name, dependent in part.schema[keyword].items() if isinstance(value, dict) else ():
            if name not in value:
                continue
            if isinstance(dependent, list):
                found = [_fault(part, keyword, value, pointer, (one,)) for one in dependent if one not in value]
            else:
                found = descent.faults(part.child(keyword, name), value, pointer)
            yield from (fault.because(keyword, name) for fault in found)

    return look


def _properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    for name in part.schema["properties"] if isinstance(value, dict) else ():
        if name in value:
            yield from descent.faults(part.child("properties", name), value[name], (*pointer, name))


def _pattern_properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    for pattern in part.schema["patternProperties"] if isinstance(value, dict) else ():
        names = list(filter(descent.parts.pattern(pattern), value))
        yield from _below(descent, part.child("patternProperties", pattern), value, names, pointer)


def _additional_properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, dict):
        return ()
    names = [name for name in value if name not in part.schema.get("properties", ())]
    for pattern in part.schema.get("patternProperties", ()):
        matches = descent.parts.pattern(pattern)
        names = [name for name in names if not matches(name)]
    return _further(descent, part, "additionalProperties", value, names, pointer)


def _unevaluated_properties(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, dict):
        return ()
    seen = evaluated_names(descent, part, value, pointer)
    names = [name for name in value if name not in seen]
    return _further(descent, part, "unevaluatedProperties", value, names, pointer)


def _property_names(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    names = value if isinstance(value, dict) else ()
    for name, found in descent.each(part.child("propertyNames"), ((n, n) for n in names), len(names), (*pointer, "")):
        yield _fault(part, "propertyNames", value, pointer, ((name,), found[0]))


# Arrays.


def _items(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, (list, tuple)):
        return ()
    if isinstance(part.schema["items"], list):
        return _first_items(descent, part, "items", value, pointer)
    first = len(part.schema.get("prefixItems", ()))
    return _further(descent, part, "items", value, list(range(first, len(value))), pointer)


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
    return _further(descent, part, "additionalItems", value, list(range(len(first), len(value))), pointer)


def _unevaluated_items(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterable[Fault]:
    if not isinstance(value, (list, tuple)):
        return ()
    seen = evaluated_items(descent, part, value, pointer)
    indexes = [index for index in range(len(value)) if index not in seen]
    return _further(descent, part, "unevaluatedItems", value, indexes, pointer)


def _contains(descent: Descent, part: Part, value: Any, pointer: Steps) -> Iterator[Fault]:
    if not isinstance(value, (list, tuple)):
        return
    mismatched = dict(descent.each(part.child("contains"), enumerate(value), len(value), pointer))
    fitting = [index for index in range(len(value)) if index not in mismatched]
    least = 1 if descent.parts.is_older else part.schema.get("minContains", 1)
    most = math.inf if descent.parts.is_older else part.schema.get("maxContains", math.inf)
    if len(fitting) < least:
        yield _fault(part, "contains", value, pointer, ("at least", least, fitting))
    if len(fitting) > most:
        yield _fault(part, "contains", value, pointer, ("at most", most, fitting))


# What no other keyword is about.


def _further(  # noqa: PLR0913, PLR0917
    descent: Descent, part: Part, keyword: str, value: Any, steps: list[Any], pointer: Steps
) -> Iterable[Fault]:
    """Hold properties or items against a schema, which mostly is `false`."""
    if part.schema[keyword] is False:
        return [_fault(part, keyword, value, pointer, tuple(steps))] if steps else []
    return _below(descent, part.child(keyword), value, steps, pointer)


def _below(descent: Descent, part: Part, value: Any, steps: list[Any], pointer: Steps) -> Iterator[Fault]:
    for _, found in descent.each(part, ((step, value[step]) for step in steps), len(steps), pointer):
        yield from found


_LOOKS: dict[str, _Look] = {
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
