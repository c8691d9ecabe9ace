"""Log lines that may come in floods: the first ones are logged at once, further ones are counted."""

import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from channelmap.clock import Clock

if TYPE_CHECKING:
    from channelmap.clock import Timer

log = logging.getLogger("channelmap.worker")

#: Lines of one kind that are logged per interval, and the interval in seconds.
_MAX_LINES, _INTERVAL_SECS = 10, 1.0


class _Kind:
    """The lines of one kind in the current interval."""

    def __init__(self, level: int, summary: str) -> None:
        self.level = level
        self.summary = summary
        self.lines = 0
        self.timer: Timer | None = None

    def log_rest(self) -> bool:
        """Log the number of lines that were left out; return whether there were any."""
        left_out = self.lines - _MAX_LINES
        if left_out > 0:
            log.log(self.level, self.summary, left_out)
        self.lines = 0
        return left_out > 0


class FloodLog:
    """Logs at most ten lines of one kind per second, and then how many more there were.

    Args:
        clock: measures the seconds.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}

    def log(self, kind: Hashable, summary: str, level: int, message: str, *args: object, **options: Any) -> None:
        """Log a line, or count it.

        Args:
            kind: lines with the same value are counted together.
            summary: the line about lines that were left out, with a `%d` for their number.
            level: level of both lines.
            message: the line.
            args: its arguments.
            options: `exc_info` and `extra`, as for `logging`.

        """
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = _Kind(level, summary)
            self._schedule(kind, found)
        found.lines += 1
        if found.lines <= _MAX_LINES:
            log.log(level, message, *args, **options)

    def flush(self) -> None:
        """Log what was left out until now."""
        for found in self._kinds.values():
            found.log_rest()
            if found.timer is not None:
                found.timer.cancel()
        self._kinds.clear()

    def _schedule(self, kind: Hashable, found: _Kind) -> None:
        found.timer = self._clock.call_later(_INTERVAL_SECS, lambda: self._end_interval(kind, found))

    def _end_interval(self, kind: Hashable, found: _Kind) -> None:
        if found.log_rest():
            self._schedule(kind, found)
        else:
            del self._kinds[kind]
