"""For GitHub Actions: commands that annotate lines of a pull request, then one line for each finding."""

import os
from itertools import islice

from channelmap.check.report import Report, concise
from channelmap.check.report.excerpt import Excerpts
from channelmap.check.report.naming import relative_to
from channelmap.check.report.wording import one_line, sentence
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic

#: Maximum number of annotations of one severity that GitHub shows for a step.
_MAX_ANNOTATIONS = 10
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report) -> str:
    """Return workflow commands, errors first, and all findings as plain lines, because GitHub limits annotations."""
    excerpts = Excerpts()
    commands = [
        _command(diagnostic, excerpts)
        for severity in Severity
        for diagnostic in islice(
            (found for found in report.diagnostics if found.severity is severity), _MAX_ANNOTATIONS
        )
    ]
    lines = concise.render(report).splitlines()
    return "".join(f"{line}\n" for line in (*commands, *map(_without_commands, lines)))


def _command(diagnostic: Diagnostic, excerpts: Excerpts) -> str:
    location, excerpt = diagnostic.location, excerpts.at(diagnostic.location)
    properties = {
        # GitHub expects paths relative to the root of the repository.
        "file": relative_to(os.environ.get("GITHUB_WORKSPACE", ""), location.path),
        "line": location.line,
        "col": location.column,
        "endLine": location.line if excerpt and excerpt.end_column else 0,
        "endColumn": excerpt.end_column if excerpt else 0,
        "title": f"channelmap {diagnostic.code}",
    }
    listed = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value)
    return f"::{_COMMANDS[diagnostic.severity]} {listed}::{_data(sentence(diagnostic))}"


def _data(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return one_line(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _without_commands(line: str) -> str:
    """Change a line so that the runner does not find a command in it, old style or new."""
    line = line.replace("##[", "# #[")
    return f"./{line}" if line.lstrip().startswith("::") else line
