"""A refill takes about so much work as the handlers do in a moment, and what they do not do goes back."""

from typing import Any

import pytest

from channelmap.limits import Service
from channelmap.worker.inbox import PrefetchSize
from tests.worker.scripted import LEASED, Stage, job, jobs, lines, play

BOTH = pytest.mark.parametrize("service", [LEASED, Service()])


def limits(on: Stage) -> list[float | None]:
    return [call.amount for call in on.layer.of("take")]


def returns(on: Stage) -> list[tuple[float, list[Any]]]:
    return [(call.time, call.numbers) for call in on.layer.of("give_back")]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_first_refill_takes_an_event_for_each_handler(concurrency: int) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(10, takes=1))
        await on.start({"a": Service(concurrency=concurrency)})
        assert limits(on) == [concurrency]
        assert on.application.begun == [(0, number) for number in range(concurrency)]

    play(scene)


def test_for_a_handler_that_takes_no_time_refills_grow_by_halves_up_to_a_thousand() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(5_000))
        await on.start({"a": Service()})
        assert limits(on) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] + [1_000] * 5
        assert on.application.seen == [*range(5_000)]

    play(scene)


def test_refills_grow_to_ten_milliseconds_of_a_handlers_work() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(100, blocks=0.001))
        await on.start({"a": Service()})
        # The measured mean: 10, 5.5, 3.25, 2.125, 1.5625, 1.28125 ms, and so on down to 1 ms.
        assert limits(on)[:10] == [1, 1, 3, 4, 6, 7, 8, 9, 9, 9]

    play(scene)


@pytest.mark.parametrize(("channels", "most", "largest"), [("a", 200, 20), ("ab", 200, 10), ("a", 5, 1)])
def test_a_worker_that_may_handle_only_so_many_events_takes_a_tenth_of_them_at_once(
    channels: str, most: int, largest: int
) -> None:
    async def scene(on: Stage) -> None:
        for channel in channels:
            on.layer.fill(channel, jobs(1_000))
        await on.start(dict.fromkeys(channels, Service()), max_events=most)
        assert max(limit for limit in limits(on) if limit is not None) == largest
        assert most <= len(on.application.seen) <= most + len(channels) * largest

    play(scene)


def test_after_one_slow_handler_the_next_refill_is_small_and_grows_again() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), *jobs(8, 7, blocks=0.005), *jobs(30, 15)])
        await on.start({"a": Service()})
        assert limits(on)[:7] == [1, 2, 4, 8, 2, 4, 8]
        assert returns(on) == []

    play(scene)


@pytest.mark.parametrize(
    ("concurrency", "work", "notes", "limit"),
    [
        (1, 0.01, [], 1),
        (4, 0.01, [], 4),
        (1, 0.01, [(0.5, 100)], 1),
        (1, 0.01, [(0.008, 1)], 1),
        (1, 0.01, [(0.0, 1)], 2),
        (5, 0.01, [(0.0, 1)], 10),
        (1, 0.01, [(0.0, 1), (0.1, 10)], 1),
        (1, 0.01, [(0.0, 1), (0.05, 10)], 2),
        (1, 0.01, [(0.0, 1), (0.0, 1), (0.03, 10)], 3),
        (1, 0.01, [(0.0, 1)] * 9, 512),
        (1, 0.01, [(0.0, 1)] * 2_000, 1_000),
        (50, 0.01, [(0.0, 1)] * 2_000, 1_000),
        (1, 0.0, [], 1),
        (1_500, 0.01, [(5.0, 1)], 3),
    ],
)
def test_a_refill_takes_so_many(concurrency: int, work: float, notes: list[tuple[float, int]], limit: int) -> None:
    size = PrefetchSize(concurrency, work, 1_000)
    for seconds, events in notes:
        size.record(seconds, events)
    assert size.limit == limit


@BOTH
def test_what_a_slow_handler_keeps_from_others_goes_back_in_its_order_once_that_time_has_passed(
    service: Service,
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), job(7, takes=5), *jobs(30, 8)])
        await on.start({"a": service}, return_after=0.1)
        await on.turn(0.09)
        assert returns(on) == []
        await on.turn(4)
        assert returns(on) == [(0.1, [*range(8, 15)])]
        assert on.layer.waits("a") == [*range(8, 38)]
        await on.turn(1)
        assert on.application.seen == [*range(38)]
        # What the handler took counts, not only what lay there meanwhile.
        assert limits(on)[4:6] == [1, 1]

    play(scene)


@BOTH
def test_while_the_handlers_keep_up_nothing_goes_back(service: Service) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(500, blocks=0.001))
        await on.start({"a": service}, return_after=0.1)
        assert on.clock.time() == 0.5
        assert on.application.done == [*range(500)]
        assert returns(on) == []

    play(scene)


@BOTH
def test_events_that_cannot_go_back_keep_their_order_and_are_tried_again(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), job(7, takes=0.25), *jobs(7, 8, takes=0.15), *jobs(5, 15)])
        on.layer.fail("give_back", ConnectionError("cut off"), times=2)
        await on.start({"a": service}, return_after=0.1)
        await on.turn(0.24)
        assert returns(on) == [(0.1, [*range(8, 15)]), (0.2, [*range(8, 15)])]
        await on.turn(0.2)
        assert returns(on)[2:] == [(0.3, [*range(9, 15)])]
        await on.turn(60)
        assert on.application.seen == [*range(20)]

    play(scene)
    assert lines(caplog) == ["channel 'a': cannot return events: cut off"] * 2


def test_a_refill_waits_for_what_is_on_its_way_back() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), job(7, takes=0.5), *jobs(30, 8)])
        on.layer.hang("give_back")
        await on.start({"a": Service()}, return_after=0.1)
        await on.turn(5)
        assert on.application.seen == [*range(8)]
        on.layer.go_on("give_back")
        await on.turn(0)
        assert on.application.seen == [*range(38)]

    play(scene)


def test_a_slot_that_is_free_while_another_is_slow_has_what_was_prefetched() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(4), job(4, takes=5), *jobs(4, 5)])
        await on.start({"a": Service(concurrency=2)}, return_after=0.1)
        assert on.application.seen == [*range(9)]
        await on.turn(5)
        assert returns(on) == []

    play(scene)
