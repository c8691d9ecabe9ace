"""Leases are renewed every third of their time, for everything that the worker holds and for nothing else."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from channelmap.asgi import Event
from channelmap.layer import Delivery
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import Timing
from channelmap.worker.ledger import Ledger
from channelmap.worker.renewal import Renewal
from channelmap.worker.steps import Steps
from tests.turned_clock import TurnedClock
from tests.worker.scripted import LEASED, ScriptedLayer, Stage, away, job, jobs, lines, play


def renewals(on: Stage) -> list[tuple[float, list[Any]]]:
    return [(call.time, sorted(call.numbers)) for call in on.layer.of("renew")]


@pytest.mark.parametrize(
    ("events", "hangs", "held"),
    [
        pytest.param([job(0, takes=25)], (), [0], id="current"),
        pytest.param([job(0), job(1, takes=25), job(2)], (), [1, 2], id="prefetched"),
        pytest.param([job(0)], ("settle",), [0], id="settling"),
        pytest.param([job(0, fails="boom")], ("retry",), [0], id="retrying"),
        pytest.param([job(0, rejected="bad")], ("bury_many",), [0], id="dying"),
        pytest.param([{"n": 0}], ("bury_many",), [0], id="unreadable"),
    ],
)
def test_what_is_held_in_any_state_is_renewed_every_third_of_its_lease_and_no_longer(
    events: list[Event], hangs: tuple[str, ...], held: list[int]
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", events)
        on.layer.hang(*hangs)
        await on.start({"a": Service(retry=RetryPolicy(delay=1_000))}, lease=30, return_after=1_000)
        await on.turn(24)
        assert renewals(on) == [(10, held), (20, held)]
        assert {call.amount for call in on.layer.of("renew")} == on.layer.leases == {30}
        on.layer.go_on(*hangs)
        await on.turn(60)
        assert len(renewals(on)) == 2
        assert not on.layer.out

    play(scene)


def test_what_is_on_its_way_back_is_renewed() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0), job(1, takes=25), job(2)])
        on.layer.hang("give_back")
        await on.start(lease=30)
        await on.turn(10)
        assert on.layer.of("give_back")[0].numbers == [2]
        assert renewals(on) == [(10, [1, 2])]

    play(scene)


def test_what_no_key_fits_is_renewed_while_the_worker_looks_for_the_right_key() -> None:
    async def scene(on: Stage) -> None:
        on.layer.put("a", None, problem="no key fits", encrypted=True)
        on.layer.hang("peek")
        await on.start(lease=30)
        await on.turn(20)
        assert renewals(on) == [(10, [None]), (20, [None])]

    play(scene)


@pytest.mark.parametrize("hangs", [(), ("begin",)])
def test_suspects_that_wait_for_their_turn_or_for_the_layer_are_renewed(hangs: tuple[str, ...]) -> None:
    async def scene(on: Stage) -> None:
        for number in range(2):
            on.layer.put("a", job(number, takes=15), suspect=True)
        on.layer.hang(*hangs)
        await on.start({"a": Service(concurrency=2, retry=RetryPolicy())}, lease=30)
        await on.turn(10)
        assert on.application.begun == ([] if hangs else [(0, 0)])
        assert renewals(on) == [(10, [0, 1])]
        on.layer.go_on(*hangs)
        await on.turn(50)
        assert on.application.begun == ([(10, 0), (25, 1)] if hangs else [(0, 0), (15, 1)])
        assert not on.layer.out

    play(scene)


def test_a_worker_that_holds_nothing_renews_nothing_and_at_most_once_is_not_renewed() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("c", [job(0, takes=50)])
        await on.start({"a": LEASED, "b": LEASED, "c": Service()})
        await on.turn(100)
        assert on.layer.of("renew") == []
        assert on.layer.leases == {None}

    play(scene)


def test_a_renewal_that_hangs_is_given_up_after_a_third_of_the_lease_and_made_again_before_the_lease_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=100)])
        on.layer.fill("b", [job(1, takes=100)])
        on.layer.hang("renew")
        await on.start({"a": LEASED, "b": LEASED}, lease=30)
        await on.turn(10)
        assert renewals(on) == [(10, [0]), (10, [1])]
        assert lines(caplog) == []
        on.layer._closed.clear()
        await on.turn(29)
        assert on.layer.given_up == [(20, "renew"), (20, "renew")]
        assert renewals(on)[2:] == [(20, [0]), (20, [1]), (30, [0]), (30, [1])]

        words = [f"channel '{name}': cannot renew its leases: the layer does not answer" for name in "ab"]
        assert lines(caplog) == words

    play(scene)


@pytest.mark.parametrize(
    ("error", "words", "is_explained"),
    [
        (away(), "scripted://: away", False),
        (TimeoutError(), "the layer does not answer", False),
        (OSError("gone"), "gone", True),
        (RuntimeError("no idea"), "no idea", True),
    ],
)
def test_a_renewal_that_fails_is_logged_and_made_again(
    error: Exception, words: str, *, is_explained: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=100)])
        on.layer.fail("renew", error, times=1)
        await on.start(lease=30)
        await on.turn(25)
        assert renewals(on) == [(10, [0]), (20, [0])]
        assert not on.worker.broken

    play(scene)
    assert lines(caplog)[:1] == [f"channel 'a': cannot renew its leases: {words}"]
    assert bool(caplog.records[0].exc_info) is is_explained


def test_leases_are_renewed_while_a_handler_blocks_the_event_loop() -> None:
    async def scene(on: Stage) -> None:
        await on.start(lease=30)
        on.layer.fill("a", [job(0, blocks=35)])
        await on.clock.settled()
        assert on.application.done == [0]
        assert renewals(on) == [(10, [0]), (20, [0]), (30, [0])]

    play(scene)


class Watching:
    """A renewal whose `exit_stalled` only notes when it was called."""

    def __init__(self, *, stall_after: float) -> None:
        self.clock = TurnedClock()
        self.layer = ScriptedLayer(self.clock)
        self.left: list[float] = []
        ledger = Ledger()
        ledger.new_holder().current = Delivery("a", job(0), b"", 0.0)
        timing = Timing(lease=30, stall_after=stall_after, clock=self.clock)
        renewal = Renewal(
            self.layer, {"a": ledger}, timing, Steps(), exit_stalled=lambda: self.left.append(self.clock.time())
        )
        self.running = asyncio.ensure_future(renewal.run())

    @property
    def renewed(self) -> list[float]:
        return [call.time for call in self.layer.of("renew")]


def test_a_process_whose_event_loop_does_not_turn_leaves_after_that_time_and_renews_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        on = Watching(stall_after=50)
        await on.clock.joined(on.running)
        await on.clock.turn(20)
        on.clock.turn_while_blocked(100)
        # The look at 30 s found that the loop had turned since the one before.
        assert on.left == [80]
        assert on.renewed == [10, 20, 30, 40, 50, 60, 70]
        await on.running

    asyncio.run(main())
    assert lines(caplog) == ["the event loop has been blocked for 50 s: exiting; its leases will expire"]


def test_an_event_loop_that_turns_again_in_time_is_not_taken_for_stalled() -> None:
    async def main() -> None:
        on = Watching(stall_after=50)
        await on.clock.joined(on.running)
        for _ in range(5):
            on.clock.turn_while_blocked(50)
            await on.clock.turn(10)
        assert on.left == []
        assert len(on.renewed) == 30
        on.running.cancel()
        await on.clock.settled()

    asyncio.run(main())


def test_a_process_that_was_stopped_and_goes_on_is_not_taken_for_stalled() -> None:
    async def main() -> None:
        on = Watching(stall_after=50)
        await on.clock.joined(on.running)
        for _ in range(3):
            await on.clock.jump(1_000)
        assert on.left == []
        assert on.renewed == [1_000, 2_000, 3_000]
        on.running.cancel()
        await on.clock.settled()

    asyncio.run(main())


def test_a_renewal_that_cannot_start_stops_the_worker_aloud(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        on = Stage()
        monkeypatch.setattr(threading.Thread, "start", fail)
        on.layer.fill("a", jobs(3))
        await on.start()
        await on.finish()
        assert on.worker.broken
        assert on.layer.waits("a") == [0, 1, 2]
        assert not on.layer.out

    asyncio.run(main())
    words = "the renewal of leases ended unexpectedly (RuntimeError: can't start new thread): stopping the worker"
    assert lines(caplog) == [words]


def test_a_renewal_whose_thread_fails_stops_the_worker_aloud(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TurnedClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if threading.current_thread() is not threading.main_thread():
                raise OSError("the clock is broken")

    async def main() -> None:
        on = Stage(Broken())
        on.layer.fill("a", jobs(1, takes=15))
        await on.start(lease=30)
        await on.turn(20)
        assert on.running.done()
        assert on.ended_at == 15
        assert on.worker.broken

    asyncio.run(main())
    assert lines(caplog) == [
        "the renewal of leases ended unexpectedly (OSError: the clock is broken): stopping the worker"
    ]


def test_a_worker_that_leaves_prints_the_stacks_of_all_its_threads_and_ends_with_71() -> None:
    script = """
import threading
from channelmap.worker.renewal import exit_stalled

begun = threading.Event()

def handler():
    begun.set()
    threading.Event().wait()

threading.Thread(target=handler, daemon=True).start()
begun.wait()
exit_stalled()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 71
    assert "in handler" in done.stderr
    assert "in <module>" in done.stderr
