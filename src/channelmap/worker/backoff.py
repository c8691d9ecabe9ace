"""Calls to a layer that may be unreachable, retried with backoff."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from channelmap.clock import Clock
from channelmap.errors import ChannelUnsupported, LayerError, LayerUnavailable, one_line, quoted, shortened

log = logging.getLogger("channelmap.worker")

#: Seconds between two attempts to reach the layer: the first delay, and the upper bound.
FIRST_DELAY, MAX_DELAY = 0.1, 5.0

T = TypeVar("T")


async def call_with_backoff(
    channel: str, what: str, call: Callable[[], Awaitable[T]], clock: Clock, *, tries: int | None = None
) -> T:
    """Call the layer, and retry with backoff until it answers.

    Args:
        channel: the channel's name, for the log.
        what: the call in words, for the log.
        call: the call.
        clock: the clock that measures the delays.
        tries: maximum number of failures while the layer is reachable; `None` for no limit.

    Raises:
        ChannelUnsupported: the layer does not support the channel, so retrying is useless.
        Exception: the last of `tries` failures.

    """
    delay = FIRST_DELAY
    while True:
        begun = clock.time()
        try:
            result = await call()
        except ChannelUnsupported:
            raise
        except Exception as error:  # a layer's client may raise anything, and the worker continues
            if clock.time() - begun > delay:
                # The call had reached the layer and lost it again: a waiting take has no other way to show that.
                delay = FIRST_DELAY
            known = isinstance(error, LayerError)
            if tries is not None and not isinstance(error, LayerUnavailable):
                tries -= 1
            last = tries == 0
            log.error(  # noqa: TRY400  (only unknown errors get a traceback)
                "channel %s: cannot %s, %s: %s",
                quoted(channel), what, "giving up" if last else f"next try in {delay:.1f} s",
                one_line(shortened(str(error))), exc_info=None if known else error,
            )  # fmt: skip
            if last:
                raise
        else:
            if delay > FIRST_DELAY:
                log.warning("channel %s: the layer is back", quoted(channel))
            return result
        await clock.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
        delay = min(2 * delay, MAX_DELAY)


async def wait_until_done(task: "asyncio.Task[None] | None") -> None:
    """Wait until a task has ended in any way; cancelling the caller does not cancel the task."""
    if task is not None:
        await asyncio.wait({task})
