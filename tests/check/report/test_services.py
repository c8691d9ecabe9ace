"""SARIF, JUnit and GitLab's Code Quality: valid by their standards, and usable by the services."""

import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import xmlschema

from channelmap.check.pages import page
from channelmap.check.report import Checked, Report, render
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic, Location

SCHEMAS = Path(__file__).parent / "schemas"
JUNIT = xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")
A_FINDING = Diagnostic(Location("channels.yaml", 3, 1), Code.WRONG_SHAPE, "expected text")


@cache
def sarif_validator() -> jsonschema.Draft4Validator:
    schema = json.loads((SCHEMAS / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


def sarif(report: Report) -> Any:
    """Render a report as SARIF, validate it by the standard, and return its run."""
    document = json.loads(render(report, "sarif"))
    sarif_validator().validate(document)
    return document["runs"][0]


def junit(report: Report) -> ET.Element:
    """Render a report as JUnit XML, validate it by Jenkins' schema, and return it."""
    text = render(report, "junit")
    JUNIT.validate(text)
    return ET.fromstring(text)


def gitlab(report: Report) -> Any:
    return json.loads(render(report, "gitlab"))


def found(path: str, line: int = 0) -> Report:
    return Report((), (replace(A_FINDING, location=Location(path, line)),))


def fingerprints_of(service: str, *diagnostics: Diagnostic) -> list[str]:
    report = Report((), diagnostics)
    if service == "gitlab":
        return [issue["fingerprint"] for issue in gitlab(report)]
    return [result["partialFingerprints"]["finding/v1"] for result in sarif(report)["results"]]


def test_a_sarif_result_has_a_location_a_level_and_related_locations(report: Report) -> None:
    run = sarif(report)
    assert run["columnKind"] == "unicodeCodePoints"
    assert [result["level"] for result in run["results"]] == ["note", "warning", "error"]
    order, breaks, missing = run["results"]
    assert order["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "channels.yaml"}}}]
    assert breaks["message"]["text"].endswith('\nevent: {"type": "mail.send", "to": null}')
    assert missing["message"]["text"].endswith("'mail.sent'; did you mean 'mail_send'?")
    assert missing["locations"][0]["physicalLocation"]["region"] == {"startLine": 7, "startColumn": 7, "endColumn": 16}
    assert [other["message"]["text"] for other in missing["relatedLocations"]] == [
        "the consumer",
        "it is named here",
        "the nearest handler",
    ]


def test_each_result_points_to_the_rule_of_its_code(report: Report) -> None:
    run = sarif(report)
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert [rule["id"] for rule in rules] == ["breaks-senders", "deploy-order", "handler-missing"]


@pytest.mark.parametrize("code", [*Code])
def test_the_rule_of_a_code_is_its_page(code: Code) -> None:
    rule = sarif(Report((), (replace(A_FINDING, code=code),)))["tool"]["driver"]["rules"][0]
    assert rule["shortDescription"]["text"] == page(code).summary
    assert rule["help"]["markdown"] == page(code).text
    # GitHub cuts the text there; a page must not begin with its example.
    assert 20 < len(rule["fullDescription"]["text"]) <= 1024
    assert not rule["fullDescription"]["text"].endswith(":")


def test_files_are_uris_relative_to_the_working_directory(project: Path) -> None:
    uris = {
        "my files/größe#1.yaml": "my%20files/gr%C3%B6%C3%9Fe%231.yaml",
        "a:b.yaml": "a%3Ab.yaml",
        "no utf-8 \udcff.yaml": "no%20utf-8%20%FF.yaml",
        "./schemas/../channels.yaml": "channels.yaml",
        str(project / "sub" / "c.yaml"): "sub/c.yaml",
        "../other/c.yaml": (project.parent / "other" / "c.yaml").as_uri(),
        "/elsewhere/a b.yaml": "file:///elsewhere/a%20b.yaml",
    }
    for path, uri in uris.items():
        [result] = sarif(found(path, 1))["results"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_files_are_uris_relative_to_the_top_of_the_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.parent))
    [result] = sarif(found("channels.yaml", 1))["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == f"{project.name}/channels.yaml"


@pytest.mark.parametrize(("service", "variable"), [("sarif", "GITHUB_WORKSPACE"), ("gitlab", "CI_PROJECT_DIR")])
def test_equal_findings_in_different_directories_have_different_fingerprints(
    project: Path, monkeypatch: pytest.MonkeyPatch, service: str, variable: str
) -> None:
    monkeypatch.setenv(variable, str(project))
    names = set()
    for directory in ("orders", "mail"):
        (project / directory).mkdir()
        monkeypatch.chdir(project / directory)
        names |= set(fingerprints_of(service, A_FINDING))
    assert len(names) == 2


@pytest.mark.parametrize("service", ["sarif", "gitlab"])
def test_a_fingerprint_does_not_change_with_the_line_and_is_unique(service: str) -> None:
    fingerprints = partial(fingerprints_of, service)
    twice = replace(A_FINDING, message="'a' is declared twice; first at 3:5")
    moved = replace(twice, location=Location("channels.yaml", 90, 7), message="'a' is declared twice; first at 80:5")
    other_file = replace(twice, location=Location("other.yaml", 3, 1))
    other_words = replace(twice, message="'b' is declared twice; first at 3:5")
    before = fingerprints(twice, other_file, other_words, replace(twice, code=Code.DUPLICATE_KEY), moved)
    assert len(set(before)) == 5
    assert fingerprints(moved) == before[:1]
    assert fingerprints(moved, twice) == [before[0], before[4]]


def test_junit_is_valid_in_any_encoding() -> None:
    text = render(Report((Checked("größe/channels.yaml"),), ()), "junit")
    assert text.isascii()
    assert junit(Report((Checked("größe/channels.yaml"),), ()))[0].get("name") == "größe/channels.yaml"


def test_junit_has_a_case_for_each_event_type_which_fails_when_there_is_an_error_about_it(report: Report) -> None:
    other = Report((*report.checked, Checked("other.yaml", (("a", "b"),))), report.diagnostics)
    ours, theirs = junit(other)
    assert (ours.get("name"), ours.get("tests"), ours.get("failures")) == ("channels.yaml", "4", "1")
    assert (theirs.get("name"), theirs.get("tests"), theirs.get("failures")) == ("other.yaml", "1", "0")
    cases = {(case.get("classname"), case.get("name")): [part.tag for part in case] for case in ours}
    assert cases == {
        ("mail", "mail.send"): ["system-out"],
        ("mail", "mail.sent"): ["failure"],
        ("sms", "sms.send"): [],
        ("channels.yaml", "deploy-order"): ["system-out"],
    }
    [failure] = ours.iter("failure")
    assert failure.get("type") == "handler-missing"
    assert failure.get("message", "").endswith("did you mean 'mail_send'?")
    assert failure.text == str(report.diagnostics[2])


def test_one_junit_failure_lists_all_errors_of_a_case() -> None:
    errors = [replace(A_FINDING, message=f"{name} is wrong") for name in ("one", "two", "three")]
    [[case]] = junit(Report((Checked("channels.yaml"),), tuple(errors)))
    assert [case.get("classname"), case.get("name")] == ["channels.yaml", "wrong-shape"]
    assert case[0].get("message") == "one is wrong (and 2 more)"
    assert (case[0].text or "").splitlines() == [str(error) for error in errors]


def test_a_finding_in_another_file_belongs_to_the_contract_that_declares_its_event_type() -> None:
    checked = (Checked("one.yaml", (("a", "x"),)), Checked("two.yaml", (("b", "y"),)))
    schema = replace(A_FINDING, location=Location("y.json", 1, 1), channel="b", event_type="y")
    sender = replace(A_FINDING, location=Location("app.py", 1, 1), code=Code.SENDER_UNKNOWN_CHANNEL)
    suites = {suite.get("name"): suite for suite in junit(Report(checked, (schema, sender)))}
    assert {name: suite.get("failures") for name, suite in suites.items()} == {
        "one.yaml": "0",
        "two.yaml": "1",
        "app.py": "1",
    }


def test_a_run_without_event_types_still_has_a_case_that_passes() -> None:
    [[case]] = junit(Report((Checked("channels.yaml"),), ()))
    assert [*case] == []


def test_characters_that_xml_forbids_are_escaped() -> None:
    nasty = "\x00\x1b\ufffe]]>&<\"'\r\n"
    finding = replace(A_FINDING, message=nasty, channel=nasty, event_type=nasty)
    [[case]] = junit(Report((Checked("channels.yaml", ((nasty, nasty),)),), (finding,)))
    assert case.get("name") == case[0].get("message") == "\\x00\\x1b\\ufffe]]>&<\"'\\r\\n"


def test_gitlab_gets_one_issue_for_each_finding(report: Report) -> None:
    order, breaks, missing = gitlab(report)
    assert [issue["severity"] for issue in (order, breaks, missing)] == ["info", "minor", "major"]
    assert missing.pop("fingerprint")
    assert missing == {
        "description": "MailConsumer has no method 'mail_sent' for event type 'mail.sent'; did you mean 'mail_send'?",
        "check_name": "handler-missing",
        "severity": "major",
        "location": {"path": "channels.yaml", "lines": {"begin": 7}},
    }
    assert order["location"]["lines"] == {"begin": 1}


def test_gitlab_paths_are_relative_to_the_root_of_the_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_PROJECT_DIR", str(project))
    (project / "backend").mkdir()
    monkeypatch.chdir(project / "backend")
    paths = [gitlab(found(path))[0]["location"]["path"] for path in ("./channels.yaml", "../app.py")]
    assert paths == ["backend/channels.yaml", "app.py"]


def test_without_findings_gitlab_gets_an_empty_list_and_sarif_a_run_without_results() -> None:
    fine = Report((Checked("channels.yaml", (("a", "b"),)),), ())
    assert gitlab(fine) == []
    assert sarif(fine)["results"] == []


def test_every_severity_has_its_level() -> None:
    findings = [replace(A_FINDING, severity=severity) for severity in Severity]
    report = Report((), tuple(findings))
    assert [result["level"] for result in sarif(report)["results"]] == ["error", "warning", "note"]
    assert [issue["severity"] for issue in gitlab(report)] == ["major", "minor", "info"]
