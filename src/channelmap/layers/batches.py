"""Events that a layer has leased together, and which of them it still has to be told about.

A lease costs a layer the same for one event as for a thousand, as long as its holder deals with all of them at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from channelmap.layer import Delivery


class Batch:
    """The events of one lease; the `ticket` of each of its deliveries, whose `number` says which event it is.

    Args:
        id: the layer's name for the lease.
        count: how many events it has.

    """

    __slots__ = ("count", "ended", "id")

    def __init__(self, id: Any, count: int) -> None:  # noqa: A002
        self.id = id
        self.count = count
        #: The numbers of the events that are no longer under the lease, as far as the holder knows.
        self.ended: set[int] = set()


class Part(NamedTuple):
    """Some events of a lease, and whether they are all that are left of it."""

    batch: Batch
    numbers: list[int]
    is_whole: bool


def parts_of(deliveries: Iterable[Delivery]) -> list[Part]:
    """Return the leased ones of these deliveries, by their leases."""
    by_batch: dict[Batch, list[int]] = {}
    for delivery in deliveries:
        if isinstance(delivery.ticket, Batch):
            by_batch.setdefault(delivery.ticket, []).append(delivery.number)
    return [
        # Counted as a set: somebody may name an event twice.
        Part(batch, numbers, len(batch.ended.union(numbers)) == batch.count)
        for batch, numbers in by_batch.items()
    ]


def note_ended(deliveries: Sequence[Delivery]) -> None:
    """Note that the layer has ended the leases of these deliveries."""
    for batch, numbers, _ in parts_of(deliveries):
        batch.ended.update(numbers)
