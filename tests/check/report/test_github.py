"""The output for GitHub Actions: commands in the log, and the summary of a job."""

from dataclasses import replace
from pathlib import Path

import pytest

from channelmap.check.report import Report, render
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, Location

A_FINDING = Diagnostic(Location("channels.yaml", 3, 1), Code.WRONG_SHAPE, "expected text")


@pytest.fixture(autouse=True)
def _elsewhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)


def lines(*diagnostics: Diagnostic) -> list[str]:
    return render(Report((), diagnostics), "github").splitlines()


def test_annotations_list_errors_first_and_every_finding_follows_as_a_line(report: Report) -> None:
    message = "MailConsumer has no method 'mail_sent' for event type 'mail.sent'; did you mean 'mail_send'?"
    breaks = "'mail.send' refuses events that it used to accept"
    assert render(report, "github").splitlines() == [
        f"::error file=channels.yaml,line=7,col=7,endLine=7,endColumn=16,title=channelmap handler-missing::{message}",
        f"::warning file=channels.yaml,line=6,col=18,endLine=6,endColumn=35,title=channelmap breaks-senders::{breaks}",
        "::notice file=channels.yaml,title=channelmap deploy-order::deploy the senders first",
        *map(str, report.diagnostics),
    ]


def test_annotations_are_limited_to_the_number_that_github_shows() -> None:
    findings = [
        replace(A_FINDING, severity=severity, message=f"number {number}")
        for number in range(12)
        for severity in (Severity.INFO, Severity.WARNING, Severity.ERROR)
    ]
    written = lines(*findings)
    kinds = [line.split(" ")[0] for line in written if line.startswith("::")]
    assert kinds == ["::error"] * 10 + ["::warning"] * 10 + ["::notice"] * 10
    assert written[30:] == [str(finding) for finding in findings]


def test_a_message_cannot_end_its_command_or_begin_another() -> None:
    nasty = "100%\r\n::error::x %0A ##[warning] a:b,c\x1b"
    finding = replace(A_FINDING, location=Location("a,b:c%\n.yaml"), message=nasty, hint="h")
    command, line = lines(finding)
    assert command == (
        "::error file=a%2Cb%3Ac%25%0A.yaml,title=channelmap wrong-shape"
        "::100%25%0D%0A::error::x %250A ##[warning] a:b,c\\x1b; h"
    )
    assert line == ("a,b:c%\\n.yaml: error[wrong-shape] 100%\\r\\n::error::x %0A # #[warning] a:b,c\\x1b; h")


def test_a_path_that_looks_like_a_command_is_escaped() -> None:
    assert lines(replace(A_FINDING, location=Location(" ::debug::x")))[1].startswith("./ ::debug::x: error")


def test_paths_are_relative_to_the_root_of_the_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project))
    (project / "backend").mkdir()
    monkeypatch.chdir(project / "backend")
    assert lines(A_FINDING)[0].startswith("::error file=backend/channels.yaml,line=3,")
