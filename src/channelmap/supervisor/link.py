"""A worker's end of the socket between it and its supervisor."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal

#: The environment variable with the number of the socket.
VARIABLE = "CHANNELMAP_SUPERVISOR"
#: What a supervisor sends to learn which files are loaded.
ASK_FILES = b"f"
#: Seconds that a report may take: a supervisor that does not read holds up no worker.
_PATIENCE = 1.0


class Link:
    """Reports to a supervisor, and listens to it; without one, reports go nowhere and nothing is heard.

    Args:
        connection: the socket; `None` for a worker without a supervisor.

    """

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection

    @classmethod
    def from_environment(cls) -> "Link":
        """Return this process's own end, and forget it: what a handler starts is not the supervisor's child."""
        number = int(os.environ.pop(VARIABLE, "-1"))
        if number < 0:
            return cls(None)
        connection = socket.socket(fileno=number)
        connection.set_inheritable(False)
        connection.settimeout(_PATIENCE)
        return cls(connection)

    def listen(self, stop: Callable[[], None], files: Callable[[], Iterable[str]]) -> None:
        """Listen in the running event loop.

        Args:
            stop: called when the supervisor wants the worker to stop, or has gone.
            files: the source files that are loaded.

        """
        if self._connection is not None:
            asyncio.get_running_loop().add_reader(self._connection, self._hear, self._connection, stop, files)

    def report(self, state: Literal["ready", "finished", "spent"]) -> None:
        """Say that the worker serves, that it ends for good, or that it ends and another is to take its place."""
        self._send({"state": state})

    def close(self) -> None:
        """Close this end."""
        if self._connection is not None:
            self._connection.close()

    def _hear(self, connection: socket.socket, stop: Callable[[], None], files: Callable[[], Iterable[str]]) -> None:
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
