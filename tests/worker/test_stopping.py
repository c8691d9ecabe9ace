"""A worker that is to stop ends in its time, whatever its handlers and its layer do, and says what became of events."""

import asyncio

import pytest

from channelmap.limits import RetryPolicy, Service
from tests.worker.scripted import LEASED, Stage, away, job, jobs, lines, number_of, play

BOTH = pytest.mark.parametrize("service", [LEASED, Service()])
CUT_OFF = "the worker stopped before the handler had finished"


@pytest.mark.parametrize("channels", [{}, {"a": Service(concurrency=4), "b": LEASED}])
def test_an_idle_worker_stops_at_once(channels: dict[str, Service]) -> None:
    async def scene(on: Stage) -> None:
        await on.start(channels)
        assert await on.end() == 0
        assert not on.worker.cut_off
        assert not on.worker.broken

    play(scene)


@BOTH
def test_a_handler_may_finish_and_what_was_prefetched_goes_back_at_once(service: Service) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), job(7, takes=20), *jobs(30, 8)])
        await on.start({"a": service}, return_after=1_000)
        on.worker.stop()
        await on.turn(0)
        assert on.layer.waits("a") == [*range(8, 38)]
        assert await on.finish() == 20
        assert on.application.done == [*range(8)]
        assert on.layer.letters == []
        assert not on.layer.out
        assert not on.worker.cut_off

    play(scene)


def test_quiet_takes_no_more_and_has_no_deadline() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(3, takes=500))
        await on.start()
        on.worker.quiet()
        assert await on.finish(within=1_000) == 500
        assert on.application.done == [0]
        assert on.layer.waits("a") == [1, 2]

    play(scene)


@pytest.mark.parametrize(("deadline", "ends_after"), [(None, 25), (3.0, 3), (0.0, 0)])
def test_a_handler_that_still_runs_at_the_deadline_is_cut_off_and_its_event_a_dead_letter(
    deadline: float | None, ends_after: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, hangs=True)])
        await on.start({"a": Service()})
        assert await on.end(deadline) == ends_after
        (letter,) = on.layer.letters
        assert (number_of(letter), letter.code, letter.reason, letter.traceback) == (0, "failed", CUT_OFF, "")
        assert on.worker.cut_off

    play(scene)
    assert lines(caplog) == [f"channel 'a': 'job' failed: {CUT_OFF}; kept as a dead letter"]


@pytest.mark.parametrize(("attempts", "comes_again"), [(2, True), (1, False)])
def test_what_is_cut_off_comes_again_if_it_may(attempts: int, *, comes_again: bool) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, hangs=True)])
        await on.start({"a": Service(retry=RetryPolicy(attempts=attempts, delay=7, jitter=0))})
        assert await on.end(3) == 3
        assert [(call.time, call.amount) for call in on.layer.of("retry")] == [(3, 7)] * comes_again
        assert len(on.layer.letters) == (not comes_again)
        assert not on.layer.out

    play(scene)


def test_a_second_stop_may_set_an_earlier_deadline() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, hangs=True)])
        await on.start({"a": Service()})
        on.worker.stop(20)
        await on.turn(5)
        assert await on.end(2) == 2
        assert on.ended_at == 7

    play(scene)


def test_a_stop_after_quiet_sets_a_deadline() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, hangs=True)])
        await on.start({"a": Service()})
        on.worker.quiet()
        await on.turn(100)
        assert await on.end(2) == 2

    play(scene)


def test_a_worker_that_is_stopped_before_it_serves_takes_nothing() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(3))
        starting = asyncio.ensure_future(on.start({"a": Service()}))
        while not hasattr(on, "worker"):
            await asyncio.sleep(0)
        on.worker.stop()
        await starting
        await on.finish()
        assert on.layer.waits("a") == [0, 1, 2]

    play(scene)


@pytest.mark.parametrize(("deaf", "finishes"), [(0.9, True), (1.1, False)])
def test_a_handler_that_ignores_its_cancellation_has_one_more_second(deaf: float, *, finishes: bool) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, deaf=deaf)])
        await on.start({"a": Service()})
        assert await on.end(3) == 4
        assert on.worker.cut_off
        assert [letter.reason for letter in on.layer.letters] == [CUT_OFF] * (not finishes)

    play(scene)


@pytest.mark.parametrize("away_too", [False, True])
@pytest.mark.parametrize(
    ("service", "lost", "outcome"),
    [
        (LEASED, 32, "they are redelivered when their leases end"),
        (Service(), 31, "they are lost"),
    ],
)
def test_with_a_layer_that_does_not_answer_the_worker_ends_a_grace_behind_its_deadline_and_says_what_is_lost(
    service: Service, lost: int, outcome: str, caplog: pytest.LogCaptureFixture, *, away_too: bool
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(31), job(31), *jobs(2, 32, rejected="bad"), job(34, hangs=True), *jobs(60, 35)])
        await on.start({"a": service}, return_after=1_000, grace=4.0, drain_timeout=25.0)
        if away_too:
            on.layer.fail("settle", away())
            for verb in ("give_back", "bury_many", "retry"):
                on.layer.fail(verb, away())
        else:
            on.layer.hang("settle", "give_back", "bury_many", "retry")
        held = len(on.worker._inboxes[0].ledger.unsettled())
        assert held == lost
        assert await on.end() == 29
        assert on.worker.cut_off
        assert lines(caplog)[-1] == f"channel 'a': the layer does not answer for {held} events: {outcome}"
        await on.turn(60)

    play(scene)


def test_a_layer_that_answers_within_the_grace_is_told_everything(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(31), *jobs(2, 31, rejected="bad"), job(33, hangs=True), *jobs(60, 34)])
        on.layer.hang("settle", "give_back", "bury_many", "retry")
        on.layer.go_on("settle")
        await on.start(return_after=1_000)
        on.layer.hang("settle")
        on.worker.stop(10)
        await on.turn(13)
        assert not on.running.done()
        on.layer.go_on("settle", "give_back", "bury_many", "retry")
        await on.turn(0)
        assert on.running.done()
        assert not on.layer.out
        assert on.layer.waits("a") == [*range(34, 94)]
        assert [number_of(letter) for letter in on.layer.letters] == [31, 32]

    play(scene)
    assert "does not answer" not in caplog.text


def test_one_channel_whose_layer_hangs_takes_no_time_from_another(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails="boom")])
        on.layer.fill("b", [*jobs(7, 10), job(17, takes=8), *jobs(8, 18)])
        on.layer.hang("retry")
        await on.start({"a": LEASED, "b": LEASED}, return_after=1_000, grace=4)
        assert await on.end(10) == 14
        assert on.layer.waits("b") == [*range(18, 26)]
        assert [number_of(delivery) for delivery in on.layer.out] == [0]

    play(scene)
    assert lines(caplog)[1:] == [
        "channel 'a': the layer does not answer for 1 events: they are redelivered when their leases end"
    ]


def test_what_a_layers_client_raises_at_the_end_does_not_keep_others_from_their_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def scene(on: Stage) -> None:
        for channel, first in (("a", 0), ("b", 10)):
            on.layer.fill(channel, [*jobs(7, first), job(first + 7, takes=5), *jobs(1, first + 8)])
        errors = iter([Odd()])
        await on.start({"a": Service(), "b": Service()}, return_after=1_000)
        on.layer.fail("give_back", lambda _: next(errors, None))
        await on.end()
        assert on.layer.waits("b") == [18]

    play(scene)


def test_a_take_that_waits_is_cancelled_and_a_back_off_is_not_waited_for() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail("take", away())
        await on.start({"a": Service(), "b": LEASED})
        await on.turn(60)
        assert await on.end() == 0

    play(scene)


def test_instances_that_cannot_start_are_not_waited_for() -> None:
    async def scene(on: Stage) -> None:
        on.application.broken_starts = 1_000
        await on.start({"a": Service(), "b": LEASED})
        await on.turn(60)
        assert await on.end() == 0
        assert not on.worker.cut_off

    play(scene)
