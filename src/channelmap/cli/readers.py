"""The readers of stdout and stderr: a pipe or a socket can lose its reader, as with `runworker | head -3`."""

import asyncio
import os
import select
import stat
from collections.abc import Callable

from channelmap.asgi import Application, Receive, Scope, Send

_STREAMS = {1: "stdout", 2: "stderr"}


def discard() -> None:
    """Redirect streams without a reader to the null device, so that no write or flush fails."""
    for number in _STREAMS:
        if _has_no_reader(number):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)


class ReaderWatch:
    """Detect that stdout or stderr has lost its reader, and discard further output."""

    def __init__(self) -> None:
        #: A stream has lost its reader.
        self.lost = False
        #: Names of the streams that can lose a reader, by duplicated descriptor; a handler may replace the streams.
        self._copies: dict[int, str] = {}

    def start(self, call: Callable[[str], None]) -> None:
        """Watch in the running event loop; call `call` at most once, with a description."""
        self._call = call
        for number, name in _STREAMS.items():
            mode = os.fstat(number).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                copy = os.dup(number)
                self._copies[copy] = name
                # An event loop also calls readers on errors, such as a lost reader.
                asyncio.get_running_loop().add_reader(copy, self._on_event, copy)

    def check(self) -> None:
        """Check the streams now."""
        names = [name for copy, name in self._copies.items() if _has_no_reader(copy)]
        if names:
            self.close()
            discard()
            self.lost = True
            self._call(f"{' and '.join(names)} no longer {'has' if len(names) == 1 else 'have'} a reader")

    def close(self) -> None:
        """Stop watching."""
        for copy in self._copies:
            asyncio.get_running_loop().remove_reader(copy)
            os.close(copy)
        self._copies.clear()

    def around(self, application: Application) -> Application:
        """Return an application that checks the streams when a handler fails, before the next event."""

        async def checked_application(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await application(scope, receive, send)
            except Exception:
                self.check()
                raise

        return checked_application

    def _on_event(self, copy: int) -> None:
        self.check()
        if not self.lost:
            # A readable socket would call this again and again; its loss is detected when a handler fails.
            asyncio.get_running_loop().remove_reader(copy)


def _has_no_reader(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
