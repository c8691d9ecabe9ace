"""JUnit XML: each event type is a test case of its channel, which fails if there is an error about it.

A finding that is not about an event type is a test case named after its code. Warnings are output of a test case.
"""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from channelmap.check.report import Report
from channelmap.check.report.wording import one_line, sentence
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic

_Case = tuple[str, str]


def render(report: Report) -> str:
    """Return a test suite for each checked file, and for each other file that has findings."""
    suites: dict[str, dict[_Case, list[Diagnostic]]] = {
        file.path: {case: [] for case in file.cases} for file in report.checked
    }
    for diagnostic in report.diagnostics:
        path = _owner(report, diagnostic)
        case = (diagnostic.channel or path, diagnostic.event_type or diagnostic.code)
        suites.setdefault(path, {}).setdefault(case, []).append(diagnostic)
    root = ET.Element("testsuites", name="channelmap")
    for path, cases in suites.items():
        # A suite without test cases would look as if nothing had been checked.
        _suite(root, path, cases or {(path, "check"): []})
    ET.indent(root)
    # ASCII with character references, so that it is valid in any encoding.
    text: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode() + "\n"


def _owner(report: Report, diagnostic: Diagnostic) -> str:
    """Return the file whose suite contains a finding: its contract, or otherwise the file of its location."""
    if any(diagnostic.location.path == file.path for file in report.checked):
        return diagnostic.location.path
    case = (diagnostic.channel, diagnostic.event_type)
    return next((file.path for file in report.checked if case in file.cases), diagnostic.location.path)


def _suite(root: ET.Element, path: str, cases: dict[_Case, list[Diagnostic]]) -> None:
    suite = ET.SubElement(root, "testsuite", name=one_line(path), tests=str(len(cases)), errors="0", skipped="0")
    failed = 0
    for (channel, name), diagnostics in cases.items():
        case = ET.SubElement(suite, "testcase", classname=one_line(channel), name=one_line(name))
        errors = [found for found in diagnostics if found.severity is Severity.ERROR]
        if errors:
            failed += 1
            # CI services show one failure for each test case.
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            message = one_line(sentence(errors[0])) + more
            ET.SubElement(case, "failure", type=errors[0].code, message=message).text = _lines(errors)
        if len(errors) < len(diagnostics):
            output = _lines(found for found in diagnostics if found.severity is not Severity.ERROR)
            ET.SubElement(case, "system-out").text = output
    suite.set("failures", str(failed))


def _lines(diagnostics: Iterable[Diagnostic]) -> str:
    """Return findings as lines; the characters that XML forbids are escaped."""
    return "\n".join(one_line(str(diagnostic)) for diagnostic in diagnostics)
