"""The layer in memory keeps the whole promise."""

from typing import Any

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer

from .conformance import Everything


class TestMemory(Everything):
    def open(self, **options: Any) -> ChannelLayer:
        return open_layer("memory://", **options)
