"""One asynchronous connection to a server: commands go out, and each gets a future for its reply.

redis-py's client costs several times as much per command as all the rest of a send, and it cannot share a
connection between those who wait. So redis-py reads URLs and makes TLS contexts here, and hiredis packs and parses.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from channelmap.layers.redis.delivery import LARGE, Delivery
from channelmap.layers.redis.faults import CLOSED, Lost, Silent, discreet
from channelmap.layers.redis.places import Address, Place

_NOTHING = object()
#: How often, within the patience, the transfer of a large command is looked at.
_LOOKS = 4


class Wire(asyncio.Protocol):
    """A connection that many may use at once; replies come in the order of the commands.

    What is called in one turn of the event loop goes out in one piece, the first of it at once.

    Args:
        patience: seconds after which a server that neither answers nor receives is taken for dead.
        told: what to do with what the server says unasked (keys that have changed).

    """

    def __init__(self, patience: float, told: Callable[[Any], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._pending: deque[tuple[asyncio.Future[Any], float, Callable[[Any], None] | None]] = deque()
        self._unsent: list[bytes] = []
        self._corked = False
        self._patience = patience
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._delivery: Delivery | None = None
        self._told = told
        self._transport: asyncio.Transport | None = None
        self._ended = self._loop.create_future()
        self.lost = False

    def call(self, *command: Any, at_once: Callable[[Any], None] | None = None) -> "asyncio.Future[Any]":
        """Send a command; the future has the reply, `hiredis.ReplyError` or `Lost`.

        `at_once` is called with the reply, if it is no error, a turn of the event loop before anybody who waits for
        the future can have it; not when the future was cancelled.
        """
        if self.lost or self._transport is None:
            raise Lost("the connection was lost")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append((future, self._loop.time(), at_once))
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._look_at_the_clock)
        data = hiredis.pack_command(command)
        if len(data) > LARGE:
            self._follow_delivery(self._transport)
        if self._corked:
            self._unsent.append(data)
        else:
            self._corked = True
            self._loop.call_soon(self._uncork)
            self._transport.write(data)
        return future

    def close(self, reason: str = CLOSED, kind: type[Lost] = Lost) -> None:
        """End the connection; those who wait for replies get an error of this kind."""
        if not self.lost:
            self._end(reason, kind=kind)
            if self._transport is not None:
                self._transport.abort()

    @property
    def idle(self) -> bool:
        """Whether no command waits for its reply."""
        return not self._pending

    async def closed(self) -> None:
        """Wait until nothing of the connection is left."""
        await self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is one

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete."""
        self._heard = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                # That a subscription begins is pushed too, in its turn: it is the reply to the command.
                if isinstance(reply, hiredis.PushNotification) and reply[0] != b"ssubscribe":
                    if self._told is not None:
                        self._told(reply)
                    continue
                future, _, at_once = self._pending.popleft()
                if future.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(reply)
                    continue
                future.set_result(reply)
                if at_once is not None:
                    at_once(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close("what answers speaks no Redis protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self._end(f"the connection was lost ({exc})" if exc else "the server closed the connection", exc)
        if not self._ended.done():
            self._ended.set_result(None)

    def _uncork(self) -> None:
        self._corked = False
        if self._unsent and self._transport is not None and not self.lost:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _end(self, reason: str, cause: Exception | None = None, kind: type[Lost] = Lost) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        for future, _, _ in self._pending:
            if not future.done():
                lost = kind(reason)
                lost.__cause__ = cause
                future.set_exception(lost)
                # Whoever was cancelled meanwhile does not look.
                future.exception()
        self._pending.clear()
        if self._told is not None:
            self._told(None)

    def _follow_delivery(self, transport: asyncio.Transport) -> None:
        if self._delivery is None:
            self._delivery = Delivery(transport.get_extra_info("socket"), transport.get_write_buffer_size)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self._patience / _LOOKS, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        # One timer for all commands: one for each would cost more than the command.
        self._timer = None
        if not self._pending:
            self._delivery = None
            return
        now = self._loop.time()
        if self._delivery is not None:
            # A server that is still receiving a command cannot answer it.
            if self._delivery.advanced():
                self._heard = now
            if self._delivery.complete:
                self._delivery = None
        # However long the line of those who wait: a server that answers one after the other is not dead.
        left = max(self._pending[0][1], self._heard) + self._patience - now
        if left > 0:
            until = left if self._delivery is None else min(left, self._patience / _LOOKS)
            self._timer = self._loop.call_later(until, self._look_at_the_clock)
        else:
            self.close(f"the server did not answer for {self._patience:g} s", Silent)


async def connect(
    place: Place,
    address: Address,
    blocks: float = 0.0,
    told: Callable[[Any], None] | None = None,
    then: Sequence[Sequence[Any]] = (),
) -> Wire:
    """Open a connection, greet the server and say what else is to be said first.

    `blocks` is for how many seconds a command may rightly go without an answer.

    Raises:
        OSError, TimeoutError, Lost, hiredis.ReplyError: it cannot be reached, or does not let us in.

    """
    loop = asyncio.get_running_loop()
    connect_secs, answer_secs = place.patience
    wire = Wire(blocks + answer_secs, told)
    async with asyncio.timeout(connect_secs):
        if address.path:
            await loop.create_unix_connection(lambda: wire, address.path)
        else:
            tls = place.tls()
            await loop.create_connection(
                lambda: wire, address.host, address.port, ssl=tls, server_hostname=address.host if tls else None
            )
        refusal = None
        try:
            await asyncio.gather(*[wire.call(*command) for command in [*place.greeting(), *then]])
        except hiredis.ReplyError as error:
            refusal = discreet(error)
            wire.close()
        except BaseException:
            wire.close()
            raise
    if refusal is not None:
        # Out here, or the raw one would be its context.
        raise refusal
    return wire
