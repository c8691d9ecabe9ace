"""One worker process, as its supervisor sees it."""

import asyncio
import signal
from collections.abc import Sequence

from channelmap.supervisor import WorkerProcess


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
