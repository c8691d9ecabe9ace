"""A consumer whose every event becomes a dead letter."""

from typing import Any

from channelmap.consumers import SyncConsumer


class Failing(SyncConsumer):
    def paid(self, event: Any) -> None:
        raise ValueError("no such order")
