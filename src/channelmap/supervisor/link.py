"""The worker's end of the socket to its supervisor."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal

#: The environment variable with the file descriptor of the socket, and `REPORTS` if the supervisor wants reports.
VARIABLE = "CHANNELMAP_SUPERVISOR"
REPORTS = ":reports"
#: The message with which a supervisor asks for the loaded files.
ASK_FILES = b"f"
#: Timeout of a report in seconds: a supervisor that does not read must not block the worker.
_SEND_TIMEOUT_SECS = 1.0


class Link:
    """A worker's connection to its supervisor; without a supervisor, all methods do nothing.

    Args:
        connection: the socket; `None` for a worker without a supervisor.
        wants_reports: whether the supervisor has a monitor.

    """

    def __init__(self, connection: socket.socket | None, *, wants_reports: bool = False) -> None:
        self._connection = connection
        self.wants_reports = wants_reports

    @classmethod
    def from_environment(cls) -> "Link":
        """Return the link of this process, and remove it from the environment of child processes."""
        number, _, reports = os.environ.pop(VARIABLE, "-1").partition(":")
        if int(number) < 0:
            return cls(None)
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        connection.settimeout(_SEND_TIMEOUT_SECS)
        return cls(connection, wants_reports=bool(reports))

    def listen(self, stop: Callable[[], None], files: Callable[[], Iterable[str]]) -> None:
        """Listen in the running event loop.

        Args:
            stop: called when the supervisor asks the worker to stop, or has ended.
            files: function that returns the loaded source files.

        """
        if self._connection is not None:
            asyncio.get_running_loop().add_reader(self._connection, self._handle_input, self._connection, stop, files)

    def report(self, state: Literal["ready", "finished", "spent"]) -> None:
        """Report that the worker serves, ends for good, or ends and should be replaced."""
        self._send({"state": state})

    def report_to_monitor(self, report: dict[str, Any]) -> None:
        """Send a report for the monitor of the supervisor."""
        self._send({"monitor": report})

    def close(self) -> None:
        """Close this end."""
        if self._connection is not None:
            self._connection.close()

    def _handle_input(
        self, connection: socket.socket, stop: Callable[[], None], files: Callable[[], Iterable[str]]
    ) -> None:
        try:
            data = connection.recv(1 << 10)
        except ConnectionError:
            data = b""
        if data:
            self._send({"listed": time.time(), "files": sorted(files())})
        else:
            asyncio.get_running_loop().remove_reader(connection)
            stop()

    def _send(self, report: dict[str, Any]) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.sendall(json.dumps(report).encode() + b"\n")
