"""Events that share one lease, and the part of them that is still leased.

A lease costs a layer the same for one event as for a thousand, if the worker settles all of them at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from channelmap.layer import Delivery


class Batch:
    """The events of one lease. It is the `ticket` of each delivery, whose `number` is the index of the event.

    Args:
        id: the layer's id of the lease.
        count: number of events.

    """

    __slots__ = ("count", "ended", "id")

    def __init__(self, id: Any, count: int) -> None:  # noqa: A002
        self.id = id
        self.count = count
        #: Numbers of the events that are no longer under the lease, as far as this process knows.
        self.ended: set[int] = set()


class Part(NamedTuple):
    """Some events of a lease, and whether they are all remaining ones."""

    batch: Batch
    numbers: list[int]
    is_whole: bool


def parts_of(deliveries: Iterable[Delivery]) -> list[Part]:
    """Group the leased deliveries by lease."""
    by_batch: dict[Batch, list[int]] = {}
    for delivery in deliveries:
        if isinstance(delivery.ticket, Batch):
            by_batch.setdefault(delivery.ticket, []).append(delivery.number)
    return [
        # A set, because a caller may pass an event twice.
        Part(batch, numbers, len(batch.ended.union(numbers)) == batch.count)
        for batch, numbers in by_batch.items()
    ]


def note_ended(deliveries: Sequence[Delivery]) -> None:
    """Record that the layer has ended the leases of these deliveries."""
    for batch, numbers, _ in parts_of(deliveries):
        batch.ended.update(numbers)
