"""How a worker writes its log: one line an entry, as text for people or as JSON for machines, on stderr."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType

from channelmap.errors import LONGEST_TRACEBACK, shortened

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


#: Fields of a line about one event, and the attributes of the record that hold them.
_OF_AN_EVENT = {"channel": "channel", "type": "event_type", "attempt": "attempt"}


class TextFormatter(logging.Formatter):
    """Time, level, logger, message; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Write local time with its zone: consumers may set another one, as Django's TIME_ZONE does."""
        return datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(" ", timespec="milliseconds")

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802  (logging's name)
        """Write a traceback, cut where it is longer than anybody reads."""
        return shortened(super().formatException(ei), LONGEST_TRACEBACK)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, and `traceback` where there is one.

    A line about one event also has its `channel`, `type` and `attempt`.
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
            name: getattr(record, attribute) for name, attribute in _OF_AN_EVENT.items() if hasattr(record, attribute)
        }
        if record.exc_info and record.exc_info[1] is not None:
            lines = traceback.format_exception(record.exc_info[1])
            entry["traceback"] = shortened("".join(lines), LONGEST_TRACEBACK)
        return json.dumps(entry, ensure_ascii=False)


def configure(log_format: str, level: str) -> None:
    """Send all logging to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Kept:
    """The logging of channelmap as it was configured, which an imported module may undo.

    `logging.config.dictConfig`, and so Django's LOGGING, disables all loggers that it does not name, and replaces the
    handlers of the root.
    """

    def __init__(self) -> None:
        self._handlers = list(logging.root.handlers)
        self._level = logging.root.level

    def restore(self) -> None:
        """Let channelmap's log lines appear again as they were configured, unless the module has configured them."""
        ours = logging.getLogger("channelmap")
        for name, logger in logging.root.manager.loggerDict.items():
            if isinstance(logger, logging.Logger) and name.partition(".")[0] == "channelmap":
                logger.disabled = False
        if logging.root.handlers != self._handlers and not ours.handlers:
            ours.handlers = self._handlers
            ours.setLevel(self._level)
            # The root's new handlers would write each line once more.
            ours.propagate = False
