"""The record of one keyword that an instance breaks; `wording` turns it into text when that is needed."""

from dataclasses import dataclass, replace
from typing import Any

Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One keyword that an instance breaks.

    Attributes:
        pointer: where in the instance.
        keyword: the schema's keyword.
        path: where the keyword stands in its schema document.
        owner: the schema that the keyword stands in.
        got: the value that breaks it.
        detail: further values for the message, depending on the keyword, such as the names that are missing.
        causes: the conditions under which the keyword applies, the innermost first: keyword and its condition.

    """

    pointer: Steps
    keyword: str
    path: Steps
    owner: Any
    got: Any
    detail: Any = None
    causes: tuple[tuple[str, Any], ...] = ()

    def with_cause(self, keyword: str, condition: Any) -> "Fault":
        """Return a copy of the fault with one more condition under which it applies."""
        return replace(self, causes=(*self.causes, (keyword, condition)))


def type_name(value: Any) -> str:
    """Return the name of a value's JSON type."""
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
