"""The data of a diagnostic: a fault in a file with its location. Rules and output are elsewhere."""

from dataclasses import dataclass

from channelmap.codes import Code, Severity
from channelmap.environment import shown


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A location in a text file; line and column count from 1, the column in code points.

    Line 0 stands for the whole file, for example if it is missing.
    """

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Related:
    """A further location that belongs to a diagnostic, and a message about it."""

    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong in a file.

    Attributes:
        location: the start of the faulty word.
        code: the kind of fault.
        message: subject, fault, expected and actual value.
        hint: the likely remedy; empty if there is none.
        severity: error, warning or info; by default the severity of the code.
        related: further locations that belong to it.
        channel: the name of the channel that it is about; empty if there is none.
        event_type: the event type that it is about; empty if there is none.
        witness: the counterexample: an event that proves the finding, as JSON; empty if there is none.

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
    """Return diagnostics sorted by location, then by code, without duplicates."""
    return tuple(sorted(set(diagnostics), key=lambda d: (d.location, d.code, d.message)))
