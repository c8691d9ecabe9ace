"""`event_for` returns a valid event, the same one each time."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from channelmap import EventRejected, UnknownChannel, load
from channelmap.testing import event_for, memory_layer
from channelmap.testing.generated import valid_events

CONTRACT = """\
version: 1
channels:
  orders:
    consumer: nowhere.Orders
    events:
      paid:
        schema:
          type: object
          properties: {id: {type: integer, minimum: 3}, method: {enum: [card, cash]}, note: {type: string}}
          required: [id, method]
        accepts:
          - {type: paid, id: 7, method: card, lines: [1]}
          - {type: paid, id: 8, method: cash, lines: [1]}
      moved: {schema: moved.json}
      ping: true
      never: {schema: {allOf: [{required: [a]}, {properties: {a: false}}]}}
"""
BOX = """\
{"type": "object", "required": ["kind", "box"], "properties": {
   "kind": {"const": "box"}, "box": {"type": "integer", "multipleOf": 5, "exclusiveMinimum": 0}}}"""
STREET = """\
{"type": "object", "required": ["kind", "lines"], "properties": {
   "kind": {"const": "street"},
   "lines": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}}}"""
MOVED = f"""\
{{"type": "object", "required": ["to", "when", "code", "size"], "additionalProperties": false, "properties": {{
  "to": {{"oneOf": [{BOX}, {STREET}]}},
  "when": {{"type": "string", "format": "date-time"}},
  "code": {{"type": "string", "pattern": "^[A-Z]{{3}}-\\\\d+$"}},
  "size": {{"type": "number", "exclusiveMinimum": 0, "maximum": 1}}}}}}
"""


@pytest.fixture(autouse=True)
def contract(project: Path) -> None:
    (project / "channels.yaml").write_text(CONTRACT)
    (project / "moved.json").write_text(MOVED)


def test_it_is_the_first_example_of_the_contract() -> None:
    assert event_for("orders", "paid") == {"type": "paid", "id": 7, "method": "card", "lines": [1]}


def test_a_change_of_it_does_not_reach_the_contract() -> None:
    with memory_layer():
        event_for("orders", "paid")["lines"].append(2)
        assert event_for("orders", "paid")["lines"] == [1]


def test_fields_replace_those_of_the_example() -> None:
    assert event_for("orders", "paid", id=9, channel="x") == {
        "type": "paid", "id": 9, "method": "card", "lines": [1], "channel": "x",
    }  # fmt: skip


def test_without_an_example_it_is_made_from_the_schema_and_always_the_same() -> None:
    event = event_for("orders", "moved")
    assert load().channel("orders").judge(event) is None
    assert event == event_for("orders", "moved")
    assert event_for("orders", "ping") == {"type": "ping"}


def test_what_is_made_fits_the_fields() -> None:
    street = {"kind": "street", "lines": ["1 High Street"]}
    event = event_for("orders", "moved", to=street, code="ABC-1")
    assert (event["to"], event["code"]) == (street, "ABC-1")
    assert load().channel("orders").judge(event) is None


@pytest.mark.parametrize(
    ("event_type", "fields", "message"),
    [
        ("paid", {"id": "nine"}, r"\$.id expected integer, got string"),
        ("moved", {"weight": 1}, r"\$ does not allow 'weight'"),
        ("payd", {}, "did you mean 'paid'"),
    ],
)
def test_fields_that_make_it_invalid_are_rejected(event_type: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EventRejected, match=message):
        event_for("orders", event_type, **fields)


def test_a_misspelt_channel_is_an_error() -> None:
    with pytest.raises(UnknownChannel, match="did you mean 'orders'"):
        event_for("order", "paid")


def test_a_schema_without_a_valid_event_says_what_helps() -> None:
    with pytest.raises(ValueError, match="no valid event 'never' was found; add an example under 'accepts'"):
        event_for("orders", "never")


def test_hypothesis_is_needed_only_without_an_example(project: Path) -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from channelmap.testing import event_for\n"
        "print(event_for('orders', 'paid')['id'])\n"
        "try: event_for('orders', 'moved')\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "7\nevent_for() needs Hypothesis to make an event 'moved': pip install 'channelmap[testing]', "
        "or add an example under 'accepts'\n"
    )


SCHEMAS: dict[str, Any] = {
    "nullable": {"properties": {"a": {"type": ["string", "null"], "minLength": 3}}, "required": ["a"]},
    "recursive": {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["value"]}},
        "properties": {"tree": {"$ref": "#/$defs/node"}}, "required": ["tree"],
    },
    "map": {"properties": {"m": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2}},
            "required": ["m"]},
    "patterns": {"properties": {"m": {"patternProperties": {"^x-": {"type": "boolean"}}, "additionalProperties": False,
                                      "minProperties": 1}}, "required": ["m"]},
    "tuple": {"properties": {"t": {"prefixItems": [{"type": "integer"}, {"const": "x"}], "items": False,
                                   "minItems": 2}},
              "required": ["t"]},
    "unique": {"properties": {"u": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 3}},
               "required": ["u"]},
    "contains": {"properties": {"c": {"type": "array", "contains": {"const": 5}}}, "required": ["c"]},
    "condition": {"properties": {"country": {"enum": ["US", "FR"]}}, "required": ["country"],
                  "if": {"properties": {"country": {"const": "US"}}},
                  "then": {"required": ["zip"], "properties": {"zip": {"pattern": "^[0-9]{5}$"}}}},
    "one value": {"allOf": [{"required": ["a"], "properties": {"a": {"minimum": 2}}},
                       {"properties": {"a": {"type": "integer", "maximum": 2}}}]},
    "formats": {"properties": {name: {"type": "string", "format": name} for name in (
        "date", "date-time", "time", "uuid", "email", "ipv4", "ipv6", "uri")},
        "required": ["date", "date-time", "time", "uuid", "email", "ipv4", "ipv6", "uri"]},
    "long": {"properties": {"a": {"type": "string", "minLength": 1_500}}, "required": ["a"]},
    "steps": {"properties": {"a": {"type": "number", "multipleOf": 0.25, "minimum": 1}}, "required": ["a"]},
    "names": {"propertyNames": {"maxLength": 4}, "minProperties": 3, "additionalProperties": {"type": "null"}},
}  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_generated_events_are_valid_and_various(
    contract_file: Callable[..., Path], project: Path, schema: dict[str, Any]
) -> None:
    path = contract_file()
    (project / "job.json").write_text(json.dumps(schema))
    channel = load(path).channel("jobs")
    found = []

    @settings(
        database=None, max_examples=50, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None
    )
    @given(valid_events(channel, channel.events["job"]))
    def collect(event: dict[str, Any]) -> None:
        assert channel.judge(event) is None
        found.append(repr(event))

    collect()
    assert len(set(found)) > (10 if "allOf" not in schema else 0)
