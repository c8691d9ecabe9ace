"""Which of several alternatives an instance was meant for, none of which it fits."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from channelmap.validation.fault import Fault, type_name

_CONSTANTS = frozenset({"const", "enum"})
_Tags = dict[str | int, list[Any]]


def plausible(around: Fault, faults: Sequence[list[Fault]], tags: Sequence[_Tags]) -> list[Fault]:
    """Choose the faults that help most: those of the alternative that was meant, where one can be told.

    Args:
        around: the fault of the alternatives as a whole.
        faults: what the instance breaks in each alternative.
        tags: the properties or indexes by whose constants each alternative can be told.

    """
    here = around.pointer
    if all(_is_about_itself(branch, here) for branch in faults):
        return [replace(around, detail=_expected_here(faults, here))]
    meant = [index for index, branch in enumerate(faults) if not any(_is_another_type(f, here) for f in branch)]
    meant = meant or list(range(len(faults)))
    for step in _told_apart(meant, tags, around.got):
        at = (*here, step)
        tagged = [index for index in meant if step in tags[index]]
        fitting = [i for i in tagged if not any(f.pointer == at and f.keyword in _CONSTANTS for f in faults[i])]
        if fitting:
            meant = fitting
        elif len(tagged) == len(meant):
            allowed = [value for index in tagged for value in tags[index][step]]
            return [replace(around, pointer=at, got=around.got[step], detail=("constants", allowed))]
    return _agreed(around, [faults[index] for index in meant])


def _agreed(around: Fault, faults: list[list[Fault]]) -> list[Fault]:
    """Choose among alternatives that all may have been meant."""
    if len(faults) == 1:
        return faults[0]
    shared = [fault for fault in faults[0] if all(any(_is_same(fault, f) for f in branch) for branch in faults[1:])]
    if shared:
        return shared
    complete = [branch for branch in faults if not any(_is_incomplete(f, around.pointer) for f in branch)]
    return complete[0] if len(complete) == 1 else [replace(around, detail=("each", faults))]


def _is_about_itself(branch: list[Fault], here: tuple[str | int, ...]) -> bool:
    """Whether an alternative would have another type or constant in place of the instance."""
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


def _is_another_type(fault: Fault, here: tuple[str | int, ...]) -> bool:
    if fault.pointer != here or fault.keyword not in _CONSTANTS:
        return fault.pointer == here and fault.keyword in {"type", "falseSchema"}
    value = fault.owner[fault.keyword]
    return type_name(fault.got) not in map(type_name, [value] if fault.keyword == "const" else value)


def _told_apart(meant: list[int], tags: Sequence[_Tags], value: Any) -> list[str | int]:
    """Name the tags that the instance has, and that differ between alternatives; those of most alternatives first."""
    steps = dict.fromkeys(step for index in meant for step in tags[index])
    found = []
    for step in steps:
        sets = [tags[index][step] for index in meant if step in tags[index]]
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
    # What is missing or too much is told in the detail; of another keyword, the schemas must say the same.
    return one.detail is not None or one.owner is False or one.owner[one.keyword] == other.owner[other.keyword]


def _is_incomplete(fault: Fault, here: tuple[str | int, ...]) -> bool:
    return fault.pointer == here and fault.keyword in {"required", "additionalProperties", "unevaluatedProperties"}
