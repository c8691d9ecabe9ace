"""JSON Pointers (RFC 6901): the way to a value in a document."""

from collections.abc import Iterable
from typing import Any

Pointer = tuple[str | int, ...]
"""The keys and indexes that lead to a value; empty for the whole document."""


def steps_of(pointer: str) -> list[str]:
    """Return the steps of a pointer in its text form, such as `/a/0`; decode the fragment of a URI first."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def text_of(pointer: Pointer) -> str:
    """Return the text form of a pointer."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in pointer)


def child(value: Any, step: str) -> Any:
    """Return what one step of a text form leads to; LookupError or TypeError if it leads nowhere."""
    if not isinstance(value, list):
        return value[step]
    if not step.isdecimal():
        raise LookupError(step)
    return value[int(step)]


def resolve(value: Any, steps: Iterable[str]) -> Any:
    """Return what the steps of a text form lead to; errors as `child`."""
    for step in steps:
        value = child(value, step)
    return value
