"""One asynchronous connection to a server: each command gets a future for its reply.

redis-py's own client costs several times as much per command, and its connections cannot be shared by concurrent
callers. So redis-py only reads URLs and makes TLS contexts, and hiredis packs commands and parses replies.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from channelmap.layers.redis.client.faults import CLOSED, Lost, Silent, without_arguments
from channelmap.layers.redis.client.topology import Address, Topology
from channelmap.layers.redis.client.transfer import LARGE, Transfer

_NOTHING = object()
#: How often, within the time limit of an answer, the transfer of a large command is checked.
_CHECKS = 4


class Connection(asyncio.Protocol):
    """A connection for concurrent callers; replies come in the order of the commands.

    The first command of a turn of the event loop is written at once, the others of that turn together.

    Args:
        answer_secs: seconds after which a server that neither answers nor receives counts as lost.
        on_push: called with each message that is not a reply, and with `None` when the connection is lost.

    """

    def __init__(self, answer_secs: float, on_push: Callable[[Any], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._pending: deque[tuple[asyncio.Future[Any], float, Callable[[Any], None] | None]] = deque()
        self._unsent: list[bytes] = []
        self._corked = False
        self._answer_secs = answer_secs
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transfer: Transfer | None = None
        self._on_push = on_push
        self._transport: asyncio.Transport | None = None
        self._ended = self._loop.create_future()
        self.lost = False

    def call(self, *command: Any, on_reply: Callable[[Any], None] | None = None) -> "asyncio.Future[Any]":
        """Send a command and return a future with the reply, `hiredis.ReplyError` or `Lost`.

        Args:
            command: the command and its arguments.
            on_reply: called with the reply a turn of the event loop before the future wakes its waiter; not called for
                an error, nor after the future was cancelled.

        Raises:
            Lost: the connection is not open.

        """
        if self.lost or self._transport is None:
            raise Lost("the connection was lost")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append((future, self._loop.time(), on_reply))
        if self._timer is None:
            self._timer = self._loop.call_later(self._answer_secs, self._check_deadline)
        data = hiredis.pack_command(command)
        if len(data) > LARGE:
            self._follow_transfer(self._transport)
        if self._corked:
            self._unsent.append(data)
        else:
            self._corked = True
            self._loop.call_soon(self._uncork)
            self._transport.write(data)
        return future

    def close(self, reason: str = CLOSED, kind: type[Lost] = Lost) -> None:
        """Close the connection; pending commands get an error of this kind."""
        if not self.lost:
            self._end(reason, kind=kind)
            if self._transport is not None:
                self._transport.abort()

    @property
    def idle(self) -> bool:
        """Return whether no command waits for its reply."""
        return not self._pending

    async def closed(self) -> None:
        """Wait until the transport is closed."""
        await self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # that of a stream

    def data_received(self, data: bytes) -> None:
        """Pass complete replies to their futures."""
        self._heard = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                # The confirmation of a subscription is a push message, but also the reply to the command.
                if isinstance(reply, hiredis.PushNotification) and reply[0] != b"ssubscribe":
                    if self._on_push is not None:
                        self._on_push(reply)
                    continue
                future, _, on_reply = self._pending.popleft()
                if future.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(reply)
                    continue
                future.set_result(reply)
                if on_reply is not None:
                    on_reply(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close("the server does not speak the Redis protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the pending commands."""
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
                # A cancelled caller would never retrieve it, and asyncio would log that.
                future.exception()
        self._pending.clear()
        if self._on_push is not None:
            self._on_push(None)

    def _follow_transfer(self, transport: asyncio.Transport) -> None:
        if self._transfer is None:
            self._transfer = Transfer(transport.get_extra_info("socket"), transport.get_write_buffer_size)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self._answer_secs / _CHECKS, self._check_deadline)

    def _check_deadline(self) -> None:
        # One timer serves all commands: a timer for each would cost more than the command.
        self._timer = None
        if not self._pending:
            self._transfer = None
            return
        now = self._loop.time()
        if self._transfer is not None:
            # A server that is still receiving a command cannot answer it yet.
            if self._transfer.advanced():
                self._heard = now
            if self._transfer.complete:
                self._transfer = None
        # A server that answers one command after the other is alive, however many are pending.
        left = max(self._pending[0][1], self._heard) + self._answer_secs - now
        if left > 0:
            until = left if self._transfer is None else min(left, self._answer_secs / _CHECKS)
            self._timer = self._loop.call_later(until, self._check_deadline)
        else:
            self.close(f"the server did not answer for {self._answer_secs:g} s", Silent)


async def connect(
    topology: Topology,
    address: Address,
    block_secs: float = 0.0,
    on_push: Callable[[Any], None] | None = None,
    commands: Sequence[Sequence[Any]] = (),
) -> Connection:
    """Open a connection and log in.

    Args:
        topology: has the options of the connection.
        address: where the server listens.
        block_secs: the longest time, in seconds, that a command may block on the server.
        on_push: as in `Connection`.
        commands: further commands that are sent before the connection is used.

    Raises:
        OSError, TimeoutError, Lost, hiredis.ReplyError: the server cannot be reached, or refuses the login.

    """
    loop = asyncio.get_running_loop()
    connect_secs, answer_secs = topology.timeouts
    connection = Connection(block_secs + answer_secs, on_push)
    async with asyncio.timeout(connect_secs):
        if address.path:
            await loop.create_unix_connection(lambda: connection, address.path)
        else:
            tls = topology.tls_context()
            await loop.create_connection(
                lambda: connection, address.host, address.port, ssl=tls, server_hostname=address.host if tls else None
            )
        refusal = None
        try:
            await asyncio.gather(*[connection.call(*command) for command in [*topology.handshake(), *commands]])
        except hiredis.ReplyError as error:
            refusal = without_arguments(error)
            connection.close()
        except BaseException:
            connection.close()
            raise
    if refusal is not None:
        # Raised here, so that the raw error is not its context.
        raise refusal
    return connection
