"""A layer of Channels keeps what a Channels layer can."""

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from channelmap.errors import ChannelFull, LayerError, LayerUnavailable
from channelmap.layer import ChannelLayer
from channelmap.layers import open_backend
from channelmap.layers.foreign import MIN_WAIT_SECS, ForeignChannelLayer

from .conformance import Groups, Queues, event, letter, numbers
from .conformance.heartbeats import WORKER
from .redis_servers import Server


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
                layer.heartbeat(WORKER, {"jobs": {"handled": 1}}, 1), layer.workers(), layer.purge("jobs"),
                layer.counts(["jobs"]),
            ):  # fmt: skip
                with pytest.raises(LayerError, match="a Channels layer cannot"):
                    await call
            with pytest.raises(LayerError, match="a Channels layer cannot show waiting events"):
                layer.peek("jobs")
            assert not layer.has_heartbeats
            assert await layer.foreign_readers() is None

        self.run(scenario)


class LazyLayer:
    """A layer that has nothing, not even `send`, before an event loop runs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_layer_of(asyncio.get_running_loop()), name)


class LazyLimits(InMemoryChannelLayer):  # type: ignore[misc]
    """A layer whose limits are known only inside a running event loop."""

    @property
    def group_expiry(self) -> int:
        return 60 if asyncio.get_running_loop() else 0

    @group_expiry.setter
    def group_expiry(self, value: int) -> None:
        pass


@functools.cache
def _layer_of(loop: asyncio.AbstractEventLoop) -> InMemoryChannelLayer:
    return InMemoryChannelLayer()


@pytest.mark.parametrize("kind", [LazyLayer, LazyLimits])
def test_a_layer_that_needs_a_running_loop_is_made_outside_of_one(kind: type) -> None:
    layer = open_backend(f"{__name__}.{kind.__name__}", {})
    layer.send_sync("jobs", event(1))

    async def scenario() -> list[int]:
        await layer.send("jobs", event(2))
        return numbers(await layer.take("jobs", 1))

    assert asyncio.run(scenario())


def test_a_layer_that_publishes_in_redis_is_made_and_sends_outside_of_a_loop(server: Server) -> None:
    layer = open_backend("channels_redis.pubsub.RedisPubSubChannelLayer", {"hosts": [server.url]})
    layer.send_sync("jobs", event(1))

    async def scenario() -> list[int]:
        taking = asyncio.ensure_future(layer.take("jobs", 1))
        while not server.client.pubsub_channels():
            await asyncio.sleep(0.001)
        await asyncio.to_thread(layer.send_sync, "jobs", event(2))
        return numbers(await taking)

    assert asyncio.run(scenario()) == [2]


class TestTimeoutOfTheClient:
    """channels_redis waits 5 s for an event; redis-py 8 gives up on the server after 5 s. Here both take a second."""

    def open(self, server: Server) -> ForeignChannelLayer:
        config = {"hosts": [{"address": server.url, "socket_timeout": MIN_WAIT_SECS + 0.05}]}
        layer = open_backend("channels_redis.core.RedisChannelLayer", config)
        assert isinstance(layer, ForeignChannelLayer)
        return layer

    def test_a_worker_goes_on_waiting_and_one_hint_is_logged(
        self, server: Server, said: Callable[[], list[str]], until: Callable[..., Awaitable[None]]
    ) -> None:
        layer = self.open(server)

        async def scenario() -> list[int]:
            takes = [asyncio.ensure_future(layer.take(channel, 1)) for channel in ("jobs", "mails")]
            await until(lambda: server.calls().get("eval", 0) >= 4, "both channels to be waited for again")
            await layer.send_many("jobs", [event(1)])
            await layer.send_many("mails", [event(2)])
            taken = [numbers(await take) for take in takes]
            await layer.inner.close_pools()
            return [number for some in taken for number in some]

        server.client.config_resetstat()
        assert asyncio.run(scenario()) == [1, 2]
        (message,) = said()
        assert "socket_timeout" in message
        assert "\n" not in message

    def test_a_server_that_does_not_answer_is_unavailable(
        self, start_server: Callable[..., Server], said: Callable[[], list[str]]
    ) -> None:
        server = start_server()
        layer = self.open(server)

        async def scenario() -> None:
            await layer.send("mails", event(1))
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            with pytest.raises(LayerUnavailable, match="Timeout"):
                await layer.take("jobs", 1)
            server.process.send_signal(signal.SIGCONT)
            await layer.inner.close_pools()

        asyncio.run(scenario())
        assert not said()
