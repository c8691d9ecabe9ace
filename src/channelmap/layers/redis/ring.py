"""Which of several hosts has what, as channels_redis spreads it."""

import itertools
import zlib
from collections.abc import Sequence

from channelmap.layers.redis.places import Place

_HASHES = 4_096


class Ring:
    """The hosts of a layer. Senders use them by turns; a taker waits on all of them.

    Args:
        places: one for each entry of `hosts`.
        prefix: what all keys begin with.

    """

    def __init__(self, places: Sequence[Place], prefix: str) -> None:
        self.places = list(places)
        self.prefix = prefix
        self._turns = itertools.cycle(self.places)

    def destination(self, channel: str) -> tuple[Place, str]:
        """Return where to send to: a private channel's queue is where the hash of its name is, others are anywhere."""
        name = queue_of(channel)
        place = self.hashed(name) if "!" in channel else next(self._turns)
        return place, place.key(self.prefix, name)

    def home(self, channel: str) -> tuple[Place, str]:
        """Return where a group sends to, and where a channel's dead letters are kept."""
        name = queue_of(channel)
        place = self.hashed(name)
        return place, place.key(self.prefix, name)

    def spots(self, channel: str) -> list[tuple[Place, str]]:
        """Return everywhere where events of the channel may be."""
        name = queue_of(channel)
        return [(place, place.key(self.prefix, name)) for place in self.places]

    def group(self, group: str) -> tuple[Place, str]:
        """Return where the members of a group are kept."""
        return self.hashed(group), f"{self.prefix}:group:{group}"

    def hashed(self, name: str) -> Place:
        """Choose a host by a name."""
        return self.places[self.index(name.encode())]

    def index(self, name: bytes) -> int:
        """Return the position, among the hosts, of the one that a name belongs to."""
        return (zlib.crc32(name) % _HASHES) * len(self.places) // _HASHES


def queue_of(channel: str) -> str:
    """Name the queue that a channel shares with the other private channels of its process; its own, if it is none."""
    return channel[: channel.index("!") + 1] if "!" in channel else channel
