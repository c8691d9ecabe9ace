"""When a supervisor starts, stops and replaces its workers: scripted workers, and a clock that the test turns."""

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from channelmap.supervisor import STOP_SIGNALS, Supervisor, not_ignored
from tests.turned_clock import TurnedClock, settled

Until = Callable[..., Awaitable[None]]


class ScriptedChild:
    """A worker process that does what the test says."""

    _pids = itertools.count(1_000)

    def __init__(self) -> None:
        self.pid = next(self._pids)
        self.started = self.listed = time.time()
        self.ready = False
        self.finished = False
        self.reached_max_events = False
        self.draining = asyncio.Event()
        self.files: frozenset[Path] = frozenset()
        self.killed = False
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self._code

    def drain(self) -> None:
        self.draining.set()

    def kill(self) -> None:
        self.killed = True

    def ask_files(self) -> None:
        pass

    async def end(self, code: int) -> None:
        self._code.set_result(code)
        await settled()


class Workers:
    """All that a supervisor has started, and the supervisor."""

    def __init__(self, count: int, watched: list[Path] | None) -> None:
        self.clock = TurnedClock()
        self.children: list[ScriptedChild] = []
        self.failures: list[OSError] = []
        self.supervisor = Supervisor(self._start, count, grace=40.0, watched=watched, clock=self.clock)
        self.running: asyncio.Task[int]

    async def _start(self) -> ScriptedChild:
        if self.failures:
            raise self.failures.pop()
        self.children.append(ScriptedChild())
        return self.children[-1]

    @property
    def last(self) -> ScriptedChild:
        return self.children[-1]

    async def end(self) -> int:
        """Let all that were asked to stop end with 0; return the supervisor's exit code."""
        for child in self.children:
            if child.draining.is_set() and not child._code.done():
                await child.end(0)
        return await asyncio.wait_for(self.running, 10)


@asynccontextmanager
async def workers(count: int = 1, watched: list[Path] | None = None, *, ready: bool = True) -> Any:
    """A supervisor and its first workers."""
    them = Workers(count, watched)
    them.running = asyncio.ensure_future(them.supervisor.run())
    await settled()
    for child in them.children:
        child.ready = ready
    yield them
    assert them.running.done(), "the supervisor still runs"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (2, "ended with exit code 2"),
        (70, "ended with exit code 70"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-200, "was ended by signal 200"),
    ],
)
def test_a_worker_that_served_and_ends_unasked_is_replaced_and_its_end_is_logged(
    code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with workers(2) as them:
            crashed, other = them.children
            await crashed.end(code)
            assert len(them.children) == 2
            await them.clock.turn(0.5)
            assert len(them.children) == 3
            assert not other.draining.is_set()
            them.supervisor.stop()
            assert await them.end() == 0
        assert f"worker 1 (pid {crashed.pid}) {words}; a new one starts in 0.5 s" in caplog.text

    asyncio.run(main())


def test_a_worker_that_has_handled_as_many_events_as_it_may_is_replaced_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with workers() as them:
            for count in range(2, 9):
                spent = them.last
                spent.ready = spent.reached_max_events = True
                await spent.end(0)
                assert len(them.children) == count
            them.supervisor.stop()
            assert await them.end() == 0

    caplog.set_level(logging.INFO)
    asyncio.run(main())
    assert caplog.text.count("has reached max_events: starting a new one") == 7


def test_a_spent_worker_that_crashes_all_the_same_is_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers() as them:
            them.last.reached_max_events = True
            await them.last.end(-signal.SIGSEGV)
            assert len(them.children) == 1
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())
    assert "was ended by SIGSEGV; a new one starts in 0.5 s" in caplog.text


@pytest.mark.parametrize("ready", [True, False])
def test_a_worker_whose_output_has_lost_its_reader_ends_all(*, ready: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers(2, ready=ready) as them:
            ended, other = them.children
            await ended.end(128 + signal.SIGPIPE)
            assert other.draining.is_set()
            assert await them.end() == 128 + signal.SIGPIPE
            assert len(them.children) == 2
        assert f"stdout or stderr of worker 1 (pid {ended.pid}) no longer has a reader: stopping" in caplog.text

    asyncio.run(main())


def test_a_reader_that_is_lost_while_the_workers_finish_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers(2) as them:
            them.supervisor.stop()
            them.supervisor.finish("stdout no longer has a reader")
            assert await them.end() == 0
        assert "reader" not in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize(("code", "told"), [(0, 0), (-signal.SIGTERM, 0), (15, 15), (70, 70), (-signal.SIGKILL, 137)])
def test_the_exit_code_of_a_worker_that_was_told_to_stop_is_the_supervisors(code: int, told: int) -> None:
    """One that was still starting was ended by SIGTERM, and had nothing to finish."""

    async def main() -> None:
        async with workers(ready=False) as them:
            them.supervisor.stop()
            await them.last.end(code)
            assert await them.end() == told

    asyncio.run(main())


def test_workers_that_have_ended_are_not_among_those_that_are_stopped(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers(2) as them:
            await them.children[0].end(70)
            them.supervisor.finish("enough")
            assert await them.end() == 0
        assert "enough: stopping 1 workers" in caplog.text

    asyncio.run(main())


def test_a_process_that_ignores_sighup_is_not_stopped_by_it() -> None:
    """As under `nohup`."""
    assert not_ignored(STOP_SIGNALS) == list(STOP_SIGNALS)
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in STOP_SIGNALS}
    try:
        assert not_ignored(STOP_SIGNALS) == [signal.SIGTERM, signal.SIGINT]
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@pytest.mark.parametrize("code", [1, 2])
def test_a_wrong_file_ends_all_before_any_worker_was_ready(code: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers(2, ready=False) as them:
            failed, other = them.children
            await failed.end(code)
            assert other.draining.is_set()
            await other.end(-signal.SIGTERM)
            assert await them.end() == code
            assert len(them.children) == 2
        assert (
            f"ended with exit code {code} before it was ready, and a new one would fail as well: stopping"
            in caplog.text
        )

    asyncio.run(main())


@pytest.mark.parametrize("code", [3, -signal.SIGABRT])
def test_a_crash_before_ready_is_tried_again(code: int) -> None:
    async def main() -> None:
        async with workers(ready=False) as them:
            await them.last.end(code)
            await them.clock.turn(0.5)
            assert len(them.children) == 2
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_a_replacement_that_meets_a_wrong_file_costs_no_other_worker() -> None:
    async def main() -> None:
        async with workers(2) as them:
            crashed, other = them.children
            await crashed.end(70)
            await them.clock.turn(0.5)
            await them.last.end(1)
            assert not other.draining.is_set()
            await them.clock.turn(1.0)
            assert len(them.children) == 4
            # Nor when it is the only one.
            await other.end(70)
            await them.last.end(2)
            await them.clock.turn(2.0)
            assert len(them.children) == 6
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_pauses_grow_to_half_a_minute_and_shrink_after_a_healthy_minute(caplog: pytest.LogCaptureFixture) -> None:
    def pauses() -> list[str]:
        return [record.message.rpartition(" in ")[2] for record in caplog.records if "a new one" in record.message]

    async def crash(them: Workers, *, after: float) -> None:
        them.last.ready = True
        await them.clock.turn(after)
        started = len(them.children)
        await them.last.end(70)
        while len(them.children) == started:
            await them.clock.turn(0.5)

    async def main() -> None:
        async with workers() as them:
            for _ in range(8):
                await crash(them, after=59.0)
            assert pauses() == [f"{pause:.1f} s" for pause in (0.5, 1, 2, 4, 8, 16, 30, 30)]
            await crash(them, after=60.0)
            await crash(them, after=1.0)
            assert pauses()[8:] == ["0.5 s", "1.0 s"]
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_a_long_start_that_fails_is_not_a_healthy_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers(ready=False) as them:
            for pause in (0.5, 1.0):
                await them.clock.turn(100.0)
                await them.last.end(3)
                assert f"a new one starts in {pause} s" in caplog.text
                await them.clock.turn(pause)
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_no_worker_starts_after_a_stop_during_a_pause() -> None:
    async def main() -> None:
        async with workers() as them:
            await them.last.end(70)
            them.supervisor.stop()
            await them.clock.turn(60.0)
            assert await them.end() == 0
            assert len(them.children) == 1

    asyncio.run(main())


def test_no_worker_starts_after_a_stop_while_a_broken_file_waits_to_be_mended(tmp_path: Path) -> None:
    async def main() -> None:
        async with workers(watched=[tmp_path], ready=False) as them:
            await them.last.end(1)
            assert not them.running.done()
            them.supervisor.stop()
            assert await them.end() == 0
            assert len(them.children) == 1

    asyncio.run(main())


def test_a_worker_that_was_being_started_at_the_stop_is_asked_to_stop_and_later_killed() -> None:
    async def main() -> None:
        them = Workers(1, None)
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def start_slowly() -> ScriptedChild:
            begun.set()
            await go_on.wait()
            return await them._start()

        supervisor = Supervisor(start_slowly, 1, grace=1.0, clock=them.clock)
        running = asyncio.ensure_future(supervisor.run())
        await begun.wait()
        supervisor.stop()
        go_on.set()
        await settled()
        assert them.last.draining.is_set()
        supervisor.stop()
        assert them.last.killed
        await them.last.end(-signal.SIGKILL)
        assert await asyncio.wait_for(running, 10) == 128 + signal.SIGKILL

    asyncio.run(main())


def test_workers_that_finish_by_themselves_are_not_replaced_and_the_first_failure_is_the_exit_code() -> None:
    async def main() -> None:
        async with workers(3) as them:
            for child, code in zip(list(them.children), (0, 1, 0), strict=True):
                child.finished = True
                await child.end(code)
            assert await them.end() == 1
            assert len(them.children) == 3

    asyncio.run(main())


def test_a_crash_in_the_middle_of_a_burst_is_replaced() -> None:
    async def main() -> None:
        async with workers() as them:
            await them.last.end(-signal.SIGKILL)
            await them.clock.turn(0.5)
            them.last.finished = True
            await them.last.end(0)
            assert await them.end() == 0
            assert len(them.children) == 2

    asyncio.run(main())


def test_a_worker_that_does_not_stop_is_killed_and_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers() as them:
            them.supervisor.stop()
            await settled()
            await them.clock.turn(39.0)
            assert not them.last.killed
            await them.clock.turn(1.0)
            assert them.last.killed
            await them.last.end(-signal.SIGKILL)
            assert await them.end() == 128 + signal.SIGKILL
        assert "has not stopped for 40 s: killing it" in caplog.text

    asyncio.run(main())


def test_a_process_that_the_system_does_not_start_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with workers() as them:
            them.failures = [BlockingIOError(11, "Resource temporarily unavailable")]
            await them.last.end(70)
            await them.clock.turn(0.5)
            assert len(them.children) == 1
            await them.clock.turn(1.0)
            assert len(them.children) == 2
            them.supervisor.stop()
            assert await them.end() == 0
        assert "worker 1 cannot be started: Resource temporarily unavailable; a new one starts in 1.0 s" in caplog.text

    asyncio.run(main())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_and_is_logged(signum: signal.Signals, caplog: pytest.LogCaptureFixture, until: Until) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with workers(2) as them:
            signal.raise_signal(signum)
            await until(lambda: all(child.draining.is_set() for child in them.children))
            assert not any(child.killed for child in them.children)
            signal.raise_signal(signum)
            await until(lambda: all(child.killed for child in them.children))
            # A storm changes nothing more.
            for _ in range(10):
                signal.raise_signal(signum)
            await settled()
            assert await them.end() == 0
        assert f"{signum.name}: stopping 2 workers" in caplog.text

    asyncio.run(main())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text("1")
    return path


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "#")


def changed(path: Path) -> float:
    return path.stat().st_ctime


async def look(them: Workers) -> None:
    """Let the supervisor look at its files twice: the first look may only learn them."""
    for _ in range(2):
        await them.clock.turn(0.5)


def test_all_changes_while_a_worker_finishes_lead_to_one_drain_and_one_new_worker(source: Path, until: Until) -> None:
    async def main() -> None:
        async with workers(watched=[source.parent]) as them:
            first = them.last
            first.started += 60
            first.files = frozenset({source})
            await look(them)
            edit(source)
            await look(them)
            await until(first.draining.is_set)
            edit(source)
            await look(them)
            assert not first.killed
            assert len(them.children) == 1
            await first.end(0)
            await until(lambda: len(them.children) == 2)
            them.last.ready, them.last.files = True, frozenset({source})
            them.last.started += 60
            await look(them)
            assert not them.last.draining.is_set()
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_a_change_while_a_worker_starts_is_remembered(source: Path, until: Until) -> None:
    async def main() -> None:
        async with workers(watched=[source.parent], ready=False) as them:
            first = them.last
            first.started = 0.0
            await look(them)
            first.ready, first.files = True, frozenset({source})
            await look(them)
            await until(first.draining.is_set)
            await first.end(0)
            await until(lambda: len(them.children) == 2)
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_a_module_that_was_edited_before_the_worker_said_that_it_has_loaded_it_has_changed(
    source: Path, until: Until
) -> None:
    async def main() -> None:
        async with workers(watched=[source.parent]) as them:
            them.last.started = them.last.listed = changed(source) + 1
            them.last.files = frozenset({source})
            await look(them)
            later = source.with_name("later.py")
            later.write_text("1")
            them.last.listed = changed(later) - 1
            # Looks while the worker has yet to answer.
            await look(them)
            them.last.files |= {later}
            await look(them)
            await until(them.last.draining.is_set)
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


@pytest.mark.parametrize("change", ["edited", "made", "removed"])
def test_a_file_that_is_mended_starts_the_worker_that_could_not_start_and_from_then_on_only_its_own_files_count(
    change: str, source: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    other = source.with_name("other.py")
    other.write_text("1")

    async def main() -> None:
        # A file that was written a tick before the start may have been written after it.
        await until(lambda: time.time() > changed(other) + 0.02)
        async with workers(watched=[source.parent], ready=False) as them:
            await them.last.end(1)
            await look(them)
            await look(them)
            assert len(them.children) == 1
            if change == "edited":
                edit(other)
            elif change == "made":
                other.with_name("another.py").write_text("1")
            else:
                other.unlink()
            await look(them)
            await until(lambda: len(them.children) == 2)
            mended = them.last
            mended.started = mended.listed = time.time() + 60
            mended.ready, mended.files = True, frozenset({source})
            await look(them)
            other.write_text("not loaded")
            await look(them)
            assert not mended.draining.is_set()
            edit(source)
            await look(them)
            await until(mended.draining.is_set)
            them.supervisor.stop()
            assert await them.end() == 0

    caplog.set_level(logging.INFO)
    asyncio.run(main())
    assert f"{other.name if change != 'made' else 'another.py'} changed: restarting the workers" in caplog.text
    assert "work.py changed: restarting the workers" in caplog.text


def test_a_worker_that_does_not_become_ready_is_replaced_when_any_source_file_changes(
    source: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with workers(watched=[source.parent], ready=False) as them:
            first = them.last
            await look(them)
            edit(source)
            await look(them)
            # It may still become ready, and say what it has loaded.
            assert not first.draining.is_set()
            first.started -= 11
            await look(them)
            await until(first.draining.is_set)
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_several_changes_at_once_are_one_and_are_counted(
    source: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    others = [source.with_name(name) for name in ("another.py", "more.py")]
    for other in others:
        other.write_text("1")

    async def main() -> None:
        async with workers(watched=[source.parent]) as them:
            for first, *more in ([source], others, [source, *others]):
                worker = them.last
                worker.started = worker.listed = time.time() + 60
                worker.ready, worker.files = True, frozenset({source, *others})
                await look(them)
                for path in (first, *more):
                    edit(path)
                await look(them)
                await until(worker.draining.is_set)
                await worker.end(0)
            them.supervisor.stop()
            assert await them.end() == 0

    caplog.set_level(logging.INFO)
    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records if "restarting the workers" in record.getMessage()]
    assert told == [
        "work.py changed: restarting the workers",
        "another.py and 1 more changed: restarting the workers",
        "another.py and 2 more changed: restarting the workers",
    ]


def test_a_change_shortens_the_pause_after_a_crash(source: Path, until: Until) -> None:
    async def main() -> None:
        async with workers(watched=[source.parent]) as them:
            them.last.started += 60
            them.last.files = frozenset({source})
            await look(them)
            for _ in range(2):
                await them.last.end(70)
                await them.clock.turn(1.0)
            await them.last.end(70)
            started = len(them.children)
            edit(source)
            await them.clock.turn(0.5)
            await until(lambda: len(them.children) > started)
            them.supervisor.stop()
            assert await them.end() == 0

    asyncio.run(main())


def test_an_end_of_watching_stops_the_workers_loudly(
    source: Path, caplog: pytest.LogCaptureFixture, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with workers(watched=[source.parent]) as them:

            async def fail(_seconds: float) -> None:
                raise RuntimeError("the clock is broken")

            monkeypatch.setattr(them.clock, "sleep", fail)
            await them.clock.turn(0.5)
            await until(them.last.draining.is_set)
            assert await them.end() == 0
        assert "source files are no longer watched: stopping" in caplog.text

    asyncio.run(main())
