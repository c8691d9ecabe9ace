"""Events that no key of the layer fits: single ones become dead letters, and if none fits, all stay where they are."""

from dataclasses import replace

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.limits import Service
from tests.worker.scripted import LEASED, Stage, job, jobs, lines, play

UNREAD = "channel 'a': no key of the layer fits any of the {} waiting events; they stay where they are, {}; {}"
HINT = "check symmetric_encryption_keys"


def put_encrypted(on: Stage, count: int, channel: str = "a") -> None:
    for _ in range(count):
        on.layer.put(channel, None, encrypted=True, problem="no key fits")


@pytest.mark.parametrize("service", [replace(LEASED, concurrency=2), Service(concurrency=2)])
@pytest.mark.parametrize("error", [LayerUnavailable("scripted://", "away"), OSError("gone")])
def test_encrypted_events_whose_return_fails_reach_no_slot_and_are_returned_later(
    service: Service, error: Exception
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=0.05)])
        await on.start({"a": service})
        put_encrypted(on, 15)
        on.layer.fail("give_back", error, times=2)
        await on.turn(1)
        # The first ten, behind one that could be read, may be exceptions.
        assert len(on.layer.letters) <= 10
        assert len(on.layer.queues["a"]) + len(on.layer.letters) == 15
        assert on.application.done == [0]
        await on.end()

    play(scene)


def test_a_worker_with_the_wrong_key_looks_again_every_five_seconds_and_goes_on_with_the_right_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(on: Stage) -> None:
        put_encrypted(on, 3)
        await on.start()
        await on.turn(12)
        assert [call.time for call in on.layer.of("peek")] == [0, 0, 5, 10]
        on.layer.queues["a"].clear()
        on.layer.fill("a", jobs(2))
        await on.turn(5)
        assert on.application.done == [0, 1]
        assert on.layer.letters == []
        await on.end()

    play(scene)
    told = UNREAD.format(3, "next look in 5.0 s", HINT)
    assert [line for line in lines(caplog) if "channel" in line] == [
        told,
        told,
        told,
        "channel 'a': taking events again",
    ]


def test_a_burst_with_the_wrong_key_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        put_encrypted(on, 2)
        await on.start(burst=True)
        await on.finish()
        assert on.worker.gave_up
        assert len(on.layer.queues["a"]) == 2

    play(scene)
    assert UNREAD.format(2, "the burst ends", HINT) in lines(caplog)


def test_encrypted_events_among_readable_ones_become_dead_letters() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0)])
        put_encrypted(on, 1)
        on.layer.fill("a", [job(1)])
        await on.start()
        await on.turn(1)
        assert on.application.done == [0, 1]
        assert [letter.code for letter in on.layer.letters] == ["unreadable"]
        await on.end()

    play(scene)


def test_ten_encrypted_events_behind_a_readable_one_may_be_exceptions_and_no_more() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0)])
        await on.start()
        put_encrypted(on, 13)
        await on.turn(1)
        assert (len(on.layer.letters), len(on.layer.queues["a"])) == (10, 3)
        await on.end()

    play(scene)


def test_what_stands_before_a_readable_event_becomes_dead_letters_without_another_look() -> None:
    async def scene(on: Stage) -> None:
        put_encrypted(on, 12)
        on.layer.fill("a", [job(0)])
        await on.start(max_events=40)
        await on.turn(1)
        assert len(on.layer.letters) == 12
        assert len(on.layer.of("peek")) == 1
        assert on.application.done == [0]
        await on.end()

    play(scene)


def test_an_encrypted_event_behind_which_nothing_waits_becomes_a_dead_letter_at_once() -> None:
    async def scene(on: Stage) -> None:
        await on.start()
        put_encrypted(on, 1)
        await on.turn(1)
        assert [letter.code for letter in on.layer.letters] == ["unreadable"]
        await on.end()

    play(scene)


def test_a_layer_that_is_away_is_said_to_be_unable_to_look_and_to_take_back(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail("peek", LayerUnavailable("scripted://", "away"), times=1)
        on.layer.fail("give_back", LayerUnavailable("scripted://", "away"), times=1)
        put_encrypted(on, 2)
        await on.start()
        await on.turn(4)
        assert len(on.layer.queues["a"]) == 2
        await on.end()

    play(scene)
    told = [line.partition(":")[2].partition(",")[0] for line in lines(caplog) if "cannot" in line]
    assert told == [" cannot look for events that a key fits", " cannot return events"]
