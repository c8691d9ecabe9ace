"""For GitLab: a Code Quality report."""

import json
import os

from channelmap.check.report import Report
from channelmap.check.report.naming import fingerprints, seen_from
from channelmap.check.report.wording import sentence
from channelmap.codes import Severity

_SEVERITIES = {Severity.ERROR: "major", Severity.WARNING: "minor", Severity.INFO: "info"}


def render(report: Report) -> str:
    """Write the findings as a list; GitLab knows lines, but neither columns nor a file as a whole."""
    # GitLab looks for files from the top of the repository, wherever the check ran.
    top = os.environ.get("CI_PROJECT_DIR", "")
    issues = [
        {
            "description": sentence(diagnostic),
            "check_name": diagnostic.code,
            "fingerprint": fingerprint,
            "severity": _SEVERITIES[diagnostic.severity],
            "location": {
                "path": seen_from(top, diagnostic.location.path),
                "lines": {"begin": max(diagnostic.location.line, 1)},
            },
        }
        for diagnostic, fingerprint in zip(report.diagnostics, fingerprints(top, report.diagnostics), strict=True)
    ]
    return json.dumps(issues, indent=2) + "\n"
