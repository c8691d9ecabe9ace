"""One worker process, as its supervisor sees it."""

import signal

from channelmap.supervisor import WorkerProcess


async def test_signals_to_a_process_that_ends_leave_its_exit_code_to_the_one_who_waits() -> None:
    """Asking whether a process has ended takes its exit code from the kernel, which gives it once."""

    async def code_of_a_killed_process() -> int:
        process = await WorkerProcess.start(["sleep", "60"])
        for _ in range(200):
            process.kill()
        return await process.wait()

    assert {await code_of_a_killed_process() for _ in range(20)} == {-signal.SIGKILL}


async def test_a_process_that_has_ended_may_be_killed_again() -> None:
    process = await WorkerProcess.start(["sh", "-c", "exit 7"])
    assert await process.wait() == 7

    process.kill()
