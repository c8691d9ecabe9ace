"""One worker process, as its supervisor sees it: started, asked to stop, killed, and what it reports."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from channelmap.supervisor.link import ASK_FILES, VARIABLE


class WorkerProcess:
    """A real process at the other end of a socket, by which it reports and is asked to stop.

    The socket's end means "stop": so the worker also stops when the supervisor has gone, and being asked twice is
    being asked once.
    """

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self.pid = process.pid
        self.started = self.listed = time.time()
        self.ready = False
        self.finished = False
        self.is_spent = False
        self.draining = asyncio.Event()
        self.files: frozenset[Path] = frozenset()
        self._process = process
        self._connection = connection
        self._rest = b""
        asyncio.get_running_loop().add_reader(connection, self._receive)

    @classmethod
    async def start(cls, command: Sequence[str]) -> "WorkerProcess":
        """Start a process that runs `command`; OSError when the system cannot."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs:
            try:
                # A session of its own: Ctrl-C reaches all processes of a terminal, and a second signal means "at once".
                process = await asyncio.create_subprocess_exec(
                    *command,
                    pass_fds=(theirs.fileno(),),
                    env=os.environ | {VARIABLE: str(theirs.fileno())},
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    async def wait(self) -> int:
        """Wait for the end of the process; return its exit code, or the negative number of a signal."""
        try:
            code = await self._process.wait()
            self._receive()
        finally:
            asyncio.get_running_loop().remove_reader(self._connection)
            self._connection.close()
        return code

    def drain(self) -> None:
        """Ask the process to finish its current events and end; one that is not ready ends at once."""
        if self.draining.is_set():
            return
        self.draining.set()
        self._receive()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        if not self.ready:
            self._signal(signal.SIGTERM)
        # One that was halted cannot stop.
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)

    def ask_files(self) -> None:
        """Ask a worker that is ready which source files it has loaded."""
        if self.ready:
            with suppress(OSError):
                self._connection.send(ASK_FILES)

    def _signal(self, signum: int) -> None:
        # Not by `send_signal`: it asks whether the process has ended, and so takes the exit code that `wait` waits for.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _receive(self) -> None:
        """Read what the worker reports, as far as it is there."""
        with suppress(BlockingIOError):
            while data := self._read():
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))

    def _read(self) -> bytes:
        try:
            data = self._connection.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._connection)
        return data

    def _hear(self, report: dict[str, Any]) -> None:
        self.ready = self.ready or report.get("state") == "ready"
        self.finished = self.finished or report.get("state") == "finished"
        self.is_spent = self.is_spent or report.get("state") == "spent"
        if "files" in report:
            self.files, self.listed = frozenset(map(Path, report["files"])), report["listed"]


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `channelmap` with these arguments in this interpreter.

    With `-P` the working directory is not on the path of imports before channelmap puts it there.
    """
    return [sys.executable, "-P", "-m", "channelmap", *arguments]
