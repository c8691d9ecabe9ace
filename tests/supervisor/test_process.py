"""One worker process, as its supervisor sees it."""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from channelmap.supervisor import WorkerProcess, command_line

Until = Callable[..., Awaitable[None]]


async def code_of(command: Sequence[str], kills: int) -> int:
    process = await WorkerProcess.start(command)
    for _ in range(kills):
        process.kill()
    code = await process.wait()
    # It has ended: this does nothing.
    process.kill()
    return code


def test_signals_to_a_process_that_ends_leave_its_exit_code_to_the_one_who_waits() -> None:
    """Asking whether a process has ended takes its exit code from the kernel, which gives it once."""

    async def codes() -> set[int]:
        return {await code_of(["sleep", "60"], kills=200) for _ in range(20)}

    assert asyncio.run(codes()) == {-signal.SIGKILL}


def test_a_process_that_has_ended_keeps_its_code_and_may_be_killed_again() -> None:
    assert asyncio.run(code_of(["sh", "-c", "exit 7"], kills=0)) == 7


def shell(script: str) -> list[str]:
    """Return the command of a worker in the shell; `$S` is its end of the socket."""
    return ["bash", "-c", f"S=$CHANNELMAP_SUPERVISOR; {script}"]


READY = 'echo \'{"state": "ready"}\' >&$S'
UNTIL_DRAINED = "while read -N 1 word <&$S; do :; done"


def test_what_a_worker_has_said_before_its_end_is_known_when_it_has_ended() -> None:
    async def said(words: str) -> tuple[int, bool, bool, bool]:
        process = await WorkerProcess.start(shell(f"echo '{words}' >&$S"))
        return await process.wait(), process.ready, process.finished, process.reached_max_events

    async def main() -> None:
        assert await said('{"state": "ready"}') == (0, True, False, False)
        assert await said('{"state": "ready"}\n{"state": "spent"}') == (0, True, False, True)
        assert await said('{"state": "finished"}') == (0, False, True, False)

    asyncio.run(main())


def test_a_monitor_gets_the_reports_of_a_worker_and_its_end() -> None:
    got: list[tuple[int, Any]] = []

    async def main() -> int:
        process = await WorkerProcess.start(
            shell('n=${S%%:*}; [ "$S" = "$n:reports" ] || exit 9; echo \'{"monitor": {"ready": true}}\' >&$n'),
            lambda pid, report: got.append((pid, report)),
        )
        assert await process.wait() == 0
        return process.pid

    pid = asyncio.run(main())
    assert got == [(pid, {"ready": True}), (pid, None)]


def test_without_a_monitor_a_worker_is_not_asked_for_reports_and_those_it_sends_are_left() -> None:
    async def main() -> int:
        process = await WorkerProcess.start(
            shell('[[ $S != *:* ]] || exit 9; echo \'{"monitor": {"ready": true}}\' >&$S')
        )
        return await process.wait()

    assert asyncio.run(main()) == 0


def test_a_worker_that_is_ready_is_asked_to_stop_by_the_end_of_the_socket_once(until: Until) -> None:
    async def main() -> int:
        process = await WorkerProcess.start(shell(f"trap 'exit 1' TERM; {READY}; {UNTIL_DRAINED}; exit 7"))
        await until(lambda: process.ready)
        process.drain()
        process.drain()
        assert process.draining.is_set()
        return await process.wait()

    assert asyncio.run(main()) == 7


def test_a_worker_that_is_not_ready_is_ended_at_once() -> None:
    async def main() -> int:
        process = await WorkerProcess.start(["sleep", "60"])
        process.drain()
        return await process.wait()

    assert asyncio.run(main()) == -signal.SIGTERM


def test_a_worker_that_was_halted_stops_too(until: Until) -> None:
    async def main() -> int:
        process = await WorkerProcess.start(shell(f"{READY}; kill -STOP $$; {UNTIL_DRAINED}; exit 7"))
        await until(lambda: process.ready and " T " in Path(f"/proc/{process.pid}/stat").read_text())
        process.drain()
        return await process.wait()

    assert asyncio.run(main()) == 7


def test_a_worker_says_which_files_it_has_loaded_and_when_it_listed_them(until: Until) -> None:
    answer = json.dumps({"listed": 12.5, "files": ["/b.py", "/a.py"]})

    async def main() -> None:
        answering = f"{READY}; read -N 1 word <&$S; echo '{answer}' >&$S; {UNTIL_DRAINED}"
        process = await WorkerProcess.start(shell(answering))
        assert process.listed == process.started <= time.time()
        # One that is not ready is not asked.
        process.ask_files()
        assert process.files == frozenset()
        await until(lambda: process.ready)
        process.ask_files()
        await until(lambda: process.files)
        process.drain()
        await process.wait()
        assert process.files == {Path("/a.py"), Path("/b.py")}
        assert process.listed == 12.5
        # It has gone.
        process.ask_files()

    asyncio.run(main())


def test_a_worker_has_a_session_of_its_own() -> None:
    async def main() -> None:
        process = await WorkerProcess.start(["sleep", "60"])
        assert os.getsid(process.pid) == process.pid
        process.kill()
        await process.wait()

    asyncio.run(main())


def test_a_command_that_cannot_run_is_an_error_and_leaves_no_socket_open() -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await WorkerProcess.start(["/no/such/program"])
        gc.collect()

    asyncio.run(main())


def test_a_worker_runs_in_this_interpreter_without_the_working_directory() -> None:
    assert command_line(["runworker"]) == [sys.executable, "-P", "-m", "channelmap", "runworker"]
