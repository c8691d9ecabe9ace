"""For GitLab: a Code Quality report."""

import json
import os

from channelmap.check.report import Report
from channelmap.check.report.naming import fingerprints, relative_to
from channelmap.check.report.wording import sentence
from channelmap.codes import Severity

_SEVERITIES = {Severity.ERROR: "major", Severity.WARNING: "minor", Severity.INFO: "info"}


def render(report: Report) -> str:
    """Return the findings as a JSON list; GitLab needs a line for each, and has no columns."""
    # GitLab expects paths relative to the root of the repository.
    top = os.environ.get("CI_PROJECT_DIR", "")
    issues = [
        {
            "description": sentence(diagnostic),
            "check_name": diagnostic.code,
            "fingerprint": fingerprint,
            "severity": _SEVERITIES[diagnostic.severity],
            "location": {
                "path": relative_to(top, diagnostic.location.path),
                "lines": {"begin": max(diagnostic.location.line, 1)},
            },
        }
        for diagnostic, fingerprint in zip(report.diagnostics, fingerprints(top, report.diagnostics), strict=True)
    ]
    return json.dumps(issues, indent=2) + "\n"
