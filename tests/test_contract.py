"""The model's verdicts: which code, in which order, with what help, and never an exception."""

import dataclasses
from typing import Any

import pytest

from channelmap.contract import Channel, EventType
from channelmap.errors import EventRejected, Violation
from channelmap.terms import Limits, Service
from channelmap.validation import Validator, with_type

SCHEMA = {"properties": {"id": {"type": "integer"}}, "required": ["id"], "additionalProperties": False}
CHANNEL = Channel(
    "images",
    "media.consumers.Images",
    {
        "image.made": EventType("image.made", SCHEMA, Validator(with_type(SCHEMA))),
        "ping": EventType("ping"),
    },
)


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one.args == other.args


def test_an_event_that_fits_is_admitted() -> None:
    assert CHANNEL.judge({"type": "image.made", "id": 1}) is None


@pytest.mark.parametrize("event", [{}, {"type": None}, {"type": 5}, {"type": []}, {"id": 1}, None, [], "ping", b"\xff"])
def test_an_event_without_a_type_is_rejected(event: Any) -> None:
    assert same(CHANNEL.judge(event), EventRejected("images", None, "missing-type"))


def test_an_undeclared_type_is_rejected_with_a_suggestion() -> None:
    expected = EventRejected("images", "image.mode", "unknown-type", hint="did you mean 'image.made'?")
    assert same(CHANNEL.judge({"type": "image.mode"}), expected)


def test_an_event_that_breaks_its_schema_is_rejected_with_the_reasons() -> None:
    expected = EventRejected(
        "images",
        "image.made",
        "schema-mismatch",
        [
            Violation("$.id", "type", "expected integer, got string"),
            Violation("$", "additionalProperties", "does not allow 'idd'; did you mean 'id'?"),
        ],
    )
    assert same(CHANNEL.judge({"type": "image.made", "id": "1", "idd": 2}), expected)


def test_a_value_that_is_not_json_is_rejected_before_the_schema_is_asked() -> None:
    expected = EventRejected(
        "images",
        "image.made",
        "unsupported-value",
        [Violation("$.id", "json", "expected a JSON value, got bytes")],
    )
    assert same(CHANNEL.judge({"type": "image.made", "id": b"1"}), expected)


def test_without_a_schema_only_the_type_counts() -> None:
    assert CHANNEL.judge({"type": "ping", "at": b"anything", 5: float("nan")}) is None


def test_the_model_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CHANNEL.name = "other"  # type: ignore[misc]
    assert (CHANNEL.limits, CHANNEL.service) == (Limits(), Service())
