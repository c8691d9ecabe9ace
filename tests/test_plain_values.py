"""An event may hold instances of subclasses of JSON's types: each is taken as its value; what has none is rejected."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import types
import uuid
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from django.db import models
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from channelmap.asgi import Event, Scope, Send, offer
from channelmap.contract import Channel, EventType
from channelmap.errors import EventRejected, Violation
from channelmap.gate import Gate
from channelmap.validation import Validator

SCHEMA = {"properties": {"id": {"type": "integer"}}}
CHANNEL = Channel("jobs", "a.B", {"job": EventType("job", SCHEMA, Validator(SCHEMA)), "free": EventType("free")})
both_types = pytest.mark.parametrize("event_type", ["job", "free"])


class Kind(models.TextChoices):  # type: ignore[misc]  # Django ships no types
    JOB = "job", "A job"
    FREE = "free", "Whatever there is"


class Level(models.IntegerChoices):  # type: ignore[misc]
    LOW = 1, "rather low"


class Color(enum.StrEnum):
    RED = "red"


class OldColor(str, enum.Enum):  # noqa: UP042  (the way before StrEnum)
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Bits(enum.IntFlag):
    BOTH = 3


class Shout(str):
    """Shows itself as something else wherever it can."""

    __slots__ = ()

    def __str__(self) -> str:
        return "OTHER"

    __repr__ = __str__

    def __iter__(self) -> Iterator[str]:
        return iter("OTHER")

    def isascii(self) -> bool:
        return True

    def encode(self, *_: Any) -> bytes:
        return b"OTHER"


class Whole(int):
    def __int__(self) -> int:
        return 99

    __index__ = __int__
    __repr__ = __str__ = lambda self: "OTHER"


class Share(float):
    def __float__(self) -> float:
        return 99.0

    __repr__ = __str__ = lambda self: "OTHER"


class Mapping(dict[Any, Any]):
    def items(self) -> Any:
        return {"other": 1}.items()

    def get(self, *arguments: Any) -> Any:
        return "other"

    def __iter__(self) -> Iterator[Any]:
        return iter(["other"])

    def __len__(self) -> int:
        return 0


class Items(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(["other"])

    def __len__(self) -> int:
        return 0


Point = namedtuple("Point", "x y")  # noqa: PYI024  (without types it is the same)


def admitted(event: Any) -> Any:
    result, rejected = CHANNEL.admit(event)
    assert rejected is None
    assert CHANNEL.judge(event) is None
    return result


@both_types
@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Kind.JOB, "job"),
        (Color.RED, "red"),
        (OldColor.RED, "red"),
        (mark_safe("<b>ü</b>"), "<b>ü</b>"),
        (Shout("quiet"), "quiet"),
        (Level.LOW, 1),
        (Number.ONE, 1),
        (Bits.BOTH, 3),
        (Whole(5), 5),
        (Share(0.5), 0.5),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(int, a=1), {"a": 1}),
        (Mapping(a=Mapping(b=Kind.JOB)), {"a": {"b": "job"}}),
        (Items([1, Color.RED, True, None]), [1, "red", True, None]),
        (Point(1, Number.ONE), (1, 1)),
        ({Kind.JOB: 1, mark_safe("é"): 2, Shout("key"): 3}, {"job": 1, "é": 2, "key": 3}),
        ([Kind.JOB] * 50, ["job"] * 50),
        ([*range(50), Level.LOW], [*range(50), 1]),
        (Items(range(50)), [*range(50)]),
        (Items([Items(range(50))] * 50), [[*range(50)]] * 50),
    ],
)
def test_an_instance_of_a_subclass_travels_as_its_value(event_type: str, value: Any, plain: Any) -> None:
    for wrap in (lambda inner: inner, lambda inner: [{"deep": inner}]):
        event = {"type": event_type, "v": wrap(value), "id": True if event_type == "free" else 1}
        # repr tells a plain value from any other, and shows the order of keys.
        assert repr(admitted(event)) == repr({**event, "v": wrap(plain)})


def test_the_event_and_its_type_may_be_instances_of_subclasses() -> None:
    event = Mapping({Shout("type"): Kind.JOB, "id": Level.LOW})
    assert repr(admitted(event)) == "{'type': 'job', 'id': 1}"


class Unhashable(str):
    """Raises something of its own where a dict is asked for it."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


def test_a_type_whose_hash_raises_is_taken_as_its_value() -> None:
    assert repr(admitted({"type": Unhashable("job"), "id": 1})) == "{'type': 'job', 'id': 1}"


@both_types
def test_an_event_of_plain_values_is_not_copied(event_type: str) -> None:
    for value in (1, "é", [1, {"a": (1.5, None)}], list(range(50))):
        event = {"type": event_type, "v": value}
        assert admitted(event) is event


def test_the_event_of_the_sender_is_not_changed() -> None:
    inner = {Kind.JOB: Level.LOW}
    event = {"type": Kind.JOB, "v": [inner]}
    admitted(event)
    assert type(event["type"]) is Kind
    assert event["v"] == [inner]
    assert [*map(type, [*inner, *inner.values()])] == [Kind, Level]


def test_the_schema_judges_the_value_of_a_subclass() -> None:
    copy, rejected = CHANNEL.admit({"type": "job", "id": Kind.JOB})
    assert repr(copy) == "{'type': 'job', 'id': 'job'}"
    assert rejected is not None
    assert (rejected.code, rejected.violations) == (
        "schema-mismatch", (Violation("$.id", "type", "expected integer, got string"),),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["jab", Shout("jab"), 5, None, Number.ONE])
def test_a_type_that_is_not_declared_is_rejected_by_its_value(name: Any) -> None:
    rejected = CHANNEL.judge(Mapping(type=name))
    assert rejected is not None
    if isinstance(name, str):
        assert (type(rejected.type), rejected.type, rejected.code) == (str, "jab", "unknown-type")
        assert "did you mean 'job'?" in str(rejected)
    else:
        assert rejected.code == "missing-type"


@dataclasses.dataclass
class Person:
    name: str


class Model:
    """Has of Pydantic's models what tells them."""

    def model_dump(self, mode: str) -> str:
        return mode


class Plain(enum.Enum):
    ONE = "s3cret"


@both_types
@pytest.mark.parametrize(
    ("value", "got"),
    [
        (dt.date(2026, 1, 1), "date; send `value.isoformat()`"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "datetime; send `value.isoformat()`"),
        (dt.time(1), "time; send `value.isoformat()`"),
        (dt.timedelta(1), "timedelta; send `value.total_seconds()`"),
        (decimal.Decimal(1), "Decimal; send `str(value)`"),
        (fractions.Fraction(1), "Fraction; send `str(value)`"),
        (uuid.UUID(int=1), "UUID; send `str(value)`"),
        (PurePosixPath("a"), "PurePosixPath; send `str(value)`"),
        (gettext_lazy("s3cret"), "__proxy__; send `str(value)`"),
        ({"s3cret"}, "set; send `list(value)`"),
        (frozenset({"s3cret"}), "frozenset; send `list(value)`"),
        (deque(["s3cret"]), "deque; send `list(value)`"),
        (types.MappingProxyType({"s3cret": 1}), "mappingproxy; send `dict(value)`"),
        (Plain.ONE, "Plain; send `value.value`"),
        (Person("s3cret"), "Person; send `dataclasses.asdict(value)`"),
        (Model(), 'Model; send `value.model_dump(mode="json")`'),
        (UserDict({"s3cret": 1}), "UserDict; send its content as dict, list, text or number"),
        (SimpleLazyObject(lambda: "s3cret"), "SimpleLazyObject; send its content as dict, list, text or number"),
        (Person, "type; send its content as dict, list, text or number"),
    ],
)
def test_a_value_without_a_json_type_is_rejected_with_its_path_and_a_cure(
    event_type: str, value: Any, got: str
) -> None:
    message = f"expected a JSON value, got {got}"
    for event in (
        {"type": event_type, "a": {"b": value}},
        {"type": event_type, "first": Kind.JOB, "a": OrderedDict(b=value)},
    ):
        sent, rejected = CHANNEL.admit(event)
        assert sent is event
        assert rejected is not None
        assert (rejected.code, rejected.violations) == ("unsupported-value", (Violation("$.a.b", "json", message),))
        assert str(rejected).endswith(f"$.a.b {message}")
        assert "s3cret" not in str(rejected)


class Raw(bytes):
    __slots__ = ()


@pytest.mark.parametrize("value", [bytearray(b"x"), memoryview(b"x"), Raw(b"x")])
def test_bytes_of_another_type_are_rejected_with_the_cure_for_their_event_type(value: Any) -> None:
    for event_type, cure in (("job", "base64.b64encode(value).decode()"), ("free", "bytes(value)")):
        rejected = CHANNEL.judge({"type": event_type, "a": [value]})
        message = f"expected a JSON value, got {type(value).__name__}; send `{cure}`"
        assert rejected is not None
        assert rejected.violations == (Violation("$.a[0]", "json", message),)
    assert repr(admitted({"type": "free", "a": b"x", "b": Kind.JOB})) == "{'type': 'free', 'a': b'x', 'b': 'job'}"


class Numbered(str):
    """A text whose hash is its own."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


def nested(depth: int) -> Any:
    value: Any = Kind.JOB
    for _ in range(depth):
        value = OrderedDict(a=value)
    return value


@both_types
@pytest.mark.parametrize(
    ("value", "violation"),
    [
        (Share("nan"), Violation("$.v", "json", "is not a finite number")),
        ([0.5, Share("-inf")], Violation("$.v[1]", "json", "is not a finite number")),
        (Whole(2**64), Violation("$.v", "json", "is an integer beyond 64 bits")),
        (Items([Whole(-(2**70))]), Violation("$.v[0]", "json", "is an integer beyond 64 bits")),
        (Shout("\ud800"), Violation("$.v", "json", "holds half of a surrogate pair, which is not text")),
        (Mapping({1: 2}), Violation("$.v", "json", "has a key that is not text but int")),
        ({Number.ONE: 2}, Violation("$.v", "json", "has a key that is not text but Number")),
        ({Shout("\ud800"): 2}, Violation("$.v", "json", "has a key with half of a surrogate pair, which is not text")),
        ({"a": 1, Numbered("a"): 2}, Violation("$.v", "json", "has two keys that are the same text")),
        (nested(100), Violation("$.v" + 99 * ".a", "json", "is nested more than 100 levels deep")),
    ],
)
def test_the_value_of_a_subclass_is_held_to_the_rules_of_plain_values(
    event_type: str, value: Any, violation: Violation
) -> None:
    rejected = CHANNEL.judge({"type": event_type, "first": Kind.JOB, "v": value})
    assert rejected is not None
    assert (rejected.code, rejected.violations) == ("unsupported-value", (violation,))


def test_as_many_levels_as_plain_values_may_have_pass() -> None:
    assert CHANNEL.judge({"type": "free", "v": nested(99)}) is None


def test_an_event_that_contains_itself_is_rejected_in_time() -> None:
    itself = Items([Kind.JOB])
    itself.extend([itself] * 50)
    rejected = CHANNEL.judge({"type": "free", "v": itself})
    assert rejected is not None
    assert rejected.violations[0].message == "is nested more than 100 levels deep"


@both_types
def test_the_reserved_key_is_rejected_as_a_subclass_too(event_type: str) -> None:
    for key in (mark_safe("__asgi_channel__"), Numbered("__asgi_channel__")):
        rejected = CHANNEL.judge({"type": event_type, key: 1})
        assert rejected is not None
        assert "reserved for layers" in rejected.violations[0].message


def test_a_type_that_is_hidden_behind_another_key_is_not_judged_in_its_place() -> None:
    for event in ({"type": "job", Numbered("type"): "free"}, {Numbered("type"): "free", "type": "job"}):
        rejected = CHANNEL.judge(event)
        assert isinstance(rejected, EventRejected)
        assert rejected.violations == (Violation("$", "json", "has two keys that are the same text"),)


def test_the_gate_hands_on_plain_values_from_a_server_that_has_further_events_at_hand() -> None:
    events: list[Event] = [{"type": Kind.JOB, "id": Level.LOW}, OrderedDict(type=Kind.FREE)]
    seen = []

    async def receive() -> Event:
        return events[0]

    offer(receive, lambda: events[1])

    async def application(scope: Scope, receive: Any, send: Send) -> None:
        seen.extend([await receive(), receive.at_hand()])

    async def send(message: Event) -> None:
        raise AssertionError(message)

    asyncio.run(Gate(CHANNEL, application)({}, receive, send))
    assert repr(seen) == "[{'type': 'job', 'id': 1}, {'type': 'free'}]"
