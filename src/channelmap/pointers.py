"""JSON Pointers (RFC 6901): paths to values in a document."""

from collections.abc import Iterable
from typing import Any

Pointer = tuple[str | int, ...]
"""The keys and indexes that lead to a value; empty for the whole document."""


def steps_of(pointer: str) -> list[str]:
    """Return the steps of a pointer in text form, such as `/a/0`; the fragment of a URI must be decoded before."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def text_of(pointer: Pointer) -> str:
    """Return the text form of a pointer."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in pointer)


def child(value: Any, step: str) -> Any:
    """Return the value at one step of the text form below a value.

    Raises:
        LookupError: there is no such key or index.
        TypeError: the value has no keys or indexes.

    """
    if not isinstance(value, list):
        return value[step]
    if not step.isdecimal():
        raise LookupError(step)
    return value[int(step)]


def resolve(value: Any, steps: Iterable[str]) -> Any:
    """Return the value at the end of the steps of a text form; raises like `child`."""
    for step in steps:
        value = child(value, step)
    return value
