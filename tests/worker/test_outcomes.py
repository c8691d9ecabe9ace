"""A handler may say that its event is to be tried later, or never again."""

import logging
from typing import Any

import pytest

from channelmap import Reject, Retry
from channelmap.limits import RetryPolicy, Service
from tests.worker.scripted import LEASED, ScriptedLayer, Stage, job, jobs, lines, number_of, play

AT_MOST_ONCE = "but the channel is at-most-once: no event is delivered again; set 'delivery: at-least-once'"


def letters(layer: ScriptedLayer) -> list[tuple[Any, str, str, int, str]]:
    return [
        (number_of(letter), letter.code, letter.reason, letter.attempts, letter.traceback) for letter in layer.letters
    ]


def test_a_retry_comes_after_exactly_the_time_that_its_handler_names_and_counts_as_an_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=Retry(after=30, reason="the server is busy")), job(1)])
        await on.start({"a": Service(retry=RetryPolicy(attempts=3, delay=1, max_delay=5, jitter=1))})
        await on.turn(100)
        assert on.application.begun == [(0, 0), (0, 1), (30, 0), (60, 0)]
        assert [call.amount for call in on.layer.of("retry")] == [30, 30]
        assert letters(on.layer) == [(0, "failed", "the server is busy", 3, "")]
        assert not on.layer.out

    play(scene)
    assert lines(caplog) == [
        "channel 'a': 'job' will be retried: the server is busy; attempt 1 of 3, next in 30.0 s",
        "channel 'a': 'job' will be retried: the server is busy; attempt 2 of 3, next in 30.0 s",
        "channel 'a': 'job' failed: the server is busy; kept as a dead letter",
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING, logging.ERROR]
    assert not any(record.exc_info for record in caplog.records)
    record = caplog.records[0]
    assert (record.__dict__["channel"], record.__dict__["event_type"], record.__dict__["attempt"]) == ("a", "job", 1)


def test_a_retry_may_come_at_once() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=Retry(after=0))])
        await on.start()
        assert on.application.begun == [(0, 0)] * 3
        assert [call.amount for call in on.layer.of("retry")] == [0, 0]

    play(scene)


def test_a_retry_that_names_no_time_comes_after_the_back_off_of_the_channel(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=Retry())])
        await on.start({"a": LEASED})
        await on.turn(100)
        assert [call.amount for call in on.layer.of("retry")] == [1, 10]
        assert letters(on.layer) == [(0, "failed", "its handler raised Retry", 3, "")]

    play(scene)
    assert lines(caplog)[0] == (
        "channel 'a': 'job' will be retried: its handler raised Retry; attempt 1 of 3, next in 1.0 s"
    )


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Retry(after=30), f"its handler raised Retry, {AT_MOST_ONCE}"),
        (Retry(reason="the server is busy"), f"its handler raised Retry (the server is busy), {AT_MOST_ONCE}"),
    ],
)
def test_a_retry_on_an_at_most_once_channel_is_a_dead_letter_that_says_how_to_change_that(
    asked: Retry, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=asked), job(1)])
        await on.start({"a": Service()})
        await on.turn(100)
        assert on.layer.of("retry") == []
        assert on.application.begun == [(0, 0), (0, 1)]
        assert letters(on.layer) == [(0, "failed", reason, 1, "")]

    play(scene)
    assert lines(caplog) == [f"channel 'a': 'job' failed: {reason}; kept as a dead letter"]


@pytest.mark.parametrize("service", [LEASED, Service()])
def test_an_event_that_its_handler_rejects_is_a_dead_letter_at_once_with_one_line_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0), job(1, fails=Reject("the customer is gone")), *jobs(3, first=2)])
        await on.start({"a": service})
        await on.turn(100)
        assert on.application.seen == [0, 1, 2, 3, 4]
        assert letters(on.layer) == [(1, "rejected-by-handler", "the customer is gone", 1, "")]
        assert not on.layer.out

    play(scene)
    (record,) = caplog.records
    assert record.getMessage() == (
        "channel 'a': 'job' was given up by its handler: the customer is gone; kept as a dead letter"
    )
    assert (record.levelno, record.exc_info) == (logging.ERROR, None)


@pytest.mark.parametrize("outcome", [Retry(1, "first\n  second"), Reject("first\n  second")])
def test_a_reason_of_several_lines_is_one_line_in_the_log_and_in_the_letter(
    outcome: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=outcome)])
        await on.start()
        await on.turn(100)
        assert [letter.reason for letter in on.layer.letters] == ["first second"]

    play(scene)
    assert all("first second" in line for line in lines(caplog))


def wrapped() -> Exception:
    error = ValueError("boom")
    error.__cause__ = Reject("the customer is gone")
    return error


def changed() -> Exception:
    error = Retry()
    error.after = -1
    return error


class Bare(Reject):
    """Has a constructor that does not call that of its base class."""

    def __init__(self, customer: int) -> None:
        self.customer = customer


class Broken(Retry):
    """Has a reason that cannot be read."""

    @property
    def reason(self) -> str:  # type: ignore[override]
        raise KeyError("reason")

    def __init__(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (wrapped(), "ValueError: boom"),
        (changed(), "ValueError: Retry(after=…): expected 0 to 31,536,000 seconds (a year), got a negative number; "),
        (Bare(3), "ValueError: Reject(reason): expected a reason, got empty text; the dead letter says it"),
        (Broken(), "KeyError: 'reason'"),
    ],
)
def test_anything_else_that_a_handler_raises_is_a_failure(error: Exception, reason: str) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=error), job(1)])
        await on.start()
        await on.turn(100)
        (letter,) = on.layer.letters
        assert letter.code == "failed"
        assert letter.reason.startswith(reason)
        assert letter.attempts == 3
        assert letter.traceback
        assert 1 in on.application.done

    play(scene)


@pytest.mark.parametrize("outcome", [Retry(reason="too early"), Reject("too early")])
def test_an_instance_that_has_no_event_can_neither_retry_nor_reject_one(
    outcome: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        async def application(*_: Any) -> None:
            raise outcome

        on.application = application  # type: ignore[assignment]
        on.layer.fill("a", jobs(1))
        await on.start(burst=True)
        await on.finish()
        assert on.layer.waits("a") == [0]
        assert on.layer.letters == []

    play(scene)
    assert lines(caplog) == ["channel 'a': the application ended before it took an event: too early"] * 3


@pytest.mark.parametrize(
    ("script", "attributes"),
    [
        ({"fails": "boom"}, {}),
        ({"fails": "boom"}, {"attempt": 3}),
        ({"fails": Retry()}, {}),
        ({"fails": Reject("gone")}, {}),
        ({"rejected": "not declared", "code": "unknown-type"}, {}),
        ({}, {"attempt": 4}),
        ({"hangs": True}, {}),
    ],
)
def test_the_record_of_an_event_that_was_not_handled_names_the_event(
    script: dict[str, Any], attributes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.put("a", job(0, **script), raw_id=b"\x0a\x0b", **attributes)
        await on.start({"a": LEASED})
        await on.end(deadline=0)

    play(scene)
    (record,) = caplog.records
    assert fields_of(record) == ("a", "job", "0a0b", attributes.get("attempt", 1))


def fields_of(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(record.__dict__[name] for name in ("channel", "event_type", "event_id", "attempt"))


def test_the_record_of_something_unreadable_names_what_is_known(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.put("a", None, raw_id=7)
        await on.start({"a": Service()})
        on.layer.put("a", {"type": ["payload"], "rejected": "no type", "code": "missing-type"}, raw_id=8)
        await on.turn(0)

    play(scene)
    assert [fields_of(record) for record in caplog.records] == [("a", None, f"{n:016x}", 1) for n in (7, 8)]


def test_the_record_of_an_event_has_no_type_that_is_longer_than_people_read(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.put("a", {"type": "t" * 1_000_000, "rejected": "not declared", "code": "unknown-type"})
        await on.start({"a": Service()})

    play(scene)
    (record,) = caplog.records
    assert record.__dict__["event_type"] == "t" * 100 + "… (999,900 more characters)"
    assert record.__dict__["event_id"] is None


@pytest.mark.parametrize("verb", ["retry", "bury_many"])
def test_the_records_of_an_event_that_the_layer_does_not_take_back_name_the_event(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail(verb, ValueError("no"))
        on.layer.fail("bury", ValueError("no"))
        on.layer.put("a", job(0, fails="boom"), raw_id=b"\x01", attempt=1 if verb == "retry" else 3)
        await on.start({"a": LEASED})
        await on.turn(60)

    play(scene)
    about = [record for record in caplog.records if "event_id" in record.__dict__]
    assert [record.levelname for record in about] == ["ERROR", "CRITICAL"]
    assert {record.__dict__["event_id"] for record in about} == {"01"}


def test_the_record_of_a_suspect_whose_lease_ended_names_the_event(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.hang("begin")
        on.layer.put("a", job(0), raw_id=b"\x02", suspect=True)
        await on.start({"a": LEASED})
        on.layer.out.clear()
        on.layer.go_on("begin")
        await on.turn(0)

    play(scene)
    (record,) = caplog.records
    assert record.getMessage() == "channel 'a': the lease of an event ended before its handler started"
    assert record.__dict__["event_id"] == "02"
