"""Renew leases from a thread with its own event loop, because a handler may block the worker's.

Renewal must not hide a stalled worker, which holds leases and handles nothing. So when the worker's event loop is
blocked for too long, the process prints its stacks and exits, and its leases expire.
"""

import asyncio
import faulthandler
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread

from channelmap.errors import LayerError, quoted
from channelmap.layer import ChannelLayer, Delivery
from channelmap.observer import Renewed
from channelmap.worker.ledger import Ledger
from channelmap.worker.steps import Steps
from channelmap.worker.timing import Timing

log = logging.getLogger("channelmap.worker")

#: Exit code of a process whose event loop was blocked for too long.
STALLED = 71


def exit_stalled() -> None:
    """Print the stacks of all threads to stderr and exit."""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(STALLED)


class Renewal:
    """Renew the leases of all unsettled deliveries; channels are renewed independently.

    Args:
        layer: an open layer.
        ledgers: ledgers of the at-least-once channels, by channel name.
        timing: the lease, `stall_after` and the clock.
        steps: told of renewed leases, in the renewal's thread.
        exit_stalled: called in the renewal's thread after the worker's event loop was blocked for `stall_after`.

    """

    def __init__(
        self,
        layer: ChannelLayer,
        ledgers: Mapping[str, Ledger],
        timing: Timing,
        steps: Steps,
        exit_stalled: Callable[[], None] = exit_stalled,
    ) -> None:
        self._layer = layer
        self._ledgers = ledgers
        self._timing = timing
        self._steps = steps
        self._exit_stalled = exit_stalled
        self._renewing: dict[str, asyncio.Task[None]] = {}
        #: The worker's event loop has run a callback since the last check.
        self._has_run = True

    async def run(self) -> None:
        """Renew until cancelled; raise errors of the thread, or RuntimeError if it cannot be started."""
        loop = asyncio.new_event_loop()
        thread_ended = asyncio.Event()
        worker_loop = asyncio.get_running_loop()

        def run_loop() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.get_loop().run_forever()
            with suppress(RuntimeError):  # the worker's loop may have ended
                worker_loop.call_soon_threadsafe(thread_ended.set)

        try:
            Thread(target=run_loop, name="channelmap-renewal", daemon=True).start()
        except RuntimeError:
            loop.close()
            raise
        try:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._renew_forever(worker_loop), loop))
        finally:
            loop.call_soon_threadsafe(loop.stop)
            # Wait for the thread: its loop closes the renewal's connections.
            with suppress(TimeoutError):
                await asyncio.wait_for(thread_ended.wait(), 1)

    async def _renew_forever(self, worker_loop: asyncio.AbstractEventLoop) -> None:
        interval, blocked_for = self._timing.lease / 3, 0.0
        while True:
            worker_loop.call_soon_threadsafe(self._note_run)
            await self._timing.clock.sleep(interval)
            # Sum of intervals, not elapsed time: while the whole process is suspended, neither loop runs.
            blocked_for = 0.0 if self._has_run else blocked_for + interval
            self._has_run = False
            if blocked_for >= self._timing.stall_after:
                log.critical("the event loop has been blocked for %.0f s: exiting; its leases will expire", blocked_for)
                self._exit_stalled()
                return
            for channel, ledger in self._ledgers.items():
                self._cancel_hanging(channel)
                if unsettled := ledger.unsettled():
                    self._renewing[channel] = asyncio.ensure_future(self._renew(channel, unsettled))

    def _cancel_hanging(self, channel: str) -> None:
        """Cancel the previous renewal if it hangs; the next one still starts before the leases end."""
        running = self._renewing.pop(channel, None)
        if running is not None and not running.done():
            running.cancel()
            log.warning("channel %s: cannot renew its leases: the layer does not answer", quoted(channel))

    def _note_run(self) -> None:
        self._has_run = True

    async def _renew(self, channel: str, unsettled: list[Delivery]) -> None:
        try:
            await self._layer.renew(unsettled, self._timing.lease)
            if self._steps.are_told:
                self._steps(Renewed(channel, len(unsettled)))
        except Exception as error:
            known = isinstance(error, LayerError | TimeoutError)
            log.warning(
                "channel %s: cannot renew its leases: %s",
                quoted(channel), str(error) or "the layer does not answer", exc_info=None if known else error,
            )  # fmt: skip
