"""Events that no key of the layer fits: single ones become dead letters; if none fits, the worker has the wrong key."""

from collections.abc import Sequence

from channelmap.layer import ChannelLayer, Delivery

#: Undecryptable events in a row that become dead letters where the last event before them could be decrypted.
_MOST_IN_A_ROW = 10


class Decryption:
    """Decides whether undecryptable events of a channel are exceptions, or the worker has the wrong key.

    Args:
        layer: an open layer.
        channel: the channel's name.

    """

    def __init__(self, layer: ChannelLayer, channel: str) -> None:
        self._layer = layer
        self._channel = channel
        #: Undecryptable events that may become dead letters before anybody looks again.
        self._allowed = 0

    def note_readable(self) -> None:
        """Note that all events taken could be read."""
        self._allowed = _MOST_IN_A_ROW

    def are_exceptions(self, taken: Sequence[Delivery]) -> bool:
        """Return whether the undecryptable ones of these events are exceptions among events that a key fits."""
        count = sum(delivery.encrypted for delivery in taken)
        if count < len(taken):
            self.note_readable()
            return True
        self._allowed -= count
        return self._allowed >= 0

    async def count_undecryptable(self) -> int:
        """Count the waiting events when no key fits any of them; 0 when one fits. Nothing is taken."""
        count = 0
        async for delivery in self._layer.look(self._channel):
            if not delivery.encrypted:
                # What stands before it may become dead letters without another look.
                self._allowed = count
                return 0
            count += 1
        return count
