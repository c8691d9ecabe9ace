"""Warn of handlers that run for a long time: one that hangs looks like a channel without events."""

import logging
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from channelmap.clock import Clock
from channelmap.errors import quoted
from channelmap.layer import Delivery
from channelmap.worker.inbox import Inbox, log_fields

if TYPE_CHECKING:
    from channelmap.worker.ledger import Holder

log = logging.getLogger("channelmap.worker")

#: A handler is noticed after at most this share of `warn_after` more.
_SHARE = 0.1


class SlowHandlers:
    """Looks regularly for current events that have not changed for `warn_after` seconds.

    Args:
        inboxes: the inboxes of a worker.
        clock: measures the seconds.

    """

    def __init__(self, inboxes: Iterable[Inbox], clock: Clock) -> None:
        self._limits = [(inbox, inbox.service.warn_after) for inbox in inboxes if inbox.service.warn_after is not None]
        self._clock = clock
        #: The current event of each slot, when it was seen first, and whether it was logged.
        self._seen: dict[Holder, tuple[Delivery, float, bool]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        interval = max(0.1, _SHARE * min((limit for _, limit in self._limits), default=math.inf))
        while interval < math.inf:
            await self._clock.sleep(interval)
            self._look()

    def _look(self) -> None:
        now, current = self._clock.time(), {}
        for inbox, limit in self._limits:
            for holder in inbox.ledger.holders:
                delivery = holder.current
                if delivery is None:
                    continue
                seen, since, is_logged = self._seen.get(holder, (None, now, False))
                if seen is not delivery:
                    since, is_logged = now, False
                if now - since >= limit and not is_logged:
                    self._warn(delivery, now - since)
                    is_logged = True
                current[holder] = delivery, since, is_logged
        self._seen = current

    @staticmethod
    def _warn(delivery: Delivery, seconds: float) -> None:
        event_type = delivery.event.get("type") if delivery.event else None
        log.warning(
            "channel %s: the handler of %s has been running for %.0f s (warn_after)",
            quoted(delivery.channel), quoted(event_type), seconds, extra=log_fields(delivery),
        )  # fmt: skip
