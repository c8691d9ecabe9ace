"""A fault in a file and its location, as plain values; rules, colours and streams are elsewhere."""

from dataclasses import dataclass

from channelmap.codes import Code, Severity
from channelmap.environment import shown


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
class Related:
    """A second place that belongs to a diagnostic, and what is there."""

    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong in a file.

    Attributes:
        location: the start of the word that is at fault.
        code: says what is wrong.
        message: the subject, the fault, the expected and the actual value.
        hint: the likely remedy.
        severity: how much it weighs; as an argument, left out for the severity of the code.
        related: other places that belong to it.
        channel: the channel that it is about, as messages call it; empty where it is about none.
        event_type: the event type that it is about.
        witness: an event that proves it, as JSON.

    """

    location: Location
    code: Code
    message: str
    hint: str = ""
    severity: Severity = None  # type: ignore[assignment]  # __post_init__ sets it
    related: tuple[Related, ...] = ()
    channel: str = ""
    event_type: str = ""
    witness: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", shown(self.channel))
        object.__setattr__(self, "severity", self.severity or self.code.severity)

    def __str__(self) -> str:
        text = f"{self.location}: {self.severity}[{self.code}] {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


def in_order(diagnostics: "list[Diagnostic] | tuple[Diagnostic, ...]") -> tuple[Diagnostic, ...]:
    """Sort by place, then code, each diagnostic once: the order in which people read a file."""
    return tuple(sorted(set(diagnostics), key=lambda d: (d.location, d.code, d.message)))
