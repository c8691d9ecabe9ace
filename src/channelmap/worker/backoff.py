"""Calls to a layer that may be unreachable, retried with backoff."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from channelmap.clock import Clock
from channelmap.errors import ChannelUnsupported, LayerError, LayerUnavailable, one_line, quoted, shortened
from channelmap.worker.flood_log import FloodLog
from channelmap.worker.layer_state import LayerState

#: Seconds between two attempts to reach the layer: the first delay, and the upper bound.
FIRST_DELAY, MAX_DELAY = 0.1, 5.0

T = TypeVar("T")


class LayerCalls:
    """Calls the layer for one channel, and retries with backoff until it answers.

    Args:
        channel: the channel's name.
        clock: measures the delays.
        state: told whether the layer is available.
        flood_log: the log, because the calls of all channels may fail at once.

    """

    def __init__(self, channel: str, clock: Clock, state: LayerState, flood_log: FloodLog) -> None:
        self._channel = channel
        self._clock = clock
        self._state = state
        self._flood_log = flood_log

    async def __call__(self, what: str, call: Callable[[], Awaitable[T]], *, tries: int | None = None) -> T:
        """Call the layer.

        Args:
            what: the call in words, for the log.
            call: the call.
            tries: maximum number of failures while the layer is reachable; `None` for no limit.

        Raises:
            ChannelUnsupported: the layer does not support the channel, so retrying is useless.
            Exception: the last of `tries` failures.

        """
        delay = FIRST_DELAY
        while True:
            begun = self._clock.time()
            try:
                result = await call()
            except ChannelUnsupported:
                raise
            except Exception as error:  # a layer's client may raise anything, and the worker continues
                if self._clock.time() - begun > delay:
                    # The call had reached the layer and lost it again: a waiting take has no other way to show that.
                    delay = FIRST_DELAY
                reason = one_line(shortened(str(error)))
                if tries is None or isinstance(error, LayerUnavailable):
                    self._state.note_failure(self._channel, reason)
                else:
                    tries -= 1
                last = tries == 0
                self._log_failure(what, reason, None if last else delay, error)
                if last:
                    raise
            else:
                self._state.note_answer(self._channel)
                return result
            await self._clock.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(2 * delay, MAX_DELAY)
            self._state.note_retry(self._channel)

    def _log_failure(self, what: str, reason: str, delay: float | None, error: Exception) -> None:
        then = "giving up" if delay is None else f"next try in {delay:.1f} s"
        self._flood_log.log(
            "layer", "%d more calls to the layer failed", logging.ERROR, "channel %s: cannot %s, %s: %s",
            quoted(self._channel), what, then, reason, exc_info=None if isinstance(error, LayerError) else error,
        )  # fmt: skip


async def wait_until_done(task: "asyncio.Task[None] | None") -> None:
    """Wait until a task has ended in any way; cancelling the caller does not cancel the task."""
    if task is not None:
        await asyncio.wait({task})
