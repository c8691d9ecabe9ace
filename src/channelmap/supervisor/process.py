"""One worker process of a supervisor: start, drain, kill and reports."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from channelmap.supervisor.link import ASK_FILES, REPORTS, VARIABLE


class WorkerProcess:
    """A process that is connected by a socket, through which it reports and is asked to stop.

    Closing the socket asks the worker to stop. So the worker also stops when the supervisor dies, and a second request
    has no effect.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        connection: socket.socket,
        monitored: Callable[[int, dict[str, Any] | None], None] | None,
    ) -> None:
        self.pid = process.pid
        self.started = self.listed = time.time()
        self.ready = False
        self.finished = False
        self.reached_max_events = False
        self.draining = asyncio.Event()
        self.files: frozenset[Path] = frozenset()
        self._process = process
        self._connection = connection
        self._monitored = monitored
        self._partial_line = b""
        asyncio.get_running_loop().add_reader(connection, self._receive)

    @classmethod
    async def start(
        cls, command: Sequence[str], monitored: Callable[[int, dict[str, Any] | None], None] | None = None
    ) -> "WorkerProcess":
        """Start a process that runs `command`.

        Args:
            command: the program and its arguments.
            monitored: called with the process id and each report for the monitor, and with `None` at the end of the
                process; `None` if there is no monitor.

        Raises:
            OSError: the system cannot start a process.

        """
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs:
            try:
                # A session of its own: Ctrl-C reaches all processes of a terminal, and would be a second signal.
                process = await asyncio.create_subprocess_exec(
                    *command,
                    pass_fds=(theirs.fileno(),),
                    env=os.environ | {VARIABLE: f"{theirs.fileno()}{REPORTS if monitored else ''}"},
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours, monitored)

    async def wait(self) -> int:
        """Wait for the end of the process; return its exit code, or the negative number of a signal."""
        try:
            code = await self._process.wait()
            self._receive()
        finally:
            asyncio.get_running_loop().remove_reader(self._connection)
            self._connection.close()
            if self._monitored is not None:
                self._monitored(self.pid, None)
        return code

    def drain(self) -> None:
        """Ask the process to finish its events in flight and end; a process that is not ready ends at once."""
        if self.draining.is_set():
            return
        self.draining.set()
        self._receive()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        if not self.ready:
            self._signal(signal.SIGTERM)
        # Resume a suspended process, so that it can stop.
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process."""
        self._signal(signal.SIGKILL)

    def ask_files(self) -> None:
        """Ask for the loaded source files; a worker that is not ready is not asked."""
        if self.ready:
            with suppress(OSError):
                self._connection.send(ASK_FILES)

    def _signal(self, signum: int) -> None:
        # Not `send_signal`: it polls the process, and would consume the exit code that `wait` needs.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _receive(self) -> None:
        """Read the reports that have arrived."""
        with suppress(BlockingIOError):
            while data := self._read():
                *lines, self._partial_line = (self._partial_line + data).split(b"\n")
                for line in lines:
                    self._handle_report(json.loads(line))

    def _read(self) -> bytes:
        try:
            data = self._connection.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._connection)
        return data

    def _handle_report(self, report: dict[str, Any]) -> None:
        self.ready = self.ready or report.get("state") == "ready"
        self.finished = self.finished or report.get("state") == "finished"
        self.reached_max_events = self.reached_max_events or report.get("state") == "spent"
        if "monitor" in report and self._monitored is not None:
            self._monitored(self.pid, report["monitor"])
        if "files" in report:
            self.files, self.listed = frozenset(map(Path, report["files"])), report["listed"]


def command_line(arguments: Sequence[str], start: Sequence[str] | None = None) -> list[str]:
    """Return the command that runs `channelmap` with these arguments in this interpreter.

    `-P` keeps the working directory off the import path until channelmap adds it. `start` is another way to start it.
    """
    return [*(start or (sys.executable, "-P", "-m", "channelmap")), *arguments]
