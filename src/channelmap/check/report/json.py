"""For programs: an object with a version, described by `report.schema.json`.

Every key is always present; its value may be null. The text is ASCII.
"""

import json
from typing import Any

from channelmap.check.report import Report
from channelmap.check.report.excerpt import Excerpts
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic, Location

VERSION = 1


def render(report: Report) -> str:
    """Return the report as one JSON object."""
    excerpts = Excerpts()
    document = {
        "version": VERSION,
        "summary": {
            "files": len(report.checked),
            "channels": sum(file.channels for file in report.checked),
            "event_types": sum(len(file.cases) for file in report.checked),
            "errors": report.count(Severity.ERROR),
            "warnings": report.count(Severity.WARNING),
            "infos": report.count(Severity.INFO),
        },
        "checked": [
            {
                "file": file.path,
                "cases": [{"channel": channel, "event_type": event_type} for channel, event_type in file.cases],
            }
            for file in report.checked
        ],
        "diagnostics": [_diagnostic(diagnostic, excerpts) for diagnostic in report.diagnostics],
    }
    return json.dumps(document, indent=2) + "\n"


def _diagnostic(diagnostic: Diagnostic, excerpts: Excerpts) -> dict[str, Any]:
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "hint": diagnostic.hint or None,
        **_location(diagnostic.location, excerpts),
        "related": [
            {"message": related.message, **_location(related.location, excerpts)} for related in diagnostic.related
        ],
        "channel": diagnostic.channel or None,
        "event_type": diagnostic.event_type or None,
        "witness": _event(diagnostic.witness) if diagnostic.witness else None,
    }


def _location(location: Location, excerpts: Excerpts) -> dict[str, Any]:
    excerpt = excerpts.at(location)
    end_column = excerpt.end_column if excerpt else 0
    return {
        "file": location.path,
        "line": location.line or None,
        "column": location.column or None,
        "end_line": location.line if end_column else None,
        "end_column": end_column or None,
    }


def _event(witness: str) -> Any:
    """Parse an event; a text that is not standard JSON, such as NaN, is returned unchanged."""
    try:
        event = json.loads(witness)
        json.dumps(event, allow_nan=False)
    except (ValueError, RecursionError):
        return witness
    return event
