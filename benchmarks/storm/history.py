"""What each process of a run has done, as lines in one pipe: a line that was written survives the writer's kill -9.

A line is shorter than PIPE_BUF, so lines of several processes never mix. A pipe is no file: a full disk loses none.
"""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple


class Record(NamedTuple):
    """One thing that a process has done.

    Attributes:
        what: `try`, `acknowledged` or `failed` by a sender; by a handler `begin`, and then `end`, `retry` before it
            raises `Retry`, or `reject` before it raises `Reject`; `pause` when a channel was paused, and `resume`
            before it is resumed.
        channel: the channel's name.
        id: the event's id, unique in the run; empty for `pause` and `resume`.
        pid: the process.
        at: when, in seconds of the machine's monotonic clock, which all processes share. No jump of a wall clock
            changes it.
        seconds: of a `try` the delay with which the event is sent, of a `retry` the seconds until the event may be
            handled again.

    """

    what: str
    channel: str
    id: str
    pid: int
    at: float
    seconds: float = 0.0


class Pen:
    """Writes records, from any thread and after a fork; the environment's CHAOS_HISTORY names the pipe."""

    def __init__(self) -> None:
        self._pipe = os.open(os.environ["CHAOS_HISTORY"], os.O_WRONLY)

    def note(self, what: str, channel: str, id_: str = "", seconds: float = 0.0) -> None:
        line = json.dumps([what, channel, id_, os.getpid(), time.monotonic(), seconds])
        os.write(self._pipe, line.encode() + b"\n")


class Book:
    """Reads what all processes write, for as long as the run takes.

    Args:
        directory: where the pipe is made, and the lines are kept.

    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "history.pipe"
        os.mkfifo(self.path)
        # Open for both: a pipe without a writer would end.
        self._pipe = os.open(self.path, os.O_RDWR)
        self._file = (directory / "history.jsonl").open("wb")
        self._lines: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._pipe, 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            if b"" in lines:
                return
            self._lines += lines
            self._file.write(b"".join(line + b"\n" for line in lines))

    def records(self) -> list[Record]:
        """Return what was written so far."""
        return [Record(*json.loads(line)) for line in list(self._lines)]

    def close(self) -> None:
        """Read what is left, and end."""
        # An empty line is no record: it ends the reading.
        os.write(self._pipe, b"\n")
        self._thread.join()
        self._file.close()
        os.close(self._pipe)


def read(file: Path) -> list[Record]:
    """Read the records that a run has kept."""
    fields: list[list[Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    return [Record(*one) for one in fields]
