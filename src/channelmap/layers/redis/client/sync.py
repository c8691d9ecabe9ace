"""Blocking connections, for code outside an event loop: a pool for threads, and one-off questions."""

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import hiredis

from channelmap.layers.redis.client.faults import (
    Lost,
    Unreached,
    note_failure,
    redirection,
    shown_cause,
    unavailable,
    without_arguments,
)
from channelmap.layers.redis.client.script import Script
from channelmap.layers.redis.client.topology import Address, Topology
from channelmap.layers.redis.client.transfer import LARGE, Transfer

T = TypeVar("T")

_NOTHING = object()
_ASK_SECS = 1.0

#: Sends a command to a server and returns the reply.
_Call = Callable[..., Any]


class SyncConnection:
    """One blocking connection, for one thread at a time.

    Args:
        topology: has the options of the connection.
        address: where the server listens.
        timeouts: as `Topology.timeouts`, to replace them.

    Raises:
        OSError, Lost, hiredis.ReplyError: the server cannot be reached, or refuses the login.

    """

    def __init__(self, topology: Topology, address: Address, timeouts: tuple[float, float] | None = None) -> None:
        connect_secs, answer_secs = timeouts or topology.timeouts
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._socket = _open(topology, address, connect_secs)
        self._socket.settimeout(answer_secs)
        self._watch = select.poll()
        self._watch.register(self._socket, select.POLLIN)
        refusal = None
        try:
            for command in topology.handshake():
                self.call(*command)
        except hiredis.ReplyError as error:
            refusal = without_arguments(error)
            self.close()
        except BaseException:
            self.close()
            raise
        if refusal is not None:
            # Raised here, so that the raw error is not its context.
            raise refusal

    @property
    def alive(self) -> bool:
        """Return whether nothing waits to be read: an idle connection becomes readable when it ends."""
        return not self._watch.poll(0)

    def call(self, *command: Any) -> Any:
        """Send a command and return its reply."""
        data = hiredis.pack_command(command)
        receive: Callable[[int], bytes] = self._socket.recv
        if len(data) > LARGE:
            receive = self._send_large(data)
        else:
            self._socket.sendall(data)
        while (reply := self._reader.gets()) is _NOTHING:
            answer = receive(65_536)
            if not answer:
                raise Lost("the server closed the connection")
            self._reader.feed(answer)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def _send_large(self, data: bytes) -> Callable[[int], bytes]:
        """Send a command whose transfer may exceed the time limit; return the function that receives the reply."""
        transfer = Transfer(self._socket)
        unsent = memoryview(data)
        while unsent:
            unsent = unsent[_within_transfer(transfer, self._socket.send, unsent[:LARGE]) :]
        return partial(_within_transfer, transfer, self._socket.recv)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _open(topology: Topology, address: Address, connect_secs: float) -> socket.socket:
    if address.path:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(connect_secs)
        try:
            connection.connect(address.path)
        except OSError:
            connection.close()
            raise
    else:
        tls = topology.tls_context()
        connection = socket.create_connection((address.host, address.port), connect_secs)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            connection = tls.wrap_socket(connection, server_hostname=address.host)
    return connection


def ask(topology: Topology, address: Address, command: Sequence[Any]) -> Any:
    """Send one command over a new connection and return the reply."""
    connection = SyncConnection(topology, address, (_ASK_SECS, _ASK_SECS))
    try:
        return connection.call(*command)
    finally:
        connection.close()


class SyncPool:
    """A pool of blocking connections for all threads of a process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._idle: dict[tuple[Topology, Address], deque[SyncConnection]] = {}

    def run(self, topology: Topology, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script on the server that has the keys.

        Raises:
            LayerUnavailable: the server cannot be reached, or refuses.

        """
        tail = (len(keys), *keys, *arguments)

        def run(call: _Call) -> Any:
            try:
                return call("EVALSHA", script.sha, *tail)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return call("EVAL", script.text, *tail)

        return self._try(topology, keys[0], run)

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _try(self, topology: Topology, key: str, use: Callable[[_Call], Any]) -> Any:
        """Use a connection; try once more if the key may have moved."""
        try:
            return self._use(topology, key, use)
        except Exception as error:  # noqa: BLE001  (raised below, so that this error is not the context)
            problem = error
        if note_failure(topology, problem):
            try:
                return self._use(topology, key, use, redirection(topology, key, problem))
            except Exception as error:  # noqa: BLE001
                problem = error
        raise unavailable(topology, problem, key) from shown_cause(problem)

    def _use(self, topology: Topology, key: str, use: Callable[[_Call], Any], asked: Address | None = None) -> Any:
        try:
            address = asked or topology.known(key) or topology.find(key, ask)
            idle = self._idle_at(topology, address)
            connection = _pop_alive(idle) or self._open(topology, address)
        except OSError as error:
            raise Unreached from error
        try:
            result = use(connection.call if asked is None else _asking(connection))
        except hiredis.ReplyError:
            idle.append(connection)
            raise
        except BaseException:
            connection.close()
            raise
        if topology.has_left(address):
            connection.close()
        else:
            idle.append(connection)
        return result

    def _open(self, topology: Topology, address: Address) -> SyncConnection:
        """Open a connection, and close idle connections to former servers."""
        connection = SyncConnection(topology, address)
        for where in list(self._idle):
            if where[0] is topology and topology.has_left(where[1]):
                left = self._idle.pop(where, deque())
                while left:
                    left.pop().close()
        return connection

    def _idle_at(self, topology: Topology, address: Address) -> "deque[SyncConnection]":
        if self._pid != os.getpid():
            # Inherited connections belong to the parent: both processes would read each other's replies.
            self.close()
            self._pid = os.getpid()
        return self._idle.setdefault((topology, address), deque())


def _within_transfer(transfer: Transfer, operation: Callable[[Any], T], argument: Any) -> T:
    """Use a socket with a time limit; start again while the server is still receiving the command."""
    while True:
        try:
            return operation(argument)
        except TimeoutError:
            if not transfer.advanced():
                raise


def _asking(connection: SyncConnection) -> _Call:
    """Return a function that sends ASKING before each command, for which alone it is valid."""

    def call(*command: Any) -> Any:
        connection.call("ASKING")
        return connection.call(*command)

    return call


def _pop_alive(idle: "deque[SyncConnection]") -> SyncConnection | None:
    while True:
        try:
            connection = idle.pop()
        except IndexError:
            return None
        if connection.alive:
            return connection
        connection.close()
