"""A layer of Channels keeps what a Channels layer can."""

import asyncio
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from channelmap.errors import ChannelFull, LayerError, LayerUnavailable
from channelmap.layer import ChannelLayer
from channelmap.layers import open_backend
from channelmap.layers.foreign import ForeignChannelLayer

from .conformance import Groups, Queues, event, letter, numbers


class TestForeign(Groups, Queues):
    pair_arrives_as = (1, 2)  # Its messages are objects and stay what they were.

    def open(self, **options: Any) -> ChannelLayer:
        return open_backend("channels.layers.InMemoryChannelLayer", options)

    def test_its_full_channel_is_ours(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send("jobs", event(1))
            with pytest.raises(ChannelFull) as caught:
                await layer.send("jobs", event(2))
            assert caught.value.args == (layer.url, "jobs", 1, 1, 0)
            await layer.receive("jobs")
            with pytest.raises(ChannelFull) as caught:
                await layer.send_many("jobs", [event(1), event(2), event(3)])
            assert (caught.value.sent, caught.value.reason.partition(" (")[0]) == (
                1, "channel 'jobs' has no room for 2 more events",
            )  # fmt: skip

        self.run(scenario, capacity=1)

    def test_its_troubles_are_a_layer_that_is_away(self) -> None:
        class Lost(InMemoryChannelLayer):  # type: ignore[misc]
            async def receive(self, channel: str) -> Any:
                raise ConnectionResetError(channel)

        with pytest.raises(LayerUnavailable, match="ConnectionResetError"):
            asyncio.run(ForeignChannelLayer(Lost()).take("jobs", 1))

    def test_what_is_given_back_goes_to_the_end(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.give_back(await layer.take("jobs", 9))
            return numbers(await layer.take("jobs", 1) + await layer.take("jobs", 1))

        assert self.run(scenario) == [2, 1]

    def test_a_dead_letter_is_logged_without_its_event(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send("jobs", event(41))
            (delivery,) = await layer.take("jobs", 1)
            await layer.bury(delivery, letter("jobs", 41))

        self.run(scenario)
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("channelmap.layers.foreign", "ERROR")
        assert "it broke" in record.getMessage()
        assert "41" not in record.getMessage()

    def test_what_it_cannot_do_is_said(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            for call in (
                layer.take("jobs", 1, lease=1), layer.dead_letters(), layer.drop("1"),
                layer.replay("1"), layer.renew([], 1),
            ):  # fmt: skip
                with pytest.raises(LayerError, match="a Channels layer cannot"):
                    await call
            with pytest.raises(LayerError, match="a Channels layer cannot show what waits"):
                layer.look("jobs")

        self.run(scenario)
