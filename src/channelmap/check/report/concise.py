"""One line for each finding, `path:line:column: severity[code] message; hint`: for pipes, editors and hooks."""

from channelmap.check.report import Report
from channelmap.check.report.wording import one_line


def render(report: Report) -> str:
    """Return one line for each finding."""
    return "".join(f"{one_line(str(diagnostic))}\n" for diagnostic in report.diagnostics)
