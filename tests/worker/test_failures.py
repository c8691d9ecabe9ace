"""An event that fails is tried again, and at last kept as a dead letter with its reason; it costs no other event."""

import itertools
from typing import Any

import pytest

from channelmap.errors import Violation
from channelmap.limits import RetryPolicy, Service
from tests.worker.scripted import LEASED, ScriptedLayer, Stage, job, jobs, lines, number_of, play

#: What the gate's codes are in a dead letter.
CODES = {
    "unknown-type": "unroutable", "missing-type": "unreadable", "schema-mismatch": "invalid",
    "unsupported-value": "invalid",
}  # fmt: skip


def letters(layer: ScriptedLayer) -> list[tuple[Any, str, str]]:
    return [(number_of(letter), letter.code, letter.reason) for letter in layer.letters]


def test_a_failed_event_comes_again_after_growing_delays_and_becomes_a_dead_letter_after_the_last_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails="boom"), job(1)])
        await on.start({"a": Service(retry=RetryPolicy(attempts=4, delay=1, backoff=10, max_delay=50, jitter=0))})
        await on.turn(100)
        assert on.application.begun == [(0, 0), (0, 1), (1, 0), (11, 0), (61, 0)]
        assert [call.amount for call in on.layer.of("retry")] == [1, 10, 50]
        (letter,) = on.layer.letters
        assert (letter.code, letter.reason, letter.attempts) == ("failed", "ValueError: boom", 4)
        assert "raise ValueError(event" in letter.traceback
        assert not on.layer.out

    play(scene)
    assert lines(caplog) == [
        "channel 'a': 'job' failed: ValueError: boom; attempt 1 of 4, next in 1.0 s",
        "channel 'a': 'job' failed: ValueError: boom; attempt 2 of 4, next in 10.0 s",
        "channel 'a': 'job' failed: ValueError: boom; attempt 3 of 4, next in 50.0 s",
        "channel 'a': 'job' failed: ValueError: boom; kept as a dead letter",
    ]
    record = caplog.records[0]
    assert (record.__dict__["channel"], record.__dict__["event_type"], record.__dict__["attempt"]) == ("a", "job", 1)
    assert record.exc_info


@pytest.mark.parametrize("service", [Service(), Service(retry=RetryPolicy(attempts=1))])
def test_without_a_further_attempt_a_failed_event_is_a_dead_letter_at_once(service: Service) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0), job(1, fails="boom"), job(2)])
        await on.start({"a": service})
        assert letters(on.layer) == [(1, "failed", "ValueError: boom")]
        assert on.application.done == [0, 2]
        assert on.layer.of("retry") == []
        assert not on.layer.out

    play(scene)


@pytest.mark.parametrize(
    ("attempt", "crashes", "retry", "reason"),
    [
        (2, 1, RetryPolicy(attempts=2), None),
        (3, 2, RetryPolicy(attempts=2), "its worker ended while it was handled, 2 times in a row"),
        (2, 1, RetryPolicy(attempts=1), "its worker ended while it was handled"),
        (3, 0, RetryPolicy(attempts=2), "it was delivered as attempt 3, after its last one"),
        (9, 0, None, None),
    ],
)
def test_an_event_beyond_its_last_attempt_is_a_dead_letter_before_it_is_begun(
    attempt: int, crashes: int, retry: RetryPolicy | None, reason: str | None
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.put("a", job(0), attempt=attempt, crashes=crashes, suspect=crashes > 0)
        on.layer.fill("a", jobs(1, first=1))
        await on.start({"a": Service(retry=retry)})
        assert on.application.done == ([1] if reason else [0, 1])
        assert letters(on.layer) == ([(0, "failed", reason)] if reason else [])
        assert not on.layer.out

    play(scene)


def test_what_is_not_an_event_is_an_unreadable_dead_letter(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [{"n": 0}, {"n": 1, "type": ""}, job(2)])
        on.layer.put("a", None, problem="not MessagePack")
        await on.start()
        assert letters(on.layer) == [
            (0, "unreadable", "the event has no type"),
            (1, "unreadable", "the event has no type"),
            (None, "unreadable", "not MessagePack"),
        ]
        assert on.application.done == [2]
        assert not on.layer.out

    play(scene)
    assert lines(caplog)[2] == "channel 'a': not MessagePack; kept as a dead letter"


def test_rejected_events_are_written_together_after_a_moment(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), *jobs(3, 7, rejected="bad"), job(10, takes=5)])
        await on.start()
        assert on.layer.of("bury_many") == []
        await on.turn(0.002)
        assert [(call.time, call.numbers) for call in on.layer.of("bury_many")] == [(0.001, [7, 8, 9])]
        assert letters(on.layer) == [(number, "invalid", "bad") for number in (7, 8, 9)]
        await on.turn(5)
        assert not on.layer.out

    play(scene)
    assert lines(caplog) == ["bad; kept as a dead letter"] * 3


def test_sixty_four_rejected_events_are_a_full_batch() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(127 + 128, rejected="bad"))
        await on.start({"a": Service()})
        assert [len(call.numbers) for call in on.layer.of("bury_many")] == [64] * 3
        await on.turn(0.001)
        assert [len(call.numbers) for call in on.layer.of("bury_many")] == [64, 64, 64, 63]
        assert [number for number, *_ in letters(on.layer)] == [*range(255)]

    play(scene)


def test_rejections_of_a_millisecond_are_written_before_the_next_event() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(3), job(3, rejected="bad"), *jobs(2, 4, blocks=0.0006, rejected="bad"), job(6)])
        on.layer.hang("bury_many")
        await on.start({"a": Service()})
        assert on.application.seen == [*range(6)]
        on.layer.go_on("bury_many")
        await on.turn(0)
        assert on.application.seen == [*range(7)]
        assert [call.numbers for call in on.layer.of("bury_many")] == [[3, 4, 5]]

    play(scene)


@pytest.mark.parametrize("service", [LEASED, Service()])
def test_letters_that_the_layer_cannot_write_are_tried_three_times_and_then_one_by_one(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), *jobs(3, 7, rejected="bad"), job(10)])
        on.layer.fail("bury_many", RecursionError("too deep"))
        await on.start({"a": service})
        await on.turn(5)
        assert [call.numbers for call in on.layer.of("bury_many")] == [[7, 8, 9]] * 3
        assert letters(on.layer) == [(number, "invalid", "bad") for number in (7, 8, 9)]
        assert on.application.done == [*range(11)]
        assert not on.layer.out

    play(scene)
    tried = [line for line in lines(caplog) if "cannot" in line]
    assert all(line.startswith("channel 'a': cannot keep dead letters, ") for line in tried)
    assert ["giving up" in line for line in tried] == [False, False, True]


@pytest.mark.parametrize("service", [LEASED, Service()])
def test_of_a_letter_that_cannot_be_written_the_bare_bytes_are_tried_once_and_then_it_is_dropped_aloud(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(7))
        for number in (7, 8):
            violations = [Violation("$.n", "type", "is no good")]
            bad = job(number, rejected="bad", violations=violations)
            on.layer.put("a", bad, body=str(number).encode())
        on.layer.fill("a", [job(9)])
        on.layer.fail("bury_many", ValueError("cannot be written"))
        tries = iter([True, False, True, True])
        on.layer.fail("bury", lambda _: ValueError("cannot be written") if next(tries) else None)
        await on.start({"a": service})
        await on.turn(5)
        assert [call.numbers for call in on.layer.of("bury")] == [[7], [7], [8], [8]]
        (bare,) = on.layer.letters
        assert (bare.code, bare.event, bare.body, bare.violations, bare.traceback) == ("invalid", None, b"7", (), "")
        assert bare.reason == "its dead letter could not be written in full; the worker's log has the reason"
        assert on.application.done == [*range(10)]
        assert not on.layer.out

    play(scene)
    assert lines(caplog)[-1] == "channel 'a': dropped an event of type 'job': its dead letter cannot be kept"
    tried = [line for line in lines(caplog) if "cannot keep a dead letter" in line]
    assert [line.partition(":")[2].partition(":")[0] for line in tried] == [" cannot keep a dead letter, giving up"] * 3


@pytest.mark.parametrize(("event", "told"), [(None, "unknown"), ({"type": 5}, "unknown"), ({"type": ""}, "''")])
def test_an_event_that_is_dropped_is_named_by_its_type_if_it_has_one(
    event: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.put("a", event, attempt=9)
        on.layer.fail("bury_many", ValueError("cannot be written"))
        on.layer.fail("bury", ValueError("cannot be written"))
        await on.start()
        await on.turn(5)
        assert not on.layer.out

    play(scene)
    assert lines(caplog)[-1] == f"channel 'a': dropped an event of type {told}: its dead letter cannot be kept"


def test_a_rejected_event_is_kept_with_what_is_wrong_with_it_under_the_code_of_the_gate() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, rejected="bad", violations=["$.n is bad", "$.m too"])])
        on.layer.fill("a", [job(number, rejected="bad", code=code) for number, code in enumerate(CODES, 1)])
        await on.start()
        await on.turn(5)
        assert on.layer.letters[0].violations == ("$.n is bad", "$.m too")
        assert [letter.code for letter in on.layer.letters[1:]] == [*CODES.values()]

    play(scene)


def test_a_handler_over_its_timeout_fails_then_and_the_next_event_has_all_its_time() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=4.9), job(1, hangs=True), job(2, takes=4.9), job(3, takes=4.9)])
        await on.start({"a": Service(timeout=5)})
        await on.turn(60)
        assert on.application.begun == [(0, 0), (4.9, 1), (9.9, 2), (14.8, 3)]
        assert letters(on.layer) == [(1, "failed", "the handler took longer than 5 s")]
        assert on.application.done == [0, 2, 3]
        await on.end()
        assert on.worker.cut_off

    play(scene)


def test_a_timed_out_event_may_come_again() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, hangs=True)])
        await on.start({"a": Service(timeout=5, retry=RetryPolicy(attempts=2, delay=1, jitter=0))})
        await on.turn(60)
        assert on.application.begun == [(0, 0), (6, 0)]
        assert letters(on.layer) == [(0, "failed", "the handler took longer than 5 s")]
        assert on.layer.letters[0].traceback == ""

    play(scene)


def test_a_handler_that_ignores_its_cancellation_has_failed_all_the_same_and_blames_no_other() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, deaf=2), job(1)])
        await on.start({"a": Service(timeout=5)})
        await on.turn(6)
        assert letters(on.layer) == []
        await on.turn(1)
        assert letters(on.layer) == [(0, "failed", "the handler took longer than 5 s")]
        assert on.application.begun == [(0, 0), (7, 1)]
        assert on.application.done == [0, 1]

    play(scene)


def test_the_time_in_which_a_rejection_is_written_does_not_count_for_the_handlers_timeout() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(3), job(3, rejected="bad"), job(4, blocks=0.002, rejected="bad"), job(5, hangs=True)])
        on.layer.hang("bury_many")
        await on.start({"a": Service(timeout=5)})
        await on.turn(60)
        on.layer.go_on("bury_many")
        await on.turn(0)
        assert letters(on.layer) == [(number, "invalid", "bad") for number in (3, 4)]
        await on.turn(5)
        assert letters(on.layer)[2:] == [(5, "failed", "the handler took longer than 5 s")]
        assert len(on.application.starts) == 2

    play(scene)


def test_an_event_that_is_waited_for_does_not_use_up_the_time_of_the_next() -> None:
    async def scene(on: Stage) -> None:
        await on.start({"a": Service(timeout=5)})
        await on.turn(100)
        on.layer.fill("a", jobs(1, takes=4.9))
        await on.turn(10)
        assert on.application.done == [0]
        assert len(on.application.starts) == 1

    play(scene)


def test_two_busy_channels_take_turns() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(5_000))
        on.layer.fill("b", jobs(5_000, first=5_000))
        await on.start({"a": LEASED, "b": Service()})
        seen = [number < 5_000 for number in on.application.seen]
        assert abs(sum(seen[:4_000]) - 2_000) <= 1_000
        assert max(len([*run]) for _, run in itertools.groupby(seen)) <= 1_000

    play(scene)


def test_a_flood_of_rejected_events_leaves_a_good_channel_its_turns() -> None:
    async def scene(on: Stage) -> None:
        def fill() -> None:
            on.layer.fill("b", jobs(100, first=3_000))

        # The refills of `a` have grown to 1,000 events by then, those of `b` grow from one.
        on.layer.fill("a", jobs(3_000, rejected="bad"))
        on.layer.queues["a"][1_030].event = job(1_030, rejected="bad", then=fill)
        await on.start({"a": LEASED, "b": Service()})
        begun = on.application.seen.index
        assert begun(3_000) < 1_030 + 2 * 64
        assert begun(3_099) < 1_030 + 100 + 14 * 64

    play(scene)
