"""The findings of a comparison, with their locations, as complete lines."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from channelmap.check.compare import compare, findings, read_baseline, release_of
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic
from channelmap.loader import load

OLD = """
channels:
  mail:
    consumer: a.B
    expiry: 60
    events:
      send:
        schema:
          type: object
          required: [to]
          properties:
            to: {type: string}
            cc: {type: string}
            kind: {enum: [a, b]}
            size: {$ref: '#/$defs/size'}
          $defs:
            size: {properties: {width: {type: integer}, height: {type: integer, minimum: 0}}}
"""
NEW = """
channels:
  mail:
    consumer: a.B
    expiry: 60
    events:
      send:
        schema:
          type: object
          required:
            - to
            - subject
          properties:
            to: {type: [string, 'null']}
            ccs: {type: string}
            kind:
              enum: [a, c]
            subject: {type: string}
            size: {$ref: '#/$defs/size'}
          $defs:
            size:
              properties:
                width: {type: integer}
                height:
                  type: integer
                  minimum: 1
"""


@pytest.fixture
def compared(project: Path) -> Callable[..., list[Diagnostic]]:
    """Compare two texts of a contract, without their first two lines, and return the findings."""

    def found(old: str, new: str, **options: bool) -> list[Diagnostic]:
        for name, text in (("old", old), ("new", new)):
            (project / name).mkdir(exist_ok=True)
            (project / name / "channels.yaml").write_text(f"version: 1\nlayer: memory://{text}")
        contract = load("new/channels.yaml")
        (release,) = read_baseline("old", "new/channels.yaml")
        comparison = compare(release, release_of(contract, "new"), **options)
        return list(findings([comparison], contract))

    return found


Compared = Callable[..., list[Diagnostic]]


def lines(found: list[Diagnostic]) -> list[str]:
    return [str(each).removeprefix("new/channels.yaml:") for each in found]


def test_each_change_is_reported_at_its_location(compared: Compared) -> None:
    assert lines(compared(OLD, NEW)) == [
        "3:1: info[deploy-order] not deployable in one step: add the new shape beside the old one, or a new event type",
        (
            "13:15: error[breaks-senders] 'subject' is now required: "
            "events without it, which release 'old' accepted, are refused"
        ),
        (
            "14:11: warning[property-dropped] property 'cc' of release 'old' is gone: "
            "handlers may still read it; was it renamed to 'ccs'?"
        ),
        (
            '15:24: warning[breaks-consumers] \'type\' of \'to\' was "string", is ["null","string"]: '
            "values of another type are refused by consumers of release 'old'"
        ),
        (
            '18:21: warning[breaks-consumers] \'enum\' of \'kind\' was ["a","b"], is ["a","c"]: '
            "other values are refused by consumers of release 'old'"
        ),
        (
            '18:21: error[breaks-senders] \'enum\' of \'kind\' was ["a","b"], is ["a","c"]: '
            "other values, which release 'old' accepted, are refused"
        ),
        (
            "27:28: error[breaks-senders] 'minimum' of 'size.height' was 0, is 1: "
            "smaller numbers, which release 'old' accepted, are refused"
        ),
    ]


def test_a_proved_break_has_an_event_that_proves_it(compared: Compared) -> None:
    broken = [each for each in compared(OLD, NEW) if each.code == "breaks-senders"]
    assert len({each.witness for each in broken}) == 3
    for each in broken:
        assert (each.channel, each.event_type, each.severity) == ("mail", "send", Severity.ERROR)
        event = json.loads(each.witness)
        before, after = (
            load(f"{name}/channels.yaml").channel("mail").events["send"].validator for name in ("old", "new")
        )
        assert before is not None
        assert after is not None
        assert before.is_valid(event)
        assert not after.is_valid(event)


ONE = "\nchannels:\n  mail: {consumer: a.B, events: {send: {schema: {properties: {x: {type: integer}}}}}%s}\n"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (ONE, ["3:1: info[deploy-order] senders and consumers may be deployed in any order"]),
        (
            ONE.replace("mail", "post"),
            [
                ("3:1: error[channel-removed] channel 'mail' of release 'old' is gone: "
                "no worker takes the events sent to it; was it renamed to 'post'?"),
                ("3:1: info[deploy-order] not deployable in one step: "
                "add the new shape beside the old one, or a new event type"),
                "4:3: info[channel-added] channel 'post' is new since release 'old'",
            ],
        ),
        (
            ONE.replace("send", "ship"),
            [
                ("3:1: info[deploy-order] not deployable in one step: "
                "add the new shape beside the old one, or a new event type"),
                ("4:25: error[event-type-removed] event type 'send' is gone: "
                "its events, which release 'old' accepted, are refused; was it renamed to 'ship'?"),
                ("4:34: info[event-type-added] event type 'ship' is new: "
                "its events are refused by consumers of release 'old'"),
            ],
        ),
        (
            ONE.replace("send: {schema", "sent: {schema").replace("integer", "string"),
            [
                ("3:1: info[deploy-order] not deployable in one step: "
                "add the new shape beside the old one, or a new event type"),
                ("4:25: error[event-type-removed] event type 'send' is gone: "
                "its events, which release 'old' accepted, are refused; was it renamed to 'sent'?"),
                ("4:34: info[event-type-added] event type 'sent' is new: "
                "its events are refused by consumers of release 'old'"),
            ],
        ),
        (
            ONE.replace("send:", "other: {}, send:"),
            [
                "3:1: info[deploy-order] deploy consumers first, then senders",
                ("4:34: info[event-type-added] event type 'other' is new: "
                "its events are refused by consumers of release 'old'"),
            ],
        ),
        (
            ONE.replace("x: {type: integer}", "x: {type: integer, minimum: 3}"),
            [
                ("3:1: info[deploy-order] deploy senders first, wait until nothing old is queued "
                "(events wait forever here), then deploy consumers"),
                ("4:91: error[breaks-senders] 'x' has now 'minimum' 3: "
                "smaller numbers, which release 'old' accepted, are refused"),
            ],
        ),
        (
            ONE.replace("x: {type: integer}", "x: {}"),
            [
                "3:1: info[deploy-order] deploy consumers first, then senders",
                ("4:63: warning[breaks-consumers] 'x' has no longer 'type' \"integer\": "
                "values of another type are refused by consumers of release 'old'"),
            ],
        ),
        (
            ONE.replace("{schema: {properties: {x: {type: integer}}}}", "{}"),
            [
                "3:1: info[deploy-order] deploy consumers first, then senders",
                ("4:34: warning[breaks-consumers] 'x' is no longer declared: "
                "events with another value of it are refused by consumers of release 'old'"),
            ],
        ),
    ],
    ids=["nothing", "a channel", "a type renamed", "a type near", "a type added", "narrower", "wider", "no schema"],
)  # fmt: skip
def test_an_edit_has_these_findings(compared: Compared, new: str, expected: list[str]) -> None:
    assert lines(compared(ONE % "", new % "")) == expected


def test_a_removed_required_property_is_reported_once(compared: Compared) -> None:
    old = ONE.replace("{properties:", "{required: [x], properties:") % ""
    new = ONE.replace("x: {type: integer}", "y: {type: integer}") % ""
    codes = [each.code for each in compared(old, new) if each.event_type]
    assert codes == ["breaks-consumers"]


def test_the_longest_expiry_is_the_time_to_wait(compared: Compared) -> None:
    narrow = ONE.replace("x: {type: integer}", "x: {type: integer, minimum: 3}")
    assert "(at most 90 s)" in lines(compared(ONE % ", expiry: 60", narrow % ", expiry: 90"))[0]
    assert "(events wait forever here)" in lines(compared(ONE % ", expiry: 60", narrow % ""))[0]


def test_a_channel_that_now_enforces_its_schemas_is_reported(compared: Compared) -> None:
    found = lines(compared(ONE % ", validate: 'off'", ONE % ""))
    assert found[1] == (
        "4:3: error[likely-breaks-senders] 'validate' was 'off', is 'enforce': events that break a schema, "
        "which release 'old' accepted, are refused; let 'validate: warn' tell first which these are"
    )
    assert "senders first" in found[0]


def test_events_are_not_called_rejected_unless_the_channel_enforces_its_schemas(compared: Compared) -> None:
    narrow = ONE.replace("integer", "string") % ", validate: warn"
    found = [each for each in compared(ONE % ", validate: warn", narrow) if each.event_type]
    assert {each.severity for each in found} == {Severity.WARNING}
    assert [each.message.partition(": ")[2] for each in found] == [
        "values of another type are new to release 'old'",
        "values of another type, which release 'old' accepted, break the schema",
    ]


def test_an_undecided_comparison_is_a_warning_and_counts_as_a_break(compared: Compared) -> None:
    anchored = "{$defs: {a: {$anchor: here, type: %s}}, properties: {x: {$ref: '#here'}}}"
    texts = [ONE.replace("{properties: {x: {type: integer}}}", anchored % kind) for kind in ("integer", "string")]
    found = lines(compared(*(text.replace("%s", "") for text in texts)))
    assert "not deployable in one step" in found[0]
    reason = "the schema has references that cannot be written out"
    hint = "compare the schemas yourself, and add events under 'accepts'"
    assert [line.partition("undecided] ")[2] for line in found[1:]] == [
        f"it is undecided whether consumers of release 'old' accept new events: {reason}; {hint}",
        f"it is undecided whether the schema still accepts events of release 'old': {reason}; {hint}",
    ]


@pytest.mark.parametrize(
    ("before", "after", "location"),
    [
        ("oneOf: [{type: integer}, {type: string}]", "oneOf: [{type: [integer, string]}, {type: string}]", "4:49"),
        ("type: string", "type: string, if: {minLength: 1}, then: {maxLength: 2}", "4:85"),
        ("if: {minLength: 1}, then: {maxLength: 3}", "if: {minLength: 1}, then: {maxLength: 2}", "4:105"),
        ("not: {const: 3}", "not: {enum: [3, 4]}", "4:72"),
        ("contains: {type: number}", "contains: {type: integer}", "4:84"),
    ],
    ids=["no rule", "a condition", "in a condition", "not", "contains"],
)
def test_a_proved_change_has_its_location(compared: Compared, before: str, after: str, location: str) -> None:
    texts = [ONE.replace("type: integer", text) % "" for text in (before, after)]
    found = [each for each in compared(*texts) if each.code.endswith("breaks-senders")]
    assert [(each.code, bool(each.witness), str(each.location)) for each in found] == [
        ("breaks-senders", True, f"new/channels.yaml:{location}")
    ]


def test_a_change_in_another_file_is_reported_at_the_reference_to_it(compared: Compared, project: Path) -> None:
    for name, kind in (("old", "integer"), ("new", "string")):
        (project / name).mkdir()
        (project / name / "part.json").write_text(json.dumps({"properties": {"n": {"type": kind}}}))
        (project / name / "send.json").write_text('{\n"properties": {\n"part":\n{"$ref": "part.json"}}}')
    text = ONE.replace("{schema: {properties: {x: {type: integer}}}}", "send.json") % ""
    assert {str(each.location) for each in compared(text, text) if each.event_type} == {"new/send.json:3:1"}


def test_a_change_in_draft_07_is_reported_at_its_location(compared: Compared, project: Path) -> None:
    for name, kind in (("old", "integer"), ("new", "string")):
        (project / name).mkdir()
        head = '{"$schema": "http://json-schema.org/draft-07/schema#",\n"properties": {"list": {"items": [\n{\n'
        (project / name / "send.json").write_text(f'{head}"type": "{kind}"}}]}}}}}}')
    text = ONE.replace("{schema: {properties: {x: {type: integer}}}}", "send.json") % ""
    assert {str(each.location) for each in compared(text, text) if each.event_type} == {"new/send.json:4:9"}
