"""The metrics that the layer knows: how many events wait on each channel, and for how long."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from channelmap.errors import LayerError
from channelmap.layer import ChannelLayer
from channelmap.monitor.catalog import DEAD_LETTERS, OLDEST_SECONDS, PAUSED, SCHEDULED, WAITING
from channelmap.monitor.measuring import Values

log = logging.getLogger("channelmap.monitor")

#: Seconds for which counts are used again, and for which a scrape waits for new ones.
_FRESH_SECS, _TIMEOUT_SECS = 1.0, 1.0


class LayerValues:
    """Counts the events of channels when they are asked for, at most once a second.

    Args:
        layer: an open layer, used in the event loop that asks.
        channels: names of the channels.

    """

    def __init__(self, layer: ChannelLayer, channels: Sequence[str]) -> None:
        self._layer = layer
        self._channels = channels
        self._values: Values = {}
        self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    async def get(self) -> Values:
        """Return the counts; none while the layer is unavailable."""
        if not self._layer.has_heartbeats:
            return {}
        if time.monotonic() - self._counted_at > _FRESH_SECS:
            if self._counting is None or self._counting.done():
                self._counting = asyncio.ensure_future(self._count())
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIMEOUT_SECS):
                    await asyncio.shield(self._counting)
        return self._values if time.monotonic() - self._counted_at <= _FRESH_SECS + _TIMEOUT_SECS else {}

    async def _count(self) -> None:
        try:
            counts = await self._layer.counts(self._channels)
        except LayerError as error:
            log.debug("cannot count events: %s", error)
            return
        except Exception:  # a layer's client may raise anything, and the metrics of workers need no layer
            log.exception("cannot count events")
            return
        values: Values = {}
        for channel, found in counts.items():
            values[WAITING.name, channel] = found.waiting
            values[SCHEDULED.name, channel] = found.scheduled
            values[OLDEST_SECONDS.name, channel] = found.oldest or 0.0
            values[PAUSED.name, channel] = float(found.paused)
            for code, letters in found.dead.items():
                values[DEAD_LETTERS.name, channel, code] = letters
        self._values, self._counted_at = values, time.monotonic()
