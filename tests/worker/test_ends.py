"""How a worker ends by itself: because something in it broke, or because its burst is over."""

from typing import Any

import pytest

from channelmap.limits import RetryPolicy, Service
from tests.worker.scripted import LEASED, Stage, away, job, jobs, lines, number_of, play


class Panic(BaseException):
    """What a native library raises when its own code is wrong."""


@pytest.mark.parametrize(
    ("verb", "script", "what"),
    [
        ("bury_many", {"fails": "boom"}, "a slot"),
        ("bury_many", {"rejected": "bad"}, "channel 'a': the writing of dead letters"),
    ],
)
def test_a_task_of_the_worker_that_dies_stops_it_aloud_and_no_other_event_is_lost(
    verb: str, script: dict[str, Any], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("b", [job(9, takes=5)])
        await on.start({"a": Service(), "b": LEASED})
        on.layer.fill("a", [job(0), job(1, **script), job(2)])
        on.layer.fail(verb, Panic("a panic of a library"), times=1)
        await on.turn(0)
        on.layer.fill("a", jobs(2, 3))
        await on.finish()
        assert on.worker.broken
        assert on.ended_at == 5
        kept = [number_of(letter) for letter in on.layer.letters]
        assert sorted([*on.application.done, *on.layer.waits("a"), *kept]) == sorted(
            [*range(5), 9, *[1] * ("rejected" in script)]
        )

    play(scene)
    assert [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"] == [
        f"{what} ended unexpectedly (Panic: a panic of a library): stopping the worker"
    ]


def test_a_return_that_dies_stops_the_worker_aloud(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), job(7, takes=5), *jobs(8, 8)])
        on.layer.fail("give_back", Panic("a panic of a library"), times=1)
        await on.start()
        await on.finish()
        assert on.worker.broken
        assert on.ended_at == 5
        assert on.layer.waits("a") == [*range(8, 16)]

    play(scene)
    words = "ended unexpectedly (Panic: a panic of a library): stopping the worker"
    assert lines(caplog) == [f"channel 'a': the return of prefetched events {words}"]


def test_a_settling_that_dies_stops_the_worker_aloud(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(9), job(9, takes=5), job(10)])
        await on.start()
        on.layer.fail("settle", Panic("a panic of a library"), times=1)
        await on.finish()
        assert on.worker.broken
        assert not on.layer.out

    play(scene)
    assert lines(caplog) == [
        "channel 'a': the settling of events ended unexpectedly (Panic: a panic of a library): stopping the worker"
    ]


def test_a_burst_ends_when_nothing_waits_and_does_not_wait_for_anything() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=3), *jobs(20, 1)])
        on.layer.fill("b", [job(21, takes=5)])
        await on.start({"a": LEASED, "b": Service(), "c": Service()}, burst=True)
        assert await on.finish() == 5
        assert sorted(on.application.done) == [*range(22)]
        assert not on.layer.out
        assert not on.worker.gave_up

    play(scene)


def test_a_burst_serves_what_comes_while_it_runs() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=3)])
        await on.start({"a": Service(), "b": Service(concurrency=2)}, burst=True)
        await on.turn(2)
        on.layer.fill("b", jobs(5, 1, takes=2))
        await on.finish()
        assert sorted(on.application.done) == [*range(6)]
        assert [time for time, _ in on.application.begun] == [0, 3, 3, 5, 5, 7]

    play(scene)


@pytest.mark.parametrize(("delay", "is_waited_for"), [(9.9, True), (10.1, False)])
def test_a_burst_waits_for_a_retry_that_is_due_within_ten_seconds(delay: float, *, is_waited_for: bool) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails="boom")])
        await on.start({"a": Service(retry=RetryPolicy(attempts=3, delay=delay, backoff=1, jitter=0))}, burst=True)
        ended = await on.finish()
        assert ended == (pytest.approx(2 * delay) if is_waited_for else 0)
        assert len(on.layer.letters) == is_waited_for
        assert not on.worker.gave_up

    play(scene)


def test_a_burst_waits_for_the_earliest_of_several_retries() -> None:
    async def scene(on: Stage) -> None:
        for channel, delay in (("a", 9.0), ("b", 4.0), ("c", 300.0)):
            on.layer.fill(channel, [job(int(delay), fails="boom")])
        await on.start(
            {
                channel: Service(retry=RetryPolicy(attempts=2, delay=delay, jitter=0))
                for channel, delay in (("a", 9.0), ("b", 4.0), ("c", 300.0))
            },
            burst=True,
        )
        assert await on.finish() == 9
        assert on.application.begun[3:] == [(4, 4), (9, 9)]

    play(scene)


def test_a_burst_leaves_the_events_of_a_paused_channel_and_says_how_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.paused |= {"a", "b", "d"}
        for channel, count in (("a", 3), ("b", 1), ("c", 2)):
            on.layer.fill(channel, jobs(count))
        await on.start({"a": LEASED, "b": Service(), "c": Service(), "d": Service()}, burst=True)
        assert await on.finish() == 0
        assert on.layer.waits("a") == [0, 1, 2]
        assert on.application.done == [0, 1]
        assert not on.worker.gave_up

    play(scene)
    assert lines(caplog) == ["channel 'a': paused; 3 events wait", "channel 'b': paused; 1 events wait"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_whether_a_channel_is_paused_is_asked_once_when_a_burst_ends_and_at_no_other_time() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=3), job(1, takes=4)])
        await on.start({"a": LEASED, "b": Service()}, burst=True)
        await on.finish()
        assert [(call.time, call.channel) for call in on.layer.of("is_paused")] == [(7, "a"), (7, "b")]

    async def scene_without_burst(on: Stage) -> None:
        on.layer.paused.add("a")
        on.layer.fill("a", jobs(2))
        await on.start({"a": LEASED, "b": Service()})
        await on.turn(100)
        await on.end()
        assert on.layer.of("is_paused") == []

    play(scene)
    play(scene_without_burst)


def test_a_burst_whose_layer_cannot_say_what_is_paused_says_so_once_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail("is_paused", away())
        on.layer.fill("b", jobs(1))
        await on.start({"a": LEASED, "b": Service()}, burst=True)
        assert await on.finish() == 0
        assert on.application.done == [0]

    play(scene)
    assert lines(caplog) == ["channel 'a': cannot determine whether it is paused: scripted://: away"]


def test_a_burst_that_is_stopped_does_not_ask_what_is_paused() -> None:
    async def scene(on: Stage) -> None:
        on.layer.paused.add("a")
        on.layer.fill("b", [job(0, takes=5)])
        await on.start({"a": LEASED, "b": Service()}, burst=True)
        await on.end()
        assert on.layer.of("is_paused") == []

    play(scene)


def test_a_burst_that_waits_for_a_retry_ends_at_once_when_it_is_stopped() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails="boom")])
        await on.start({"a": Service(retry=RetryPolicy(delay=8, jitter=0))}, burst=True)
        await on.turn(3)
        assert await on.end() == 0

    play(scene)


@pytest.mark.parametrize(("broken", "gives_up"), [(3, True), (2, False)])
def test_a_burst_gives_up_after_three_instances_that_cannot_start(broken: int, *, gives_up: bool) -> None:
    async def scene(on: Stage) -> None:
        on.application.broken_starts = broken
        on.layer.fill("a", jobs(2))
        await on.start({"a": Service()}, burst=True)
        assert await on.finish() == pytest.approx(0.3)
        assert on.worker.gave_up is gives_up
        assert on.layer.waits("a") == [0, 1] * gives_up

    play(scene)


def test_starts_that_fail_in_a_row_are_counted_anew_after_an_event() -> None:
    async def scene(on: Stage) -> None:
        on.application.broken_starts = 2
        on.layer.fill("a", [job(0, fails="boom", breaks=2), job(1)])
        await on.start({"a": Service()}, burst=True)
        await on.finish()
        assert not on.worker.gave_up
        assert on.application.done == [1]

    play(scene)
