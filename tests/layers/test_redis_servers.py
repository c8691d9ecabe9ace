"""The servers of these tests end with them, however that comes about."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .redis_servers import wait_for

TESTS = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from redis_servers import Server
ended, running = (Server(Path(name).resolve()).start() for name in ("ended", "running"))
ended.kill()
print(running.process.pid, running.port, flush=True)
signal.pause()
"""


def test_a_server_ends_with_tests_that_are_killed(start: Callable[..., Any]) -> None:
    tests = start(str(Path(__file__).parent), command=("-c", TESTS))
    wait_for(lambda: tests.lines or tests.popen.poll() is not None, "the server")
    assert tests.lines, tests.errors
    pid, port = map(int, tests.output.split())

    tests.signal(signal.SIGKILL)

    def gone() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 20).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(gone, f"the end of the server with the id {pid}")
