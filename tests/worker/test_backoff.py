"""What fails is tried again, slower and slower up to a bound, and quickly again once it has worked."""

import itertools
import random

import pytest

from channelmap.errors import ChannelUnsupported
from channelmap.limits import RetryPolicy, Service
from tests.worker.scripted import Stage, away, job, jobs, lines, play


def pauses(times: list[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)]


def test_a_lost_layer_is_tried_again_after_a_tenth_of_a_second_and_then_up_to_every_five_seconds() -> None:
    async def scene(on: Stage) -> None:
        random.seed(1)
        on.layer.fail("take", away())
        await on.start({"a": Service()})
        await on.turn(600)
        shares = []
        delays = itertools.chain([0.1, 0.2, 0.4, 0.8, 1.6, 3.2], itertools.repeat(5.0))
        for pause, delay in zip(pauses([call.time for call in on.layer.of("take")]), delays, strict=False):
            shares.append(pause / delay)
        # Workers that lost the layer at the same time do not come back at the same time.
        assert len(shares) > 150
        assert 0.499 < min(shares) < 0.52
        assert 0.98 < max(shares) < 1.001

    play(scene)


@pytest.mark.parametrize("jitter", [0.2, 0.5, 1])
def test_events_that_failed_together_come_again_at_times_around_the_delay_of_their_attempt(jitter: float) -> None:
    async def scene(on: Stage) -> None:
        random.seed(1)
        policy = RetryPolicy(attempts=3, delay=10, backoff=1_000, max_delay=100, jitter=jitter)
        on.layer.fill("a", jobs(200, fails="boom"))
        await on.start({"a": Service(retry=policy)})
        await on.turn(1_000)
        delays: dict[int, list[float]] = {}
        for call in on.layer.of("retry"):
            delays.setdefault(call.numbers[0], []).append(call.amount or 0.0)
        for mean, seconds in zip((10, 100), zip(*delays.values(), strict=True), strict=True):
            assert len(seconds) == 200
            assert 1 - jitter < min(seconds) / mean < 1 - 0.9 * jitter
            assert 1 + 0.9 * jitter < max(seconds) / mean < 1 + jitter

    play(scene)


def test_a_layer_that_is_away_at_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail("take", away(), times=10)
        on.layer.fill("a", jobs(3))
        await on.start()
        await on.turn(60)
        assert on.application.done == [0, 1, 2]

    play(scene)
    assert lines(caplog)[:2] == [
        "channel 'a': cannot take events, next try in 0.1 s: scripted://: away",
        "channel 'a': cannot take events, next try in 0.2 s: scripted://: away",
    ]
    assert lines(caplog)[9:] == [
        "channel 'a': cannot take events, next try in 5.0 s: scripted://: away",
        "channel 'a': the layer is back",
    ]
    assert not any(record.exc_info for record in caplog.records)


def test_a_layer_that_works_again_is_tried_quickly_when_it_is_lost_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        for _ in range(2):
            on.layer.fail("take", away(), times=2)
            on.layer.fill("a", jobs(1))
            if not hasattr(on, "worker"):
                await on.start()
            await on.turn(10)
        on.layer.fill("a", jobs(1))
        await on.turn(0)
        assert on.application.done == [0, 0, 0]

    play(scene)
    assert [line.partition(":")[2][:40] for line in lines(caplog)] == [
        " cannot take events, next try in 0.1 s: ",
        " cannot take events, next try in 0.2 s: ",
        " the layer is back",
        " cannot take events, next try in 0.1 s: ",
        " cannot take events, next try in 0.2 s: ",
        " the layer is back",
    ]


@pytest.mark.parametrize(("waited", "pause"), [(6.0, 0.1), (4.0, 5.0)])
def test_a_take_that_had_waited_long_shows_that_the_layer_was_there(
    waited: float, pause: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail("take", away(), times=11)
        await on.start()
        await on.turn(10)
        on.layer.hang("take")
        await on.turn(5)
        await on.turn(waited - (on.clock.now - on.layer.of("take")[-1].time))
        on.layer.fail("take", away(), times=1)
        on.layer.go_on("take")
        await on.turn(0)

    play(scene)
    assert lines(caplog)[-1] == f"channel 'a': cannot take events, next try in {pause} s: scripted://: away"


def test_an_error_that_is_not_the_layers_is_tried_again_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(1))
        on.layer.fail("take", KeyError("surprise"), times=5)
        await on.start()
        await on.turn(10)
        assert on.application.done == [0]

    play(scene)
    assert [bool(record.exc_info) for record in caplog.records] == [True] * 5 + [False]


def test_a_channel_that_the_layer_cannot_serve_ends_the_worker_after_what_it_has_begun() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(1, takes=3))
        await on.start({"a": Service(concurrency=2)})
        await on.turn(1)
        assert not on.running.done()
        on.layer.fail("take", ChannelUnsupported("scripted://", "not this one"), times=1)
        on.layer.fill("a", jobs(1, first=1))
        with pytest.raises(ChannelUnsupported):
            await on.finish()
        assert on.application.done == [1, 0]
        assert on.ended_at == 3
        assert len(on.layer.of("take")) == 3

    play(scene)


def test_instances_that_cannot_start_are_started_less_and_less_often(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.application.broken_starts = 100
        on.layer.fill("a", jobs(1))
        await on.start()
        await on.turn(22)
        assert pauses(on.application.starts) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])
        on.application.broken_starts = 0
        await on.turn(5)
        assert on.application.done == [0]

    play(scene)
    words = "channel 'a': the application ended before it took an event: RuntimeError: no settings"
    assert lines(caplog) == [words] * 10


def test_an_instance_that_had_an_event_is_replaced_at_once_and_those_after_it_quickly() -> None:
    async def scene(on: Stage) -> None:
        on.application.broken_starts = 5
        on.layer.fill("a", [job(0, fails="boom", breaks=3), job(1)])
        await on.start({"a": Service()})
        await on.turn(10)
        assert pauses(on.application.starts) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 0, 0.1, 0.2, 0.4])
        assert on.application.done == [1]

    play(scene)


def test_a_delay_that_the_layer_cannot_set_is_tried_three_times(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails="boom"), job(1)])
        on.layer.fail("retry", OSError("cannot delay"), times=3)
        await on.start({"a": Service(retry=RetryPolicy(delay=1))})
        await on.turn(5)
        assert on.application.done == [1]
        assert len(on.layer.of("retry")) == 3
        assert on.layer.of("renew") == []

    play(scene)
    assert lines(caplog)[1:] == [
        "channel 'a': cannot retry an event, next try in 0.1 s: cannot delay",
        "channel 'a': cannot retry an event, next try in 0.2 s: cannot delay",
        "channel 'a': cannot retry an event, giving up: cannot delay",
        "channel 'a': the delay of a retry cannot be set; the event is redelivered when its lease ends",
    ]


def test_tries_while_the_layer_is_away_do_not_count_among_the_three(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        errors = iter([away(), OSError("1"), away(), away(), OSError("2"), away(), None])
        on.layer.fill("a", [job(0), job(1)])
        on.layer.fail("settle", lambda _: next(errors, None))
        await on.start()
        await on.turn(60)
        assert on.application.done == [0, 1]
        assert not on.layer.out

    play(scene)
    assert "cannot be settled" not in caplog.text
