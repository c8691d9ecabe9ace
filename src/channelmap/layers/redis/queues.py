"""Where the queues of channels and the members of groups are: on which host, under which key."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from channelmap.layers.redis.client import HashRing, Topology

#: A part of a channel's queue: the host, and the key there.
Shard = tuple[Topology, str]
#: All parts of a channel's queue: one on each host.
Shards = Sequence[Shard]

T = TypeVar("T")

#: The maximum number of channels in one command.
_BATCH = 500


class Queues(HashRing):
    """The queues of a layer. Senders use the hosts in turn; a take waits on all of them.

    Args:
        topologies: one for each entry of `hosts`, in order.
        prefix: the prefix of all keys.

    """

    def __init__(self, topologies: Sequence[Topology], prefix: str) -> None:
        super().__init__(topologies)
        self.prefix = prefix
        self._groups_prefix = f"{prefix}:group:"

    def destination(self, channel: str) -> Shard:
        """Return where to send to: a private channel has one host, by the hash of its queue; others use all in turn."""
        name = queue_of(channel)
        topology = self.hashed(name) if "!" in channel else next(self._turns)
        return topology, topology.key(self.prefix, name)

    def home(self, channel: str) -> Shard:
        """Return the shard to which groups send, and beside which the channel's dead letters are kept."""
        name = queue_of(channel)
        topology = self.hashed(name)
        return topology, topology.key(self.prefix, name)

    def shards(self, channel: str) -> list[Shard]:
        """Return all shards of the channel's queue."""
        name = queue_of(channel)
        return [(topology, topology.key(self.prefix, name)) for topology in self.topologies]

    def group(self, group: str) -> tuple[Topology, str]:
        """Return the host and the key of a group's members."""
        return self.hashed(group), self._groups_prefix + group

    def workers(self, topology: Topology) -> list[str]:
        """Return the keys of the list of workers on a host. No channel has an empty name, so none has these keys."""
        key = topology.key(self.prefix, "$workers")
        return [key, f"{key}$seen"]

    def prefixes(self, topology: Topology) -> list[str]:
        """Return the prefixes of all keys of the layer on a host."""
        channels, groups = topology.key_prefix(self.prefix), self._groups_prefix
        return [channels] if groups.startswith(channels) else [channels, groups]


def in_batches(shards: Iterable[tuple[Shard, T]]) -> list[tuple[Topology, list[tuple[str, T]]]]:
    """Group keys, each with a value, so that one command may name all keys of a group and does not take long."""
    by_tag: dict[tuple[Topology, str], list[tuple[str, T]]] = {}
    for (topology, key), value in shards:
        by_tag.setdefault((topology, topology.hash_tag(key)), []).append((key, value))
    return [
        (topology, some[start : start + _BATCH])
        for (topology, _), some in by_tag.items()
        for start in range(0, len(some), _BATCH)
    ]


def queue_of(channel: str) -> str:
    """Return the name of a channel's queue: private channels of one process share a queue, others have their own."""
    return channel[: channel.index("!") + 1] if "!" in channel else channel
