"""The layer in memory keeps the whole promise."""

from typing import Any

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.memory import MemoryChannelLayer

from .conformance import Everything


class TestMemory(Everything):
    def open(self, **options: Any) -> ChannelLayer:
        return open_layer("memory://", **options)

    async def elapse(self, layer: ChannelLayer, seconds: float) -> None:
        assert isinstance(layer, MemoryChannelLayer)
        scheduled = [one for heap in layer._scheduled.values() for one in heap]
        for one in scheduled:
            one.due -= seconds
        waiting = [item for queue in layer._queues.values() for item in queue]
        for item in (*waiting, *(one.item for one in scheduled)):
            item.since -= seconds
        for heartbeat in layer._heartbeats.values():
            heartbeat.seen -= seconds
