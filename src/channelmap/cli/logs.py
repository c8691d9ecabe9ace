"""The log of a worker on stderr: one line per entry, as text or JSON."""

import json
import logging
import select
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from channelmap.errors import LONGEST_TRACEBACK, shortened

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


#: Seconds to wait for room in a stream that had room before.
_TIMEOUT_SECS = 1.0
#: Fields of a log line about an event, and the attributes of the record with their values.
_EVENT_FIELDS = {
    "channel": "channel",
    "type": "event_type",
    "event_id": "event_id",
    "attempt": "attempt",
    "code": "code",
    # Another name: the log record factory of an application may set `trace_id`, and `extra` must not overwrite it.
    "trace_id": "event_trace_id",
}


class TextFormatter(logging.Formatter):
    """Format entries as time, level, logger and message, followed by the lines of a traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return local time with its zone, which consumers may change, as Django's TIME_ZONE does."""
        return datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(" ", timespec="milliseconds")

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802  (logging's name)
        """Return a traceback, shortened if it is very long."""
        return shortened(super().formatException(ei), LONGEST_TRACEBACK)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, and `traceback` where there is one.

    A line about one event also has its `channel`, `type`, `event_id` and `attempt`, the `code` of its rejection or dead
    letter, and its `trace_id` if it is traced.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one entry."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {
            name: getattr(record, attribute) for name, attribute in _EVENT_FIELDS.items() if hasattr(record, attribute)
        }
        if record.exc_info and record.exc_info[1] is not None:
            lines = traceback.format_exception(record.exc_info[1])
            entry["traceback"] = shortened("".join(lines), LONGEST_TRACEBACK)
        return json.dumps(entry, ensure_ascii=False)


class PatientHandler(logging.StreamHandler[TextIO]):
    """Write to a stream whose reader may have stopped: wait for at most a second, then drop lines.

    A full pipe would block the event loop, and with it every channel. The number of dropped lines is logged once the
    pipe is read again.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry, if the stream has room within a second."""
        try:
            if self._dropped:
                message = f"{self._dropped} log lines were dropped, because stderr was not read"
                fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
                # Start with a newline: the last write may have ended in the middle of a line.
                self._write(self.terminator + self.format(logging.makeLogRecord(fields)) + self.terminator, 0)
                self._dropped = 0
            self._write(self.format(record) + self.terminator, _TIMEOUT_SECS)
        except TimeoutError:
            self._dropped += 1
        except Exception:  # noqa: BLE001  (as every handler of logging)
            self.handleError(record)

    def _write(self, text: str, seconds: float) -> None:
        # A pipe with any room accepts this many bytes at once. A character has at most ten (`\U0001f600`).
        piece = select.PIPE_BUF if text.isascii() else select.PIPE_BUF // 10
        for start in range(0, len(text), piece):
            if not _has_room(self.stream.fileno(), seconds):
                raise TimeoutError
            self.stream.write(text[start : start + piece])
            self.flush()


def _has_room(number: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(seconds * 1_000))


def configure(log_format: str, level: str) -> None:
    """Send all logging to stderr."""
    handler = PatientHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class SavedLogging:
    """The logging configuration of channelmap, which an imported module may undo.

    `logging.config.dictConfig`, and so Django's LOGGING, disables all loggers that it does not name, and replaces the
    handlers of the root.
    """

    def __init__(self) -> None:
        self._handlers = list(logging.root.handlers)
        self._level = logging.root.level

    def restore(self) -> None:
        """Restore the logging of channelmap, unless the module has configured it."""
        ours = logging.getLogger("channelmap")
        for name, logger in logging.root.manager.loggerDict.items():
            if isinstance(logger, logging.Logger) and name.partition(".")[0] == "channelmap":
                logger.disabled = False
        if logging.root.handlers != self._handlers and not ours.handlers:
            ours.handlers = self._handlers
            ours.setLevel(self._level)
            # The new handlers of the root logger would write each line again.
            ours.propagate = False
