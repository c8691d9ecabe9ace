"""Turn taken members of a queue into deliveries."""

from channelmap.layer import Delivery
from channelmap.layers.batches import Batch
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.leases import Taken


def deliveries_of(codec: Codec, channel: str, taken: Taken) -> list[Delivery]:
    """Return the delivery of each taken event, in order."""
    batch, rows = taken.batch, taken.rows
    opened = codec.open_all([member for member, _ in rows])
    if opened is None:
        deliveries = [_read(codec, channel, member, sent, batch) for member, sent in rows]
    else:
        # The path of nearly all events.
        deliveries = [
            Delivery(channel, event, body, sent, 1, "", batch, False, False, 0, event_id)  # noqa: FBT003
            for (event_id, event, body), (_, sent) in zip(opened, rows, strict=True)
        ]
    if batch is not None:
        for number, delivery in enumerate(deliveries):
            delivery.number = number
    for delivery, attempt in zip(deliveries, taken.attempts, strict=False):
        delivery.attempt = attempt
    if taken.crashes is not None:
        deliveries[0].suspect, deliveries[0].crashes = True, taken.crashes
    return deliveries


def _read(codec: Codec, channel: str, member: bytes, sent: float, batch: Batch | None) -> Delivery:
    body, event, problem, encrypted = codec.open(member)
    return Delivery(channel, event, body, sent, 1, problem, batch, encrypted, raw_id=codec.id_of(member))
