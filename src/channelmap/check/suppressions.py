"""Leave out findings, or turn them into warnings, by the options of the command line and of the contract."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from channelmap.codes import Code, Severity
from channelmap.contract import Contract, Suppression
from channelmap.diagnostics import Diagnostic, in_order
from channelmap.environment import shown
from channelmap.errors import quoted


@dataclass(frozen=True, slots=True)
class Selection:
    """The findings that the command line asks for.

    Attributes:
        select: the only codes to report; all if it is empty.
        ignore: codes to leave out.
        warn: codes whose errors become warnings.

    """

    select: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()
    warn: frozenset[str] = frozenset()

    def apply(self, findings: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
        """Return the findings to report, each text once."""
        chosen = (
            _as_warning(finding) if finding.code in self.warn else finding
            for finding in findings
            if finding.code not in self.ignore and (not self.select or finding.code in self.select)
        )
        # A schema that several contracts share is checked for each of them.
        return in_order(tuple({str(finding): finding for finding in chosen}.values()))


def without_suppressed(
    contract: Contract, findings: Iterable[Diagnostic], judged: frozenset[str], today: date
) -> tuple[Diagnostic, ...]:
    """Leave out the findings that the contract suppresses, and report suppressions that are unused or expired.

    Args:
        contract: the contract.
        findings: the findings of its check.
        judged: the codes that were checked; a suppression of another code is not unused.
        today: the date for comparison with `until`.

    """
    used: set[Suppression] = set()
    kept: list[Diagnostic] = []
    for finding in findings:
        suppressions = [suppression for suppression in contract.suppressions if _matches(suppression, finding)]
        used.update(suppressions)
        if not any(_is_active(suppression, today) for suppression in suppressions):
            kept.append(_as_warning(finding) if finding.code in contract.warn else finding)
    return in_order([*kept, *_unused_or_expired(contract, used, judged, today)])


def _matches(suppression: Suppression, finding: Diagnostic) -> bool:
    return (
        suppression.code == finding.code
        and shown(suppression.channel) in {"", finding.channel}
        and suppression.event_type in {"", finding.event_type}
    )


def _is_active(suppression: Suppression, today: date) -> bool:
    return suppression.until is None or today <= suppression.until


def _unused_or_expired(
    contract: Contract, used: set[Suppression], judged: frozenset[str], today: date
) -> Iterator[Diagnostic]:
    for suppression in contract.suppressions:
        if not _is_active(suppression, today):
            message = f"this suppression of {quoted(suppression.code)} ended on {suppression.until}"
            hint = "fix the findings that it suppressed, or give it a later date"
            yield Diagnostic(suppression.location, Code.IGNORE_EXPIRED, message, hint)
        elif suppression not in used and suppression.code in judged:
            message = f"nothing here is {quoted(suppression.code)} any more"
            yield Diagnostic(suppression.location, Code.IGNORE_UNUSED, message, "delete the suppression")


def _as_warning(finding: Diagnostic) -> Diagnostic:
    return replace(finding, severity=Severity.WARNING) if finding.severity is Severity.ERROR else finding
