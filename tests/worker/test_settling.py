"""Handled events are settled together, and none waits long for that."""

import pytest

from channelmap.limits import RetryPolicy, Service
from tests.worker.scripted import Stage, away, job, jobs, lines, play


def test_events_are_settled_by_the_batch_and_at_once_when_the_batch_is_done() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(15))
        await on.start()
        assert [(call.time, call.numbers) for call in on.layer.of("settle")] == [
            (0, [0]),
            (0, [1, 2]),
            (0, [3, 4, 5, 6]),
            (0, [*range(7, 15)]),
        ]
        assert not on.layer.out

    play(scene)


def test_inside_a_batch_what_is_handled_is_settled_while_a_slow_handler_runs() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(9), job(9, takes=5), job(10)])
        await on.start(return_after=0.1)
        await on.turn(0.09)
        assert on.layer.of("settle")[3:] == []
        await on.turn(0.02)
        assert [(call.time, call.numbers) for call in on.layer.of("settle")[3:]] == [(0.1, [7, 8])]
        await on.turn(6)
        assert [(call.time, call.numbers) for call in on.layer.of("settle")[4:]] == [(5, [9]), (5, [10])]

    play(scene)


def test_at_most_once_there_is_nothing_to_settle() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(9), job(9, takes=5), job(10)])
        await on.start({"a": Service()})
        await on.turn(10)
        assert on.application.done == [*range(11)]
        assert on.layer.of("settle") == []

    play(scene)


def test_what_is_settled_late_is_settled_once_and_the_next_event_waits_for_it() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(3))
        on.layer.hang("settle")
        await on.start()
        await on.turn(60)
        assert on.application.done == [0]
        on.layer.go_on("settle")
        await on.turn(0)
        assert on.application.done == [0, 1, 2]
        assert [call.numbers for call in on.layer.of("settle")] == [[0], [1, 2]]

    play(scene)


def test_what_two_slots_have_handled_is_settled_in_one_call_and_once() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(2))
        on.layer.hang("settle")
        await on.start({"a": Service(concurrency=2, retry=RetryPolicy())})
        await on.turn(1)
        assert on.application.done == [0, 1]
        on.layer.go_on("settle")
        await on.turn(0)
        assert [call.numbers for call in on.layer.of("settle")] == [[0, 1]]

    play(scene)


def test_what_cannot_be_settled_is_tried_three_times_and_the_channel_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(3))
        on.layer.fail("settle", RuntimeError("cannot settle"), times=3)
        await on.start()
        await on.turn(1)
        assert on.application.done == [0, 1, 2]
        assert [call.numbers for call in on.layer.of("settle")] == [[0], [0], [0], [1, 2]]
        # Nobody renews what the layer is to deliver again.
        await on.turn(60)
        assert on.layer.of("renew") == []

    play(scene)
    assert lines(caplog) == [
        "channel 'a': cannot settle events, next try in 0.1 s: cannot settle",
        "channel 'a': cannot settle events, next try in 0.2 s: cannot settle",
        "channel 'a': cannot settle events, giving up: cannot settle",
        "channel 'a': 1 handled events cannot be settled; the layer will redeliver them",
    ]


@pytest.mark.parametrize("verb", ["settle", "retry", "bury_many"])
def test_a_layer_that_is_away_is_told_however_long_that_takes(verb: str) -> None:
    async def scene(on: Stage) -> None:
        script = {"settle": {}, "retry": {"fails": "boom"}, "bury_many": {"rejected": "bad"}}[verb]
        on.layer.fill("a", [job(0, **script)])
        on.layer.fail(verb, away(), times=40)
        await on.start({"a": Service(retry=RetryPolicy(attempts=2))})
        await on.turn(300)
        assert len(on.layer.of(verb)) == 41
        # Those tries in vain are no reason to hold the event any longer.
        assert [call.numbers for call in on.layer.of("renew")][-1] == [0]
        assert on.layer.out == []

    play(scene)
