"""The verdicts of a channel: codes, violations, hints, and never an exception."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from channelmap.contract import Channel, EventType
from channelmap.errors import EventRejected, Violation
from channelmap.limits import Limits, Service
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


def test_a_value_that_is_not_json_is_rejected_without_asking_the_schema() -> None:
    expected = EventRejected(
        "images",
        "image.made",
        "unsupported-value",
        [Violation("$.id", "json", "expected a JSON value, got bytes; send `base64.b64encode(value).decode()`")],
    )
    assert same(CHANNEL.judge({"type": "image.made", "id": b"1"}), expected)


@pytest.mark.parametrize("value", [b"anything", [b"in", {"side": b""}], 1.5, "é", [None, True], -(2**63), 2**64 - 1])
def test_without_a_schema_json_values_and_bytes_pass(value: Any) -> None:
    assert CHANNEL.judge({"type": "ping", "at": value}) is None


@pytest.mark.parametrize(
    ("more", "violation"),
    [
        ({"at": float("nan")}, Violation("$.at", "json", "is not a finite number")),
        ({5: 1}, Violation("$", "json", "has a key that is not text but int")),
        (
            {"at": [{"to": {1, 2}}]},
            Violation("$.at[0].to", "json", "expected a JSON value, got set; send `list(value)`"),
        ),
        ({"at": 2**64}, Violation("$.at", "json", "is an integer beyond 64 bits")),
        ({"at": [-(2**63) - 1]}, Violation("$.at[0]", "json", "is an integer beyond 64 bits")),
        (
            {"__asgi_channel__": "x"},
            Violation("$", "json", "has the key '__asgi_channel__', which is reserved for layers"),
        ),
    ],
)
@pytest.mark.parametrize("base", [{"type": "ping"}, {"type": "image.made", "id": 1}])
def test_a_value_that_no_layer_can_carry_is_rejected_with_or_without_a_schema(
    base: dict[str, Any], more: dict[Any, Any], violation: Violation
) -> None:
    expected = EventRejected("images", base["type"], "unsupported-value", [violation])
    assert same(CHANNEL.judge(base | more), expected)


def test_an_event_nested_too_deeply_is_rejected_even_without_a_schema() -> None:
    value: Any = 1
    for _ in range(2_000):
        value = [value]
    rejected = CHANNEL.judge({"type": "ping", "at": value})
    assert rejected is not None
    assert (rejected.code, rejected.violations[0].message) == (
        "unsupported-value",
        "is nested more than 100 levels deep",
    )


def test_the_model_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CHANNEL.name = "other"  # type: ignore[misc]
    assert (CHANNEL.limits, CHANNEL.service) == (Limits(), Service())


@pytest.mark.parametrize(("value", "got"), [({"secret": "s3cret-payload"}, "object"), ("s3cret-payload", "string")])
def test_later_changes_of_the_event_do_not_change_its_rejection(value: Any, got: str) -> None:
    event: dict[str, Any] = {"type": "image.made", "id": value}
    rejected = CHANNEL.judge(event)
    event["id"] = 1
    event["more"] = 2

    assert rejected is not None
    first = str(rejected)
    event.clear()
    assert first == str(rejected)
    assert rejected.violations == (Violation("$.id", "type", f"expected integer, got {got}"),)


EVERY_KIND: list[Any] = [
    {"type": "image.made", "id": "s3cret-payload"},
    {"type": "image.made", "id": {"s3cret-payload"}},
    {"type": "image.mode", "id": "s3cret-payload"},
    {"id": "s3cret-payload"},
]


@pytest.mark.parametrize("event", EVERY_KIND)
@pytest.mark.parametrize("is_read_before", [True, False])
def test_copies_pickles_and_reprs_of_a_rejection_contain_its_message_but_not_the_event(
    event: Any, is_read_before: object
) -> None:
    def rejection() -> EventRejected:
        rejected = CHANNEL.judge(event)
        assert rejected is not None
        assert not is_read_before or str(rejected)
        return rejected

    words = str(rejection())
    pickled = pickle.dumps(rejection())
    assert b"s3cret" not in pickled
    for other in (pickle.loads(pickled), copy.copy(rejection()), copy.deepcopy(rejection())):
        assert same(other, rejection())
        assert (str(other), other.violations, other.hint) == (words, rejection().violations, rejection().hint)
    assert repr(rejection()) == f"EventRejected{rejection().args!r}"
    assert "s3cret" not in repr(rejection()) + words


def test_a_pickled_rejection_keeps_its_notes() -> None:
    rejected = CHANNEL.judge({"type": "image.made"})
    assert rejected is not None
    rejected.add_note("while the day was closed")

    assert pickle.loads(pickle.dumps(rejected)).__notes__ == ["while the day was closed"]


@pytest.mark.parametrize("length", [10, 100, 100_000])
def test_a_similar_type_is_suggested_only_for_an_unknown_type_of_similar_length(length: int) -> None:
    events = {f"event.number-{number}": EventType(f"event.number-{number}") for number in range(1_000)}
    rejected = Channel("many", "a.B", events).judge({"type": "event.nomber-77" + "x" * (length - 10)})

    assert rejected is not None
    assert rejected.hint == ("did you mean 'event.number-77'?" if length == 10 else "")
