"""The readers of stdout and stderr: a pipe or a socket can lose its reader, as with `runworker | head -3`."""

import asyncio
import os
import select
import stat
from collections.abc import Callable

from channelmap.asgi import Application, Receive, Scope, Send

_STREAMS = {1: "stdout", 2: "stderr"}


def discard() -> None:
    """Let the null device take what is still written to a stream without a reader: no write or flush fails there."""
    for number in _STREAMS:
        if _has_no_reader(number):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)


class ReaderWatch:
    """Notices that stdout or stderr has lost its reader; then what is written there is discarded."""

    def __init__(self) -> None:
        #: A stream has lost its reader.
        self.lost = False
        #: Copies of the streams that can lose a reader, and their names. A handler may replace the streams themselves.
        self._copies: dict[int, str] = {}

    def start(self, call: Callable[[str], None]) -> None:
        """Watch in the running event loop; `call` is called at most once, with what happened in words."""
        self._call = call
        for number, name in _STREAMS.items():
            mode = os.fstat(number).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                copy = os.dup(number)
                self._copies[copy] = name
                # An event loop calls readers on errors too, and a lost reader is one.
                asyncio.get_running_loop().add_reader(copy, self._notified, copy)

    def look(self) -> None:
        """Look now."""
        names = [name for copy, name in self._copies.items() if _has_no_reader(copy)]
        if names:
            self.close()
            discard()
            self.lost = True
            self._call(f"{' and '.join(names)} no longer {'has' if len(names) == 1 else 'have'} a reader")

    def close(self) -> None:
        """Watch no more."""
        for copy in self._copies:
            asyncio.get_running_loop().remove_reader(copy)
            os.close(copy)
        self._copies.clear()

    def around(self, application: Application) -> Application:
        """Return an application that looks as soon as a handler fails: the next event must not fail too."""

        async def looking(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await application(scope, receive, send)
            except Exception:
                self.look()
                raise

        return looking

    def _notified(self, copy: int) -> None:
        self.look()
        if not self.lost:
            # A socket that can be read: its loss shows when a handler fails.
            asyncio.get_running_loop().remove_reader(copy)


def _has_no_reader(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
