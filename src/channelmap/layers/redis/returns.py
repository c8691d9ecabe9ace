"""Return deliveries to their queues; a repeated call finishes what failed, and changes nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from channelmap.errors import LayerUnavailable
from channelmap.layer import Delivery
from channelmap.layers.redis import leases
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.private import LocalQueues
from channelmap.layers.redis.queues import Queues, Shard
from channelmap.layers.redis.rows import put_back
from channelmap.layers.redis.sender import limit_arguments
from channelmap.limits import Limits

#: Upper bound for remembered deliveries whose return failed.
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Return:
    """The return of one delivery: its destination and its member, so that a repeated call writes the same."""

    delivery: Delivery
    topology: Topology
    key: str
    member: bytes
    done: bool = False


class Returns:
    """The deliveries of a layer that are on their way back.

    Args:
        queues: where the queues are.
        codec: makes the members.
        limits_of: returns a channel's limits.

    """

    def __init__(self, queues: Queues, codec: Codec, limits_of: Callable[[str], Limits]) -> None:
        self._queues = queues
        self._codec = codec
        self._limits_of = limits_of
        #: By identity: a repeated call passes the same objects.
        self._pending: dict[int, _Return] = {}

    async def give_back(self, pool: ConnectionPool, deliveries: Sequence[Delivery], local: LocalQueues) -> None:
        """Return events to the front of their queues.

        When one channel fails, the others still have their events returned. A repeated call returns only the missing
        ones.

        Args:
            pool: the connections.
            deliveries: the deliveries, leased or not.
            local: the queues of private channels.

        Raises:
            LayerUnavailable: a server cannot be reached, or refuses.

        """
        while len(self._pending) > _REMEMBERED:
            del self._pending[next(iter(self._pending))]
        by_channel: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_channel.setdefault(delivery.channel, []).append(delivery)
        problem = None
        for channel, given in by_channel.items():
            try:
                await self._give_back(pool, channel, given, local)
            except LayerUnavailable as error:
                problem = error
        if problem is not None:
            raise problem
        for delivery in deliveries:
            self._pending.pop(id(delivery), None)

    async def _give_back(
        self, pool: ConnectionPool, channel: str, given: Sequence[Delivery], local: LocalQueues
    ) -> None:
        ttl = limit_arguments(self._limits_of(channel))[1]
        await leases.give_back(pool, given, ttl)
        topology, key = self._queues.destination(channel)
        for one in given:
            if one.ticket is None and id(one) not in self._pending:
                member = b"" if "!" in channel else self._codec.member(one.body, bytes.fromhex(one.id))
                self._pending[id(one)] = _Return(one, topology, key, member)
        missing: dict[Shard, list[_Return]] = {}
        for one in given:
            pending = self._pending.get(id(one))
            if pending is not None and not pending.done:
                missing.setdefault((pending.topology, pending.key), []).append(pending)
        for (there, its_key), some in missing.items():
            if "!" in channel:
                # Copies: a later take may return its deliveries as well.
                local.deliver([replace(one.delivery) for one in reversed(some)], front=True)
            else:
                await put_back(pool, there, its_key, [(one.member, one.delivery.sent) for one in some], ttl)
            for pending in some:
                pending.done = True
