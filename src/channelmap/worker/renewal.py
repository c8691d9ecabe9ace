"""Renews leases from a thread with an event loop of its own: a handler may block the worker's.

Not for ever: a worker whose event loop no longer turns looks alive to everybody and handles nothing. So its stacks are
logged, its leases run out, and the process ends.
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
from channelmap.worker.ledger import Ledger
from channelmap.worker.timing import Timing

log = logging.getLogger("channelmap.worker")

#: The exit code of a process whose event loop no longer turned.
STALLED = 71


def leave() -> None:
    """End this process, with the stacks of all threads on stderr."""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(STALLED)


class Renewal:
    """Renews what the ledgers of leased channels hold; no channel waits for another.

    Args:
        layer: an open layer.
        ledgers: those of the leased channels, by channel.
        timing: the lease, `stall_after` and the clock.
        leave: called in the renewal's thread when the worker's event loop has not turned for `stall_after`.

    """

    def __init__(
        self, layer: ChannelLayer, ledgers: Mapping[str, Ledger], timing: Timing, leave: Callable[[], None] = leave
    ) -> None:
        self._layer = layer
        self._ledgers = ledgers
        self._timing = timing
        self._leave = leave
        self._renewing: dict[str, asyncio.Task[None]] = {}
        #: The worker's event loop has turned since the last look.
        self._turned = True

    async def run(self) -> None:
        """Renew until cancelled; raises what goes wrong in the thread, and RuntimeError when none can be started."""
        loop = asyncio.new_event_loop()
        ended = asyncio.Event()
        worker_loop = asyncio.get_running_loop()

        def run_loop() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.get_loop().run_forever()
            with suppress(RuntimeError):  # the worker's loop may have ended
                worker_loop.call_soon_threadsafe(ended.set)

        try:
            Thread(target=run_loop, name="channelmap-renewal", daemon=True).start()
        except RuntimeError:
            loop.close()
            raise
        try:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._renew_for_ever(worker_loop), loop))
        finally:
            loop.call_soon_threadsafe(loop.stop)
            # Its connections are closed in its own loop.
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 1)

    async def _renew_for_ever(self, worker_loop: asyncio.AbstractEventLoop) -> None:
        pause, still = self._timing.lease / 3, 0.0
        while True:
            worker_loop.call_soon_threadsafe(self._note_turn)
            await self._timing.clock.sleep(pause)
            # Counted, not measured: a process that was stopped and goes on has turned neither here nor there.
            still = 0.0 if self._turned else still + pause
            self._turned = False
            if still >= self._timing.stall_after:
                log.critical("the event loop has not turned for %.0f s: leaving, its leases run out", still)
                self._leave()
                return
            for channel, ledger in self._ledgers.items():
                self._give_up(channel)
                if held := ledger.held():
                    self._renewing[channel] = asyncio.ensure_future(self._renew(channel, held))

    def _give_up(self, channel: str) -> None:
        """Cancel the last renewal if it hangs: the next one still comes before the leases end."""
        running = self._renewing.pop(channel, None)
        if running is not None and not running.done():
            running.cancel()
            log.warning("channel %s: cannot renew its leases: the layer does not answer", quoted(channel))

    def _note_turn(self) -> None:
        self._turned = True

    async def _renew(self, channel: str, held: list[Delivery]) -> None:
        try:
            await self._layer.renew(held, self._timing.lease)
        except Exception as error:
            known = isinstance(error, LayerError | TimeoutError)
            log.warning(
                "channel %s: cannot renew its leases: %s",
                quoted(channel), str(error) or "the layer does not answer", exc_info=None if known else error,
            )  # fmt: skip
