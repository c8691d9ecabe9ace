"""The log of a worker says what happens, once, and is not flooded by what happens to thousands of events."""

import pytest

from channelmap.limits import Service
from tests.worker.scripted import LEASED, Stage, away, job, jobs, lines, play


def test_a_flood_of_rejections_is_ten_lines_a_second_and_their_number(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(500, rejected="too large"))
        await on.start({"a": Service()})
        await on.turn(3)

    play(scene)
    assert lines(caplog) == ["too large; kept as a dead letter"] * 10 + [
        "channel 'a' rejected 490 more events [schema-mismatch]; kept as dead letters"
    ]


def test_ten_rejections_are_ten_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(10, rejected="too large"))
        await on.start({"a": Service()})
        await on.turn(3)
        on.layer.fill("a", jobs(10, rejected="too large"))
        await on.turn(3)

    play(scene)
    assert lines(caplog) == ["too large; kept as a dead letter"] * 20


def test_a_flood_that_goes_on_is_counted_in_each_second(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(25, rejected="large"))
        await on.start({"a": Service()})
        await on.turn(1.5)
        on.layer.fill("a", jobs(30, rejected="large"))
        await on.turn(5)
        on.layer.fill("a", jobs(3, rejected="large"))
        await on.turn(5)
        on.layer.fill("a", jobs(11, rejected="large"))
        await on.turn(5)

    play(scene)
    more = "channel 'a' rejected {} more events [schema-mismatch]; kept as dead letters"
    line = "large; kept as a dead letter"
    assert lines(caplog) == [
        *[line] * 10, more.format(15), *[line] * 10, more.format(20), *[line] * 3, *[line] * 10, more.format(1),
    ]  # fmt: skip


def test_each_channel_and_code_has_its_own_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(12, rejected="large"), *jobs(1, rejected="unknown", code="unknown-type")])
        on.layer.fill("b", jobs(1, rejected="large in b"))
        await on.start({"a": Service(), "b": Service()})
        await on.turn(3)

    play(scene)
    assert {line.split(";")[0] for line in lines(caplog)} == {
        "large", "unknown", "large in b", "channel 'a' rejected 2 more events [schema-mismatch]",
    }  # fmt: skip


def test_a_flood_of_undeliverable_events_is_counted_for_each_channel_and_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(on: Stage) -> None:
        for channel in ("a", "b"):
            for number in range(12):
                on.layer.put(channel, {"n": number})
        await on.start({"a": Service(), "b": Service()})
        await on.turn(3)

    play(scene)
    undeliverable = [record for record in caplog.records if "no type" in record.getMessage()]
    assert {getattr(record, "code", None) for record in undeliverable} == {"unreadable"}
    assert sorted(line for line in lines(caplog) if "more" in line) == [
        "channel 'a': 2 more events kept as dead letters", "channel 'b': 2 more events kept as dead letters",
    ]  # fmt: skip


def test_a_single_further_line_is_counted_and_the_next_second_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(11, rejected="large"))
        await on.start({"a": Service()})
        await on.turn(1.5)
        on.layer.fill("a", jobs(10, rejected="large"))
        await on.turn(0.1)
        assert len(lines(caplog)) == 10 + 1 + 10
        # The second interval began when the first one ended, and this is still in it.
        on.layer.fill("a", jobs(1, rejected="large"))
        await on.turn(0.1)
        assert len(lines(caplog)) == 10 + 1 + 10
        await on.turn(0.4)
        assert lines(caplog)[-1] == "channel 'a' rejected 1 more events [schema-mismatch]; kept as dead letters"

    play(scene)


def test_after_ten_lines_a_second_begins_with_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(10, rejected="large"))
        await on.start({"a": Service()})
        await on.turn(1.5)
        on.layer.fill("a", jobs(11, rejected="large"))
        await on.turn(0.9)
        assert len(lines(caplog)) == 20
        await on.turn(0.2)
        assert lines(caplog)[20:] == ["channel 'a' rejected 1 more events [schema-mismatch]; kept as dead letters"]

    play(scene)


def test_a_worker_that_stops_says_what_it_has_not_said_yet(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(15, rejected="large"))
        await on.start({"a": Service()})
        await on.end()

    play(scene)
    assert lines(caplog)[-1] == "channel 'a' rejected 5 more events [schema-mismatch]; kept as dead letters"


def test_a_lost_layer_is_not_a_line_for_each_of_many_channels(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fail("take", away())
        await on.start({f"c{number}": Service() for number in range(1_000)})
        await on.turn(1)
        assert [line.split(": ")[0] for line in lines(caplog)[:10]] == [f"channel 'c{n}'" for n in range(10)]
        assert lines(caplog)[10:]
        assert all("more calls to the layer failed" in line for line in lines(caplog)[10:])
        on.layer.heal("take")
        for number in range(1_000):
            on.layer.fill(f"c{number}", jobs(1))
        await on.turn(10)

    play(scene)
    back = [line for line in lines(caplog) if "the layer is back" in line]
    assert 11 <= len(back) < 50
    assert any("more channels" in line for line in back)


def test_a_handler_that_runs_for_long_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=100), job(1, takes=10), *jobs(3, first=2)])
        await on.start({"a": Service(warn_after=20.0)})
        await on.turn(19)
        assert lines(caplog) == []
        await on.turn(4)
        assert lines(caplog) == ["channel 'a': the handler of 'job' has been running for 20 s (warn_after)"]
        await on.turn(200)

    play(scene)
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize("service", [Service(warn_after=None), Service(warn_after=200.0)])
def test_a_handler_that_may_run_for_long_is_not_named(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=90), job(1, takes=150)])
        await on.start({"a": service})
        await on.turn(300)

    play(scene)
    assert lines(caplog) == []


def test_each_slot_of_a_channel_is_watched(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=100), job(1, takes=100)])
        await on.start({"a": Service(warn_after=20.0, concurrency=2, retry=LEASED.retry)}, prefetch_work=1)
        await on.turn(30)

    play(scene)
    assert len([line for line in lines(caplog) if "has been running" in line]) == 2
