"""Properties of every format, for any content of a diagnostic."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from channelmap.check.report import FORMATS, Checked, Report, render
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, Location, Related

NASTY = "a\r\nb\tc\x00\x1b[31m%:,|`*_<b>&@me #1 ]]> ##[error]\u2028\u202e\ufffe\U0001d4b3漢字👩\u200d💻"

texts = st.text(max_size=30)
#: Some locations are in an existing file, so that its lines are shown.
locations = st.builds(Location, st.sampled_from(["nasty.yaml", ".", ""]) | texts, st.integers(0, 9), st.integers(0, 40))
diagnostics = st.builds(
    Diagnostic,
    location=locations,
    code=st.sampled_from([*Code]),
    message=texts,
    hint=texts,
    severity=st.sampled_from(Severity),
    related=st.lists(st.builds(Related, locations, texts), max_size=2).map(tuple),
    channel=texts,
    event_type=texts,
    witness=texts,
)
checked = st.builds(Checked, texts, st.lists(st.tuples(texts, texts), max_size=2).map(tuple))
reports = st.builds(Report, st.lists(checked, max_size=2).map(tuple), st.lists(diagnostics, max_size=3).map(tuple))

a_nasty_one = Report(
    (Checked(NASTY, ((NASTY, NASTY),)),),
    (
        Diagnostic(
            Location(NASTY, 1, 1),
            Code.WRONG_SHAPE,
            NASTY,
            NASTY,
            related=(Related(Location("nasty.yaml", 1, 1), NASTY),),
            channel=NASTY,
            event_type=NASTY,
            witness="NaN",
        ),
        Diagnostic(Location("nasty.yaml", 3, 9), Code.TOO_DEEP, "deep", witness="[" * 100_000),
        Diagnostic(Location("nasty.yaml", 3, 9), Code.WRONG_SHAPE, "half", witness='{"text": "\\ud800", "n": 1e999}'),
    ),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(report=a_nasty_one)
@given(report=reports)
def test_every_format_escapes_any_text(project: Path, report: Report) -> None:
    lines = f"{NASTY}\nkey: '漢字\t{NASTY[8:]}\n".replace("\0", "").encode() + b"\xff\xfe\n" + b"x" * 200
    (project / "nasty.yaml").write_bytes(lines)
    written = {name: render(report, name) for name in FORMATS}
    for name, text in written.items():
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), name
        text.encode()
    for name in ("json", "sarif", "gitlab"):
        json.loads(written[name], parse_constant=pytest.fail)
    ET.fromstring(written["junit"])
    count = len(report.diagnostics)
    assert len(written["concise"].splitlines()) == count
    assert len(written["github"].splitlines()) == 2 * count
    for name in ("full", "concise", "github", "markdown"):
        assert all(line.isprintable() for line in written[name].split("\n")), name
    assert all(line.isprintable() for line in render(report, "full", colour=True).replace("\x1b[", "").split("\n"))


def test_a_line_of_concise_is_the_diagnostic_as_it_prints_itself(report: Report) -> None:
    assert render(report, "concise") == "".join(f"{diagnostic}\n" for diagnostic in report.diagnostics)


def test_without_findings_concise_is_empty() -> None:
    assert render(Report((Checked("channels.yaml"),), ()), "concise") == ""


def test_an_unknown_format_is_an_error_that_lists_the_formats() -> None:
    with pytest.raises(ValueError, match="no format 'xml'; expected one of full, concise, json, github, sarif"):
        render(Report((), ()), "xml")


def test_a_format_is_imported_only_when_it_is_used() -> None:
    script = """
        import sys
        from channelmap.check.report import FORMATS, Report, render
        def loaded(): return {format for format in FORMATS if f"channelmap.check.report.{format}" in sys.modules}
        print(loaded())
        render(Report((), ()), "junit")
        print(loaded())
    """.replace("\n        ", "\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()", "{'junit'}"]
