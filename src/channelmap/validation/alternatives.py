"""Choose the faults to report for an instance that matches no alternative of `anyOf` or `oneOf`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from channelmap.validation.fault import Fault, type_name

_CONSTANTS = frozenset({"const", "enum"})
_Tags = dict[str | int, list[Any]]


def most_helpful(outer: Fault, faults: Sequence[list[Fault]], tags: Sequence[_Tags]) -> list[Fault]:
    """Return the faults of the alternative that the instance was probably meant for, or one fault for all of them.

    Args:
        outer: the fault of the alternatives as a whole.
        faults: the faults of the instance in each alternative.
        tags: for each alternative, the properties or indexes (discriminators) with their allowed constants.

    """
    here = outer.pointer
    if all(_rejects_whole_value(branch, here) for branch in faults):
        return [replace(outer, detail=_expected_here(faults, here))]
    candidates = [index for index, branch in enumerate(faults) if not any(_rejects_type(f, here) for f in branch)]
    candidates = candidates or list(range(len(faults)))
    for step in _distinguishing_steps(candidates, tags, outer.got):
        at = (*here, step)
        tagged = [index for index in candidates if step in tags[index]]
        fitting = [i for i in tagged if not any(f.pointer == at and f.keyword in _CONSTANTS for f in faults[i])]
        if fitting:
            candidates = fitting
        elif len(tagged) == len(candidates):
            allowed = [value for index in tagged for value in tags[index][step]]
            return [replace(outer, pointer=at, got=outer.got[step], detail=("constants", allowed))]
    return _common_faults(outer, [faults[index] for index in candidates])


def _common_faults(outer: Fault, faults: list[list[Fault]]) -> list[Fault]:
    """Return faults when each of several alternatives may have been meant."""
    if len(faults) == 1:
        return faults[0]
    shared = [fault for fault in faults[0] if all(any(_is_same(fault, f) for f in branch) for branch in faults[1:])]
    if shared:
        return shared
    complete = [branch for branch in faults if not any(_is_about_names(f, outer.pointer) for f in branch)]
    return complete[0] if len(complete) == 1 else [replace(outer, detail=("each", faults))]


def _rejects_whole_value(branch: list[Fault], here: tuple[str | int, ...]) -> bool:
    """Whether an alternative rejects the type of the instance, or expects another constant in its place."""
    return any(f.pointer == here and f.keyword in {"type", *_CONSTANTS} for f in branch)


def _expected_here(faults: Iterable[list[Fault]], here: tuple[str | int, ...]) -> tuple[str, Any]:
    types: list[str] = []
    constants: list[Any] = []
    for branch in faults:
        fault = next(f for f in branch if f.pointer == here and f.keyword in {"type", *_CONSTANTS})
        value = fault.owner[fault.keyword]
        if fault.keyword == "type":
            types += [value] if isinstance(value, str) else value
        else:
            constants += [value] if fault.keyword == "const" else value
    return "here", (types, constants)


def _rejects_type(fault: Fault, here: tuple[str | int, ...]) -> bool:
    if fault.pointer != here or fault.keyword not in _CONSTANTS:
        return fault.pointer == here and fault.keyword in {"type", "falseSchema"}
    value = fault.owner[fault.keyword]
    return type_name(fault.got) not in map(type_name, [value] if fault.keyword == "const" else value)


def _distinguishing_steps(candidates: list[int], tags: Sequence[_Tags], value: Any) -> list[str | int]:
    """Return the tags that the instance has and that differ between alternatives, the most common ones first."""
    steps = dict.fromkeys(step for index in candidates for step in tags[index])
    found = []
    for step in steps:
        sets = [tags[index][step] for index in candidates if step in tags[index]]
        if _has(value, step) and len(sets) > 1 and any(one != sets[0] for one in sets):
            found.append((len(sets), step))
    return [step for _, step in sorted(found, key=lambda pair: -pair[0])]


def _has(value: Any, step: str | int) -> bool:
    if isinstance(step, int):
        return isinstance(value, (list, tuple)) and step < len(value)
    return isinstance(value, dict) and step in value


def _is_same(one: Fault, other: Fault) -> bool:
    if (one.pointer, one.keyword, one.detail) != (other.pointer, other.keyword, other.detail):
        return False
    # The detail names missing or unexpected properties. Without a detail, the keywords must have the same value.
    return one.detail is not None or one.owner is False or one.owner[one.keyword] == other.owner[other.keyword]


def _is_about_names(fault: Fault, here: tuple[str | int, ...]) -> bool:
    return fault.pointer == here and fault.keyword in {"required", "additionalProperties", "unevaluatedProperties"}
