"""Whether the layer answers a worker."""

import logging
from dataclasses import dataclass

from channelmap.clock import Clock
from channelmap.errors import quoted
from channelmap.observer import LayerAway, LayerBack
from channelmap.worker.flood_log import FloodLog
from channelmap.worker.steps import Steps


@dataclass(slots=True)
class _Outage:
    """The layer fails for a channel since a time; `is_calling`: another call has begun and has not failed yet."""

    since: float
    is_calling: bool = False


class LayerState:
    """Notes the channels for which calls to the layer fail, and tells when that changes.

    Args:
        steps: told of `LayerAway` and `LayerBack`.
        clock: measures how long the layer was away.
        flood_log: for a line of each channel.

    """

    def __init__(self, steps: Steps, clock: Clock, flood_log: FloodLog) -> None:
        self._steps = steps
        self._clock = clock
        self._flood_log = flood_log
        self._outages: dict[str, _Outage] = {}

    @property
    def is_up(self) -> bool:
        """Whether no channel has an outage."""
        return not self._outages

    def note_failure(self, channel: str, reason: str) -> None:
        """Note that a call for the channel has failed."""
        outage = self._outages.get(channel)
        if outage is None:
            self._outages[channel] = _Outage(self._clock.time())
            self._steps(LayerAway(channel, reason))
        else:
            outage.is_calling = False

    def note_retry(self, channel: str) -> None:
        """Note that a call for the channel is repeated."""
        outage = self._outages.get(channel)
        if outage is not None:
            outage.is_calling = True

    def note_answer(self, channel: str) -> None:
        """Note that the layer has answered a call for the channel."""
        outage = self._outages.pop(channel, None)
        if outage is not None:
            self._steps(LayerBack(channel, self._clock.time() - outage.since))
            self._flood_log.log(
                "the layer is back", "the layer is back for %d more channels", logging.WARNING,
                "channel %s: the layer is back", quoted(channel),
            )  # fmt: skip

    def note_heartbeat(self) -> None:
        """Note that the layer has answered a heartbeat: a take that waits on an empty channel gets no answer."""
        for channel in [channel for channel, outage in self._outages.items() if outage.is_calling]:
            self.note_answer(channel)
