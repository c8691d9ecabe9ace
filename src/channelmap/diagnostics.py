"""What is wrong with a file, and where: a value that knows no rule, no colour and no stream."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a diagnostic weighs: only an error stops a file from being loaded."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a text file, for people: line and column count from 1, the column in code points.

    Line 0 stands for the file as a whole (it is missing, it cannot be read).
    """

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong in a file.

    `code` is a stable kebab-case name that says what is wrong and is documented in `docs/checks.md`;
    `message` names subject, fault, what was expected and what was found; `hint` is the likely remedy.
    """

    location: Location
    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        text = f"{self.location}: {self.severity}[{self.code}] {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


def in_order(diagnostics: "list[Diagnostic] | tuple[Diagnostic, ...]") -> tuple[Diagnostic, ...]:
    """Sort by place, then code, each diagnostic once: the order in which people read a file."""
    return tuple(sorted(set(diagnostics), key=lambda d: (d.location, d.code, d.message)))
