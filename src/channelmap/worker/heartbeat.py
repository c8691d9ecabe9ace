"""Heartbeats: a worker regularly tells the layer that it is alive, and what has happened on its channels.

They run in the worker's event loop on purpose: a worker whose loop is blocked handles nothing, and is not listed.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from channelmap.errors import LayerError
from channelmap.layer import ChannelLayer, WorkerInfo
from channelmap.worker.layer_state import LayerState
from channelmap.worker.steps import Steps
from channelmap.worker.timing import Timing

log = logging.getLogger("channelmap.worker")

#: Seconds between two attempts while the layer does not answer: the first answer shows that it is back.
_RETRY_SECS = 1.0


class Heartbeat:
    """Sends the heartbeats of one worker.

    Args:
        layer: an open layer.
        info: returns what the worker says of itself.
        steps: has the totals.
        layer_state: told that the layer answers.
        timing: the interval, and the clock.

    """

    def __init__(
        self,
        layer: ChannelLayer,
        info: Callable[[], WorkerInfo],
        steps: Steps,
        layer_state: LayerState,
        timing: Timing,
    ) -> None:
        self._layer = layer
        self._layer_state = layer_state
        self._info = info
        self._steps = steps
        self._timing = timing
        self._number = 0
        #: The totals that the layer has, and those that it may have: a call that failed may have reached it.
        self._added: dict[str, dict[str, int]] = {}
        self._pending: dict[str, dict[str, int]] | None = None

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            interval = self._timing.heartbeat if await self._try_to_send() else _RETRY_SECS
            await self._timing.clock.sleep(interval)

    async def stop(self, end: float) -> None:
        """Send the last heartbeat, which has the final totals, until `end` by the clock. Cancel `run` first."""
        with suppress(TimeoutError):
            async with self._timing.clock.timeout(end - self._timing.clock.time()):
                if self._pending is not None:
                    await self._try_to_send()
                await self._try_to_send(last=True)

    async def _try_to_send(self, *, last: bool = False) -> bool:
        try:
            await self._send(last=last)
        except LayerError as error:
            # The calls of the inboxes tell of a layer that is unavailable.
            log.log(logging.WARNING if last else logging.DEBUG, "cannot send a heartbeat: %s", error)
            return False
        except Exception:  # a layer's client may raise anything, and the worker continues
            log.exception("cannot send a heartbeat")
            return False
        self._layer_state.note_heartbeat()
        return True

    async def _send(self, *, last: bool = False) -> None:
        if self._pending is None:
            self._number += 1
            self._pending = {channel: dict(totals) for channel, totals in self._steps.totals.items()}
        # A repeated call has the same number and the same increments, so the layer adds them once.
        await self._layer.heartbeat(self._info(), self._increments(self._pending), self._number, last=last)
        self._added, self._pending = self._pending, None

    def _increments(self, totals: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        changed = {channel: counts for channel, counts in totals.items() if counts != self._added.get(channel)}
        return {
            channel: {
                name: count - before
                for name, count in counts.items()
                if count > (before := self._added.get(channel, {}).get(name, 0))
            }
            for channel, counts in changed.items()
        }
