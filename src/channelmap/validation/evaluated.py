"""Find the properties and items that other keywords evaluate, for `unevaluatedProperties` and `unevaluatedItems`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from channelmap.validation.fault import Steps
from channelmap.validation.parts import Part

if TYPE_CHECKING:
    from channelmap.validation.descent import Descent


def evaluated_names(descent: "Descent", part: Part, value: dict[str, Any], pointer: Steps) -> set[str]:
    """Return the properties of a value that keywords other than `unevaluatedProperties` evaluate in a part."""
    return _evaluated(descent, part, value, pointer, "unevaluatedProperties", _own_names)


def evaluated_items(descent: "Descent", part: Part, value: Any, pointer: Steps) -> set[int]:
    """Return the items of a value, by index, that keywords other than `unevaluatedItems` evaluate in a part."""
    return _evaluated(descent, part, value, pointer, "unevaluatedItems", _own_items)


def _evaluated(  # noqa: PLR0913, PLR0917
    descent: "Descent", first: Part, value: Any, pointer: Steps, keyword: str, own: Callable[..., Iterator[Any]]
) -> set[Any]:
    """Collect them from all schemas that apply to the same value and accept it."""
    found: set[Any] = set()
    seen: set[int] = set()
    waiting = [first]
    while waiting:
        part = waiting.pop()
        if not isinstance(part.schema, dict) or id(part.schema) in seen:
            continue
        seen.add(id(part.schema))
        if part is not first and keyword in part.schema:
            return set(value) if isinstance(value, dict) else set(range(len(value)))
        found.update(own(descent, part, value, pointer))
        others = _in_place_subschemas(descent, part, value, pointer)
        waiting += [other for other in others if descent.fits(other, value, pointer)]
    return found


def _in_place_subschemas(descent: "Descent", part: Part, value: Any, pointer: Steps) -> Iterator[Part]:
    """Yield the subschemas of a part that apply to the same value, whether or not they accept it."""
    schema = part.schema
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from (part.child(keyword, index) for index in range(len(schema.get(keyword, ()))))
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            yield descent.parts.resolve(part, schema[keyword])
    for name in schema.get("dependentSchemas", ()):
        if isinstance(value, dict) and name in value:
            yield part.child("dependentSchemas", name)
    if "if" in schema:
        condition = part.child("if")
        yield condition
        branch = "then" if descent.fits(condition, value, pointer) else "else"
        if branch in schema:
            yield part.child(branch)


def _own_names(descent: "Descent", part: Part, value: dict[str, Any], pointer: Steps) -> Iterator[str]:  # noqa: ARG001
    """Yield the properties that the part's own keywords evaluate."""
    schema = part.schema
    if "additionalProperties" in schema:
        yield from value
    yield from schema.get("properties", ())
    for pattern in schema.get("patternProperties", ()):
        yield from filter(descent.parts.pattern_predicate(pattern), value)


def _own_items(descent: "Descent", part: Part, value: Any, pointer: Steps) -> Iterator[int]:
    """Yield the indexes of the items that the part's own keywords evaluate."""
    schema = part.schema
    yield from range(len(value) if "items" in schema else len(schema.get("prefixItems", ())))
    if "contains" in schema:
        child = part.child("contains")
        yield from (index for index, item in enumerate(value) if descent.fits(child, item, (*pointer, index)))
