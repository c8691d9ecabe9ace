"""Reports of a check for terminals, pipes and CI services: one module for each format.

This package knows diagnostics, but not the rules that found them.
"""

from dataclasses import dataclass
from importlib import import_module

from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import quoted

FORMATS: tuple[str, ...] = ("full", "concise", "json", "github", "sarif", "junit", "gitlab", "markdown")
"""The names of the formats; each is also the name of its module."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A contract file that was checked.

    Attributes:
        path: its name in messages.
        cases: channel and event type of each event type that it declares.

    """

    path: str
    cases: tuple[tuple[str, str], ...] = ()

    @property
    def channels(self) -> int:
        """The number of channels with event types."""
        return len({channel for channel, _ in self.cases})


@dataclass(frozen=True, slots=True)
class Sends:
    """The sends in Python code that were found.

    Attributes:
        judged: the number of sends that were checked.
        unread: locations of the sends that could not be checked, each with the reason.

    """

    judged: int
    unread: tuple[tuple[Location, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The checked files and the findings.

    Attributes:
        checked: the contract files.
        diagnostics: the findings, in the order of their locations.
        sends: the sends that were found; `None` if senders were not checked.

    """

    checked: tuple[Checked, ...]
    diagnostics: tuple[Diagnostic, ...]
    sends: Sends | None = None

    def count(self, severity: Severity) -> int:
        """Return the number of findings of this severity."""
        return sum(diagnostic.severity is severity for diagnostic in self.diagnostics)


def render(report: Report, format: str, *, colour: bool = False) -> str:  # noqa: A002  (the option's word)
    """Return a report in one of the `FORMATS`.

    The files of findings are read again to show excerpts; a file that no longer exists has none.

    Args:
        report: the report.
        format: one of `FORMATS`.
        colour: use terminal colours, if the format supports them.

    Returns:
        Text that ends in one newline, or is empty.

    Raises:
        ValueError: the format is unknown.

    """
    if format not in FORMATS:
        raise ValueError(f"no format {quoted(format)}; expected one of {', '.join(FORMATS)}")
    if format == "full":
        from channelmap.check.report import full

        return full.render(report, colour=colour)
    text: str = import_module(f"{__name__}.{format}").render(report)
    return text
