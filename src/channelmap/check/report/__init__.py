"""What a check has found, for terminals, pipes and the services that run checks: one module for each format.

Knows diagnostics, not how they came about.
"""

from dataclasses import dataclass
from importlib import import_module

from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import quoted

FORMATS: tuple[str, ...] = ("full", "concise", "json", "github", "sarif", "junit", "gitlab", "markdown")
"""The names of the formats; each is the name of its module, too."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A contract file that was checked.

    Attributes:
        path: as messages call it.
        cases: channel and event type of everything that it declares.

    """

    path: str
    cases: tuple[tuple[str, str], ...] = ()

    @property
    def channels(self) -> int:
        """How many channels it declares."""
        return len({channel for channel, _ in self.cases})


@dataclass(frozen=True, slots=True)
class Sends:
    """The sends in Python code that were looked at.

    Attributes:
        judged: how many were judged.
        unread: where each of the others is, and why it could not be judged.

    """

    judged: int
    unread: tuple[tuple[Location, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what was found, in the order of the places.

    Attributes:
        checked: the contract files.
        diagnostics: the findings.
        sends: the sends that were looked at; `None` where none were asked for.

    """

    checked: tuple[Checked, ...]
    diagnostics: tuple[Diagnostic, ...]
    sends: Sends | None = None

    def count(self, severity: Severity) -> int:
        """Say how many findings weigh that much."""
        return sum(diagnostic.severity is severity for diagnostic in self.diagnostics)


def render(report: Report, format: str, *, colour: bool = False) -> str:  # noqa: A002  (the option's word)
    """Write a report in one of the `FORMATS`.

    Files that findings point to are read again, for the lines that are shown; those that are gone are not missed.

    Args:
        report: what was found.
        format: one of `FORMATS`.
        colour: with the colours of a terminal, where the format has any.

    Returns:
        Text that ends in one newline, or is empty.

    Raises:
        ValueError: there is no such format.

    """
    if format not in FORMATS:
        raise ValueError(f"no format {quoted(format)}; expected one of {', '.join(FORMATS)}")
    if format == "full":
        from channelmap.check.report import full

        return full.render(report, colour=colour)
    text: str = import_module(f"{__name__}.{format}").render(report)
    return text
