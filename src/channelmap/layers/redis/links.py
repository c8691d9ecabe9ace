"""The connections of a layer in one event loop, and what is said over them."""

import asyncio
import logging
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import hiredis

from channelmap.layers.redis.faults import (
    CLOSED,
    Lost,
    Silent,
    Unreached,
    asked_instead,
    fit_to_show,
    unavailable,
    worth_another_try,
)
from channelmap.layers.redis.places import Address, Place
from channelmap.layers.redis.plain import ask
from channelmap.layers.redis.scripts import PUT_BACK, Script
from channelmap.layers.redis.wire import Wire, connect

log = logging.getLogger("channelmap.layers.redis")

#: Seconds between two pings on an idle connection of a process that waits for events. A network may drop a connection
#: without a word; it is closed when a ping is not answered as soon as any command must be.
PING_SECS = 5.0

#: Where a connection goes to and what it is for: '' for commands, else what it waits for.
_Line = tuple[Place, Address, str]

#: Gives a command to a server; the future has the reply.
_Call = Callable[..., "asyncio.Future[Any]"]

_SCAN_COUNT = 1_000

T = TypeVar("T")

#: Member and score of each event.
Rows = list[tuple[bytes, float]]


class Links:
    """One connection to each server for commands, and those that wait.

    Args:
        prefix: what the layer's keys begin with.

    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._wires: dict[_Line, Wire] = {}
        self._connecting: dict[_Line, asyncio.Task[Wire]] = {}
        self._finding: dict[Place, asyncio.Future[Address]] = {}
        self._pinging: asyncio.TimerHandle | None = None
        #: Servers whose last ping was not answered.
        self._silent: set[tuple[Place, Address]] = set()
        #: How many pings each server has still to answer.
        self._unanswered = Counter[tuple[Place, Address]]()
        self._closed = False

    async def run(self, place: Place, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script on the server that has the keys.

        Raises:
            LayerUnavailable: the server is away, or refuses.

        """
        tail = (len(keys), *keys, *arguments)

        async def use(call: _Call) -> Any:
            try:
                return await call("EVALSHA", script.sha, *tail)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return await call("EVAL", script.text, *tail)

        return await self._tried(place, keys[0], use)

    async def call(self, place: Place, key: str, *command: Any) -> Any:
        """Give a command to the server that has the key; raises as `run`."""
        return await self._tried(place, key, lambda call: call(*command))

    async def keys(self, place: Place, beginning: str, end: str = "") -> list[bytes]:
        """Name all keys of a place that begin and end so; raises as `run`."""
        pattern = f"{_glob(beginning)}*{_glob(end)}"
        found: list[bytes] = []
        try:
            for address in await _apart(place.everywhere, ask):
                wire = await self._line_to(place, address, "")
                cursor = b"0"
                while True:
                    cursor, some = await wire.call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                    found += some
                    if cursor == b"0":
                        break
        except Exception as error:  # noqa: BLE001  (raised below)
            problem = error
        else:
            return found
        raise unavailable(place, problem) from fit_to_show(problem)

    async def delete_all(self, place: Place, prefix: str) -> None:
        """Delete all keys of a layer; raises as `run`."""
        for beginning in place.beginnings(prefix):
            keys = await self.keys(place, beginning)
            # One by one: in a Cluster no command names keys of several slots.
            for start in range(0, len(keys), _SCAN_COUNT):
                some = keys[start : start + _SCAN_COUNT]
                await asyncio.gather(*[self.call(place, key.decode(errors="replace"), "UNLINK", key) for key in some])

    async def put_back(self, place: Place, key: str, rows: Rows, ttl: int | str) -> None:
        """Put events to the front again; raises as `run`."""
        pairs = [part for member, score in rows for part in (repr(score), member)]
        await self.run(place, PUT_BACK, [key], ttl, *pairs)

    async def line(self, place: Place, key: str, purpose: str = "", **options: Any) -> Wire:
        """Return the connection for a purpose to the server that has the key, opened if need be.

        Raises:
            Unreached, Lost, hiredis.ReplyError: there is none to be had.

        """
        address = place.known(key)
        if address is None:
            try:
                address = await self._find(place, key)
            except OSError as error:
                raise Unreached from error
        return await self._line_to(place, address, purpose, **options)

    async def close(self) -> None:
        """Close all connections for good, and return when they are closed."""
        self._closed = True
        if self._pinging is not None:
            self._pinging.cancel()
        for finding in self._finding.values():
            if not finding.done():
                finding.set_exception(Lost(CLOSED))
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for wire in self._wires.values():
            wire.close()
        for wire in self._wires.values():
            await wire.closed()

    async def _find(self, place: Place, key: str) -> Address:
        """Look up where a key is; those who ask at the same time share what is found out."""
        while True:
            if self._closed:
                raise Lost(CLOSED)
            finding = self._finding.get(place)
            # One that has just ended knows nothing new for who comes after it: the place may have been forgotten again.
            ours = False
            if finding is None or finding.done():
                ours = True
                finding = self._finding[place] = _apart(place.find, key, ask)
                finding.add_done_callback(_look_at)
                finding.add_done_callback(partial(self._found, place))
            try:
                found = await asyncio.shield(finding)
            except Exception:
                # What was in vain for another's key may have found ours.
                if known := place.known(key):
                    return known
                raise
            if ours:
                return found
            if known := place.known(key):
                return known

    def _found(self, place: Place, finding: "asyncio.Future[Address]") -> None:
        if self._finding.get(place) is finding:
            del self._finding[place]

    async def _tried(self, place: Place, key: str, use: Callable[[_Call], Awaitable[Any]]) -> Any:
        """Use a connection; where the key may have moved, look once more."""
        try:
            return await self._once(place, key, use)
        except Exception as error:  # noqa: BLE001  (raised below, where what is not fit to be shown is no context)
            problem = error
        if worth_another_try(place, problem):
            asked = asked_instead(place, key, problem)
            try:
                if asked is None:
                    return await self._once(place, key, use)
                return await use(_asking(await self._line_to(place, asked, "")))
            except Exception as error:  # noqa: BLE001
                problem = error
        try:
            raise unavailable(place, problem, key) from fit_to_show(problem)
        finally:
            # Its traceback refers to this frame: each failed call would leave a cycle, which only the collector frees.
            del problem

    async def _once(self, place: Place, key: str, use: Callable[[_Call], Awaitable[Any]]) -> Any:
        address = place.known(key)
        wire = None if address is None else self._wires.get((place, address, ""))
        if wire is None or wire.lost:
            wire = await self.line(place, key)
        return await use(wire.call)

    async def _line_to(self, place: Place, address: Address, purpose: str, **options: Any) -> Wire:
        if self._closed:
            raise Lost(CLOSED)
        line = (place, address, purpose)
        wire = self._wires.get(line)
        if wire is not None and not wire.lost:
            return wire
        if line not in self._connecting:
            # A task of its own: whoever asks first may be cancelled, and others wait for the same.
            self._connecting[line] = self._loop.create_task(self._connect(line, options))
        connecting = self._connecting[line]
        try:
            return await asyncio.shield(connecting)
        except OSError as error:
            raise Unreached from error
        except asyncio.CancelledError:
            if connecting.cancelled():
                raise Lost(CLOSED) from None
            raise

    async def _connect(self, line: _Line, options: dict[str, Any]) -> Wire:
        place, address, purpose = line
        try:
            wire = await connect(place, address, **options)
            self._forget_left(place)
            self._wires[line] = wire
            if purpose and self._pinging is None:
                self._pinging = self._loop.call_later(PING_SECS, self._ping)
            return wire
        finally:
            del self._connecting[line]

    def _ping(self) -> None:
        """Ping over each idle connection; a blocked one has a time limit of its own."""
        self._pinging = self._loop.call_later(PING_SECS, self._ping)
        for (place, address, _), wire in self._wires.items():
            if wire.idle and not wire.lost:
                self._unanswered[place, address] += 1
                wire.call("PING").add_done_callback(partial(self._note_ping, place, address))

    def _note_ping(self, place: Place, address: Address, reply: "asyncio.Future[Any]") -> None:
        """Log an unanswered ping, once for all connections to a server; a refusal is an answer."""
        error = reply.exception()
        self._unanswered[place, address] -= 1
        if not isinstance(error, Silent):
            # Beside a new connection, an old one that was busy before may still be silent: that is the same silence.
            if not self._unanswered[place, address]:
                self._silent.discard((place, address))
        elif (place, address) not in self._silent:
            self._silent.add((place, address))
            log.warning("%s: idle connections to %s are lost (%s); connecting anew", place.url, address, error)

    def _forget_left(self, place: Place) -> None:
        """Close the connections to where a place was before; one with a command under way is closed a time later."""
        for line, wire in list(self._wires.items()):
            if line[0] is place and place.has_left(line[1]) and (wire.lost or wire.idle):
                del self._wires[line]
                wire.close()


def _asking(wire: Wire) -> _Call:
    """Say ASKING before each command, which is good for one; both go out together."""

    def call(*command: Any) -> "asyncio.Future[Any]":
        wire.call("ASKING").add_done_callback(_look_at)
        return wire.call(*command)

    return call


def _look_at(future: "asyncio.Future[Any]") -> None:
    """Take note of an error that may be nobody's."""
    if not future.cancelled():
        future.exception()


def _apart(function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
    """Run what blocks in a thread of its own: those of the event loop are the user's, and not for silent servers."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: Any, error: Exception | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def run() -> None:
        result, problem = None, None
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001  (for whoever waits)
            problem = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(finish, result, problem)

    threading.Thread(target=run, name="channelmap look-up", daemon=True).start()
    return future


def _glob(text: str) -> str:
    """Write a text so that a glob means just it."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)
