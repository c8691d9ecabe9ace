"""The layer in Redis keeps the whole promise: on one server, behind Sentinel, in a Cluster, in both serializers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from channelmap.layer import ChannelLayer, Counts
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer

from .conformance import Everything, Heartbeats, KeptHeartbeats, Purges, Suite, event
from .conformance.heartbeats import bury
from .redis_servers import Cluster, Sentinels, Server


class OnRedis(Suite):
    async def elapse(self, layer: ChannelLayer, seconds: float) -> None:
        assert isinstance(layer, RedisChannelLayer)
        pool = (await layer._loop_state()).pool
        for topology in layer._queues.topologies:
            for name in await pool.keys(topology, topology.key_prefix(layer.prefix)):
                key = name.decode()
                if key.endswith("$totals"):
                    fields = await pool.call(topology, key, "HGETALL", key)
                    for field, value in fields.items():
                        if field.startswith(b"w:"):
                            number, time = value.split()
                            changed = f"{int(number)} {float(time) - seconds:.6f}"
                            await pool.call(topology, key, "HSET", key, field, changed)
                elif key.endswith(("$seen", "$scheduled")) or "$" not in key:
                    for member, score in await pool.call(topology, key, "ZRANGE", key, 0, -1, "WITHSCORES"):
                        aged = member
                        if key.endswith("$scheduled"):
                            attempt, sent, body = member.split(b" ", 2)
                            aged = b"%b %b %b" % (attempt, repr(float(sent) - seconds).encode(), body)
                        await pool.call(topology, key, "ZREM", key, member)
                        await pool.call(topology, key, "ZADD", key, repr(score - seconds), aged)


class TestOneServer(Everything, KeptHeartbeats, OnRedis):
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


class TestSeveralHosts(Heartbeats, KeptHeartbeats, Purges, OnRedis):
    """What is kept of a channel on several hosts is summed up."""

    @pytest.fixture(autouse=True)
    def _urls(self, server: Server, start_server: Callable[..., Server]) -> None:
        self.urls = [server.url, start_server().url, start_server().url]

    def open(self, **options: Any) -> ChannelLayer:
        return RedisChannelLayer(self.urls, **options)

    def test_the_states_of_all_hosts_are_summed_up(self) -> None:
        async def scenario(layer: ChannelLayer) -> Counts:
            # One event goes to each host, and so do the letters.
            for code in ("failed", "invalid", "failed"):
                await bury(layer, code)
            await layer.send("jobs", event(1))
            await self.elapse(layer, 100)
            await layer.send_many("jobs", [event(2), event(3)])
            await layer.pause("jobs")
            return (await layer.counts(["jobs"]))["jobs"]

        counts = self.run(scenario, expiry=None)
        assert counts.oldest is not None
        assert 100 <= counts.oldest < 120
        assert replace(counts, oldest=None) == Counts(3, 0, 0, {"failed": 2, "invalid": 1}, paused=True)


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
