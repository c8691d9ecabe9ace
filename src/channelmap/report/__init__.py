"""What a check has found, for terminals, pipes and the services that run checks: one module for each format.

Knows diagnostics, not how they came about.
"""

from dataclasses import dataclass

from channelmap.diagnostics import Diagnostic


@dataclass(frozen=True, slots=True)
class Checked:
    """A contract file that was checked.

    Attributes:
        path: as messages call it.
        cases: channel and event type of everything that it declares.

    """

    path: str
    cases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what was found, in the order of the places."""

    checked: tuple[Checked, ...]
    diagnostics: tuple[Diagnostic, ...]
