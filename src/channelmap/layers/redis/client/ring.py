"""A hash ring: spread names over several hosts as channels_redis does."""

import itertools
import zlib
from collections.abc import Sequence

from channelmap.layers.redis.client.topology import Topology

_HASHES = 4_096


class HashRing:
    """Several hosts, each with a share of the hashes.

    Args:
        topologies: one for each entry of `hosts`, in order.

    """

    def __init__(self, topologies: Sequence[Topology]) -> None:
        self.topologies = list(topologies)
        self._turns = itertools.cycle(self.topologies)

    def hashed(self, name: str) -> Topology:
        """Return the host that a name belongs to."""
        return self.topologies[self.index(name.encode())]

    def index(self, name: bytes) -> int:
        """Return the position, in `topologies`, of the host that a name belongs to."""
        return (zlib.crc32(name) % _HASHES) * len(self.topologies) // _HASHES
