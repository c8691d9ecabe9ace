"""The layer in memory keeps the whole promise, also behind a contract."""

from typing import Any

import pytest

from channelmap.contract import Channel, Contract, LayerSetting
from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import Limits
from channelmap.sending import ContractLayer

from .conformance import Everything
from .conformance.limits import INVALID_NAMES


class TestMemory(Everything):
    def open(self, **options: Any) -> ChannelLayer:
        return open_layer("memory://", **options)

    async def elapse(self, layer: ChannelLayer, seconds: float) -> None:
        layer = getattr(layer, "layer", layer)
        assert isinstance(layer, MemoryChannelLayer)
        scheduled = [one for heap in layer._scheduled.values() for one in heap]
        for one in scheduled:
            one.due -= seconds
        waiting = [item for queue in layer._queues.values() for item in queue]
        for item in (*waiting, *(one.item for one in scheduled)):
            item.since -= seconds
        for heartbeat in layer._heartbeats.values():
            heartbeat.seen -= seconds


class AnyChannel(dict[str, Channel]):
    """Channels that take any event, whatever their names."""

    def get(self, name: Any, default: Any = None) -> Any:
        declared = isinstance(name, str) and "!" not in name
        return Channel(name, "apps.Any", {}, validate="off") if declared else None


class Judging(ContractLayer):
    @property
    def _cached_limits(self) -> dict[str, Limits]:
        return self.layer._cached_limits


class TestBehindAContract(TestMemory):
    """What a sender or worker does by way of the contract's layer, it does with the layer itself."""

    def open(self, **options: Any) -> Any:
        contract = Contract("channels.yaml", LayerSetting("memory://"), AnyChannel(), None)  # type: ignore[arg-type]  # not read
        return Judging(contract, super().open(**options))

    @pytest.mark.parametrize("name", [name for name in INVALID_NAMES if isinstance(name, str)])
    def test_every_method_rejects_an_invalid_name(self, name: Any) -> None:
        super().test_every_method_rejects_an_invalid_name(name)
