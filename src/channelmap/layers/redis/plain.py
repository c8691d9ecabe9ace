"""Connections that block, for code in no event loop: a few that threads take turns with, and one for a question."""

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import hiredis

from channelmap.layers.redis.delivery import LARGE, Delivery
from channelmap.layers.redis.faults import (
    Lost,
    Unreached,
    asked_instead,
    discreet,
    fit_to_show,
    unavailable,
    worth_another_try,
)
from channelmap.layers.redis.places import Address, Place
from channelmap.layers.redis.scripts import Script

T = TypeVar("T")

_NOTHING = object()
_ASK_SECS = 1.0

#: Gives a command to a server, and returns its reply.
_Call = Callable[..., Any]


class PlainWire:
    """One connection, for one thread at a time.

    Raises:
        OSError, Lost, hiredis.ReplyError: it cannot be reached, or does not let us in.

    """

    def __init__(self, place: Place, address: Address, patience: tuple[float, float] | None = None) -> None:
        connect_secs, answer_secs = patience or place.patience
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._socket = _open(place, address, connect_secs)
        self._socket.settimeout(answer_secs)
        self._watch = select.poll()
        self._watch.register(self._socket, select.POLLIN)
        refusal = None
        try:
            for command in place.greeting():
                self.call(*command)
        except hiredis.ReplyError as error:
            refusal = discreet(error)
            self.close()
        except BaseException:
            self.close()
            raise
        if refusal is not None:
            # Out here, or the raw one would be its context.
            raise refusal

    @property
    def alive(self) -> bool:
        """Whether nothing has come unasked, as the end of the connection does."""
        return not self._watch.poll(0)

    def call(self, *command: Any) -> Any:
        """Send a command and wait for its reply."""
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
        """Send a command whose transfer may take longer than the patience; return what receives its reply."""
        delivery = Delivery(self._socket)
        unsent = memoryview(data)
        while unsent:
            unsent = unsent[_patiently(delivery, self._socket.send, unsent[:LARGE]) :]
        return partial(_patiently, delivery, self._socket.recv)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _open(place: Place, address: Address, connect_secs: float) -> socket.socket:
    if address.path:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(connect_secs)
        try:
            connection.connect(address.path)
        except OSError:
            connection.close()
            raise
    else:
        tls = place.tls()
        connection = socket.create_connection((address.host, address.port), connect_secs)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            connection = tls.wrap_socket(connection, server_hostname=address.host)
    return connection


def ask(place: Place, address: Address, command: Sequence[Any]) -> Any:
    """Ask a server one thing, over a connection of its own."""
    wire = PlainWire(place, address, (_ASK_SECS, _ASK_SECS))
    try:
        return wire.call(*command)
    finally:
        wire.close()


class Plain:
    """The connections of one layer that no thread is using just now."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._idle: dict[tuple[Place, Address], deque[PlainWire]] = {}

    def run(self, place: Place, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script.

        Raises:
            LayerUnavailable: the server is away, or refuses.

        """
        tail = (len(keys), *keys, *arguments)

        def run(call: _Call) -> Any:
            try:
                return call("EVALSHA", script.sha, *tail)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return call("EVAL", script.text, *tail)

        return self._tried(place, keys[0], run)

    def close(self) -> None:
        """Close what is not in use."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _tried(self, place: Place, key: str, use: Callable[[_Call], Any]) -> Any:
        """Use a connection; where the key may have moved, look once more."""
        try:
            return self._once(place, key, use)
        except Exception as error:  # noqa: BLE001  (raised below, where what is not fit to be shown is no context)
            problem = error
        if worth_another_try(place, problem):
            try:
                return self._once(place, key, use, asked_instead(place, key, problem))
            except Exception as error:  # noqa: BLE001
                problem = error
        raise unavailable(place, problem, key) from fit_to_show(problem)

    def _once(self, place: Place, key: str, use: Callable[[_Call], Any], asked: Address | None = None) -> Any:
        try:
            address = asked or place.known(key) or place.find(key, ask)
            idle = self._idle_at(place, address)
            wire = _pick(idle) or self._open(place, address)
        except OSError as error:
            raise Unreached from error
        try:
            result = use(wire.call if asked is None else _asking(wire))
        except hiredis.ReplyError:
            idle.append(wire)
            raise
        except BaseException:
            wire.close()
            raise
        if place.has_left(address):
            wire.close()
        else:
            idle.append(wire)
        return result

    def _open(self, place: Place, address: Address) -> PlainWire:
        """Open a connection; those to where the place was before are closed."""
        wire = PlainWire(place, address)
        for where in list(self._idle):
            if where[0] is place and place.has_left(where[1]):
                left = self._idle.pop(where, deque())
                while left:
                    left.pop().close()
        return wire

    def _idle_at(self, place: Place, address: Address) -> "deque[PlainWire]":
        if self._pid != os.getpid():
            # What a fork inherits is its parent's: two would read each other's replies.
            self.close()
            self._pid = os.getpid()
        return self._idle.setdefault((place, address), deque())


def _patiently(delivery: Delivery, operation: Callable[[Any], T], argument: Any) -> T:
    """Use a socket, which has a time-out; begin anew while the server is still receiving the command."""
    while True:
        try:
            return operation(argument)
        except TimeoutError:
            if not delivery.advanced():
                raise


def _asking(wire: PlainWire) -> _Call:
    """Say ASKING before each command, which is good for one."""

    def call(*command: Any) -> Any:
        wire.call("ASKING")
        return wire.call(*command)

    return call


def _pick(idle: "deque[PlainWire]") -> PlainWire | None:
    while True:
        try:
            wire = idle.pop()
        except IndexError:
            return None
        if wire.alive:
            return wire
        wire.close()
