"""For GitHub Actions: commands that put findings beside the lines of a pull request, then every finding as a line."""

import os
from itertools import islice

from channelmap.check.report import Report, concise
from channelmap.check.report.excerpt import Excerpts
from channelmap.check.report.naming import seen_from
from channelmap.check.report.wording import one_line, sentence
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic

#: GitHub shows no more of a kind for one step.
_MOST = 10
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report) -> str:
    """Write the workflow commands, errors first, and the findings as plain lines, so that none is lost."""
    excerpts = Excerpts()
    commands = [
        _command(diagnostic, excerpts)
        for severity in Severity
        for diagnostic in islice((found for found in report.diagnostics if found.severity is severity), _MOST)
    ]
    lines = concise.render(report).splitlines()
    return "".join(f"{line}\n" for line in (*commands, *map(_inert, lines)))


def _command(diagnostic: Diagnostic, excerpts: Excerpts) -> str:
    location, excerpt = diagnostic.location, excerpts.at(diagnostic.location)
    properties = {
        # Annotations are looked for from the top of the repository, wherever the check ran.
        "file": seen_from(os.environ.get("GITHUB_WORKSPACE", ""), location.path),
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


def _inert(line: str) -> str:
    """Keep a name in a finding from being taken for a command: the runner looks for both kinds in every line."""
    line = line.replace("##[", "# #[")
    return f"./{line}" if line.lstrip().startswith("::") else line
