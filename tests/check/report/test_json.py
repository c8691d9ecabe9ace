"""The format `json`, and its published schema."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from channelmap.check.report import Report, render
from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location

SCHEMA = json.loads(files("channelmap.check.report").joinpath("report.schema.json").read_text(encoding="utf-8"))


def written(report: Report) -> Any:
    """Render a report, validate it by the schema, and return it."""
    document = json.loads(render(report, "json"))
    Draft202012Validator(SCHEMA).validate(document)
    return document


def test_a_report_is_an_object_with_every_field(report: Report) -> None:
    document = written(report)
    assert document["version"] == 1
    assert document["summary"] == {
        "files": 1,
        "channels": 2,
        "event_types": 3,
        "errors": 1,
        "warnings": 1,
        "infos": 1,
    }
    assert document["checked"][0]["file"] == "channels.yaml"
    assert {"channel": "sms", "event_type": "sms.send"} in document["checked"][0]["cases"]
    assert document["diagnostics"][1] == {
        "code": "breaks-senders",
        "severity": "warning",
        "message": "'mail.send' refuses events that it used to accept",
        "hint": None,
        "file": "channels.yaml",
        "line": 6,
        "column": 18,
        "end_line": 6,
        "end_column": 35,
        "related": [],
        "channel": "mail",
        "event_type": "mail.send",
        "witness": {"type": "mail.send", "to": None},
    }
    assert document["diagnostics"][2]["related"][0] == {
        "message": "the consumer",
        "file": "app.py",
        "line": 1,
        "column": 1,
        "end_line": 1,
        "end_column": 19,
    }


def test_unknown_fields_are_null(report: Report) -> None:
    order = written(report)["diagnostics"][0]
    absent = {"hint", "line", "column", "end_line", "end_column", "channel", "event_type", "witness"}
    assert {name for name, value in order.items() if value is None} == absent


def test_the_search_for_the_end_of_a_word_is_bounded(project: Path) -> None:
    (project / "c.yaml").write_text("k: " + "x" * 500_000)
    found = Diagnostic(Location("c.yaml", 1, 4), Code.WRONG_SHAPE, "wrong")
    assert written(Report((), (found,)))["diagnostics"][0]["end_column"] == 10_004


@pytest.mark.parametrize("witness", ["NaN", "1e999", "no JSON", "[" * 100_000, "1" * 5000])
def test_a_witness_that_is_not_standard_json_stays_text(witness: str) -> None:
    found = Diagnostic(Location("c.yaml"), Code.BREAKS_SENDERS, "breaks", witness=witness)
    assert written(Report((), (found,)))["diagnostics"][0]["witness"] == witness


def test_the_report_schema_is_valid_and_every_part_has_a_title_and_a_description() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    def parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
        inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        inner += [schema["items"]] if "items" in schema else []
        return [schema, *(part for one in inner for part in parts(one))]

    described = [part for part in parts(SCHEMA) if set(part) != {"$ref"}]
    assert len(described) > 20
    assert all({"title", "description"} <= set(part) for part in described)


def test_the_report_schema_rejects_unknown_fields(report: Report) -> None:
    validator = Draft202012Validator(SCHEMA)
    document = written(report)
    del document["diagnostics"][1]["hint"]
    document["diagnostics"][2]["related"][0]["end"] = 1
    assert {error.validator for error in validator.iter_errors(document)} == {"required", "unevaluatedProperties"}
