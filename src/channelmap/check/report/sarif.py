"""SARIF 2.1.0, for code scanning."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from channelmap.check.pages import page
from channelmap.check.report import Report
from channelmap.check.report.excerpt import Excerpts
from channelmap.check.report.naming import fingerprints, relative_to
from channelmap.check.report.wording import event_text, sentence
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic, Location

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(report: Report) -> str:
    """Return one run, whose rules are the pages of the codes that were found."""
    codes = sorted({diagnostic.code for diagnostic in report.diagnostics})
    driver = {"name": "channelmap", "version": version("channelmap"), "rules": [_rule(code) for code in codes]}
    # Code scanning expects paths relative to the root of the repository.
    top = os.environ.get("GITHUB_WORKSPACE", "")
    excerpts = Excerpts()
    results = [
        {
            **_result(top, diagnostic, excerpts),
            "ruleIndex": codes.index(diagnostic.code),
            "partialFingerprints": {
                # GitHub's uploader computes `primaryLocationLineHash` itself, and complains about another value.
                "finding/v1": fingerprint
            },
        }
        for diagnostic, fingerprint in zip(report.diagnostics, fingerprints(top, report.diagnostics), strict=True)
    ]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(code: str) -> dict[str, Any]:
    about = page(code)
    # Every page begins with a title, the severity with the summary, and why it matters.
    why = about.text.split("\n\n")[2]
    return {
        "id": code,
        "shortDescription": {"text": about.summary},
        "fullDescription": {"text": " ".join(why.split())},
        "help": {"text": about.text, "markdown": about.text},
        "defaultConfiguration": {"level": _LEVELS[Severity(about.kind)]},
    }


def _result(top: str, diagnostic: Diagnostic, excerpts: Excerpts) -> dict[str, Any]:
    text = sentence(diagnostic)
    if diagnostic.witness:
        text += f"\nevent: {event_text(diagnostic.witness)}"
    return {
        "ruleId": diagnostic.code,
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": _physical_location(top, diagnostic.location, excerpts)}],
        "relatedLocations": [
            {
                "id": number,
                "message": {"text": other.message},
                "physicalLocation": _physical_location(top, other.location, excerpts),
            }
            for number, other in enumerate(diagnostic.related, 1)
        ],
    }


def _physical_location(top: str, location: Location, excerpts: Excerpts) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(relative_to(top, location.path))}}
    excerpt = excerpts.at(location)
    region = {
        "startLine": location.line,
        "startColumn": location.column,
        "endColumn": excerpt.end_column if excerpt else 0,
    }
    if location.line:
        physical["region"] = {name: number for name, number in region.items() if number}
    return physical


def _uri(path: str) -> str:
    return Path(path).as_uri() if Path(path).is_absolute() else quote(os.fsencode(path))
