"""Calls of a layer that may be away: the worker outlives that."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from channelmap.clock import Clock
from channelmap.errors import ChannelUnsupported, LayerError, LayerUnavailable, one_line, quoted, shortened

log = logging.getLogger("channelmap.worker")

#: Seconds between two tries to reach a lost layer: the first, and what they grow to.
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0

T = TypeVar("T")


async def insist(
    channel: str, what: str, call: Callable[[], Awaitable[T]], clock: Clock, *, tries: int | None = None
) -> T:
    """Call the layer until it answers.

    Args:
        channel: which is served, for the log.
        what: the call, for the log.
        call: makes the call.
        clock: tells the time between two tries.
        tries: how often it may fail although the layer is there; `None` for any number.

    Raises:
        ChannelUnsupported: no call can succeed.
        Exception: the call failed so often.

    """
    delay = FIRST_DELAY
    while True:
        begun = clock.time()
        try:
            result = await call()
        except ChannelUnsupported:
            raise
        except Exception as error:  # whatever a layer's client raises, the worker goes on
            if clock.time() - begun > delay:
                # The layer was there, and was lost anew: a take that waits has no other way to show it.
                delay = FIRST_DELAY
            known = isinstance(error, LayerError)
            if tries is not None and not isinstance(error, LayerUnavailable):
                tries -= 1
            last = tries == 0
            log.error(  # noqa: TRY400  (a traceback only for what is not understood)
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
        delay = min(2 * delay, LONGEST_DELAY)


async def ended(task: "asyncio.Task[None] | None") -> None:
    """Wait for the end of a task, whatever it is; if we are cancelled, the task goes on."""
    if task is not None:
        await asyncio.wait({task})
