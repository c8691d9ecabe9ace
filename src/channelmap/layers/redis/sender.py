"""Send events in batches: one command for all concurrent sends to a queue in one turn of the event loop.

The first send of a turn goes at once, because it may be the only one.
"""

import asyncio
import math

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client import ConnectionPool, Topology
from channelmap.layers.redis.codec import Codec
from channelmap.layers.redis.scripts import SEND
from channelmap.limits import Limits

#: The maximum number of events in one command.
CHUNK = 500

#: The limits of a channel as scripts take them: seconds after which events expire or '', seconds to live of the queue's
#: key without a further event or '', and capacity.
LimitArguments = tuple[str, int | str, int]


def limit_arguments(limits: Limits) -> LimitArguments:
    """Return a channel's limits as scripts take them."""
    if limits.expiry is None:
        return "", "", limits.capacity
    return repr(float(limits.expiry)), whole(limits.expiry), limits.capacity


def whole(seconds: float) -> int:
    """Round up a key's seconds to live; 0 would delete the key at once, with the events of other senders."""
    return max(1, math.ceil(seconds))


_Unsent = tuple["asyncio.Future[str | None]", bytes]


class Sender:
    """The sends of one event loop.

    Args:
        pool: the connections.
        codec: makes the members of a batch when it is sent.

    """

    def __init__(self, pool: ConnectionPool, codec: Codec) -> None:
        self._pool = pool
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._unsent: dict[tuple[Topology, str], tuple[Limits, list[_Unsent]]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def send(self, topology: Topology, key: str, limits: Limits, body: bytes) -> str | None:
        """Send one event and return its id; return `None` if the queue is full. Raises as `ConnectionPool.run`."""
        if not self._open:
            self._open = True
            self._loop.call_soon(self._send_batches)
            stamped = self._codec.stamped([body])
            fits = await self._pool.run(topology, SEND, [key], *limit_arguments(limits), 1, *stamped)
            return self._codec.id_of(stamped[1]).hex() if fits else None
        sent: asyncio.Future[str | None] = self._loop.create_future()
        unsent = self._unsent.get((topology, key))
        if unsent is None:
            unsent = self._unsent[topology, key] = (limits, [])
        unsent[1].append((sent, body))
        return await sent

    def _send_batches(self) -> None:
        self._open = False
        unsent, self._unsent = self._unsent, {}
        for (topology, key), (limits, batch) in unsent.items():
            for start in range(0, len(batch), CHUNK):
                task = self._loop.create_task(self._send_batch(topology, key, limits, batch[start : start + CHUNK]))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def _send_batch(self, topology: Topology, key: str, limits: Limits, unsent: list[_Unsent]) -> None:
        # Cancelled sends are left out.
        unsent = [one for one in unsent if not one[0].done()]
        stamped = self._codec.stamped([body for _, body in unsent])
        try:
            added = await self._pool.run(topology, SEND, [key], *limit_arguments(limits), 1, *stamped)
        except LayerUnavailable as error:
            for sent, _ in unsent:
                if not sent.done():
                    sent.set_exception(LayerUnavailable(error.url, error.reason))
            return
        for number, ((sent, _), event_id) in enumerate(zip(unsent, self._codec.ids_of(stamped), strict=True)):
            if not sent.done():
                sent.set_result(event_id if number < added else None)
