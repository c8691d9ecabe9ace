"""The layer in Redis keeps the whole promise: on one server, behind Sentinel, in a Cluster, in both serializers."""

from typing import Any

import pytest

from channelmap.layer import ChannelLayer
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer

from .conformance import Everything
from .redis_servers import Cluster, Sentinels, Server


class TestOneServer(Everything):
    @pytest.fixture(autouse=True)
    def _url(self, server: Server) -> None:
        self.url = server.url

    def open(self, **options: Any) -> ChannelLayer:
        return open_layer(self.url, **options)

    async def has_noticed(self, layer: ChannelLayer) -> bool:
        assert isinstance(layer, RedisChannelLayer)
        state, shards = await layer._loop_state(), layer._queues.shards("jobs")
        # Whoever takes under a lease is told by the server: a take that it has begun finds the pause.
        return shards[0] not in state.upkeep._channels or state.upkeep.is_paused(shards)


class TestSentinel(TestOneServer):
    @pytest.fixture(autouse=True)
    def _url(self, sentinels: Sentinels) -> None:
        self.url = sentinels.url


class TestCluster(TestOneServer):
    @pytest.fixture(autouse=True)
    def _url(self, cluster: Cluster) -> None:
        self.url = cluster.url


class TestEncrypted(TestOneServer):
    def open(self, **options: Any) -> ChannelLayer:
        return RedisChannelLayer([self.url], symmetric_encryption_keys=["secret", "older"], **options)


class TestJSON(TestOneServer):
    """The other serializer carries less."""

    bodies = Everything.json_bodies

    def open(self, **options: Any) -> ChannelLayer:
        return RedisChannelLayer([self.url], serializer_format="json", **options)

    def test_values_are_delivered_as_msgpack_encodes_them(self) -> None:
        sent = {"type": "a", "pair": (1, 2), "deep": {"list": [None, True, 1.5, "ü"]}, "big": 2**63}
        assert self.run(lambda layer: self._through(layer, sent)) == {**sent, "pair": [1, 2]}

    @pytest.mark.parametrize(("value", "complaint"), [(b"x", "type"), ({1, 2}, "type"), ("nest", "nested")])
    def test_a_value_that_cannot_be_sent_is_rejected_and_not_quoted(self, value: Any, complaint: str) -> None:
        super().test_a_value_that_cannot_be_sent_is_rejected_and_not_quoted(value, complaint)
