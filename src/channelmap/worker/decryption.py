"""Handling of undecryptable events: a few become dead letters; if all are undecryptable, the worker has a wrong key."""

from collections.abc import Sequence

from channelmap.layer import ChannelLayer, Delivery

#: Undecryptable events in a row that become dead letters where the last event before them could be decrypted.
_MAX_IN_A_ROW = 10


class Decryption:
    """Decide whether undecryptable events of a channel are exceptions, or the worker has the wrong key.

    Args:
        layer: an open layer.
        channel: the channel's name.

    """

    def __init__(self, layer: ChannelLayer, channel: str) -> None:
        self._layer = layer
        self._channel = channel
        #: Undecryptable events that may become dead letters before the channel is examined again.
        self._allowed = 0

    def note_readable(self) -> None:
        """Record that all events of a take were readable."""
        self._allowed = _MAX_IN_A_ROW

    def are_exceptions(self, taken: Sequence[Delivery]) -> bool:
        """Return whether undecryptable events are exceptions, that is, other events are readable."""
        count = sum(delivery.encrypted for delivery in taken)
        if count < len(taken):
            self.note_readable()
            return True
        self._allowed -= count
        return self._allowed >= 0

    async def count_undecryptable(self) -> int:
        """Return the number of waiting events if no key fits any of them, else 0; the events stay in the layer."""
        count = 0
        async for delivery in self._layer.peek(self._channel):
            if not delivery.encrypted:
                # The undecryptable events before this one may become dead letters.
                self._allowed = count
                return 0
            count += 1
        return count
