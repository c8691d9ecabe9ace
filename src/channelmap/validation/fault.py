"""One keyword of a schema that an instance breaks, as it is found; it is worded later, when it is read."""

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
        detail: what its keyword's words need besides, such as the names that are missing.
        causes: why the keyword counts: the keyword that says so, and its condition; the innermost first.

    """

    pointer: Steps
    keyword: str
    path: Steps
    owner: Any
    got: Any
    detail: Any = None
    causes: tuple[tuple[str, Any], ...] = ()

    def because(self, keyword: str, condition: Any) -> "Fault":
        """Return the same fault, which counts only under a condition."""
        return replace(self, causes=(*self.causes, (keyword, condition)))


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
