"""The connections of a layer in one event loop, and what is said over them."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis

from channelmap.layers.redis.faults import CLOSED, Lost, Unreached, unavailable, worth_another_try
from channelmap.layers.redis.places import Address, Place
from channelmap.layers.redis.plain import ask
from channelmap.layers.redis.scripts import PUT_BACK, Script
from channelmap.layers.redis.wire import Wire, connect

#: Where a connection goes to and what it is for: '' for commands, else what it waits for.
_Line = tuple[Place, Address, str]

_SCAN_COUNT = 1_000

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
        self._closed = False

    async def run(self, place: Place, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script on the server that has the keys.

        Raises:
            LayerUnavailable: the server is away, or refuses.

        """
        tail = (len(keys), *keys, *arguments)

        async def use(wire: Wire) -> Any:
            try:
                return await wire.call("EVALSHA", script.sha, *tail)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return await wire.call("EVAL", script.text, *tail)

        return await self._tried(place, keys[0], use)

    async def call(self, place: Place, key: str, *command: Any) -> Any:
        """Give a command to the server that has the key; raises as `run`."""
        return await self._tried(place, key, lambda wire: wire.call(*command))

    async def keys(self, place: Place, beginning: str, end: str = "") -> list[bytes]:
        """Name all keys of a place that begin and end so; raises as `run`."""
        pattern = f"{_glob(beginning)}*{_glob(end)}"
        found: list[bytes] = []
        try:
            for address in await asyncio.to_thread(place.everywhere, ask):
                wire = await self._line_to(place, address, "")
                cursor = b"0"
                while True:
                    cursor, some = await wire.call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                    found += some
                    if cursor == b"0":
                        break
        except Exception as error:
            raise unavailable(place, error) from error
        return found

    async def delete_all(self, place: Place, prefix: str) -> None:
        """Delete all keys of a layer; raises as `run`."""
        for beginning in place.beginnings(prefix):
            keys = await self.keys(place, beginning)
            # One by one: in a Cluster no command names keys of several slots.
            await asyncio.gather(*[self.call(place, key.decode(errors="replace"), "UNLINK", key) for key in keys])

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
                address = await asyncio.to_thread(place.find, key, ask)
            except OSError as error:
                raise Unreached from error
        return await self._line_to(place, address, purpose, **options)

    async def close(self) -> None:
        """Close all connections for good, and return when they are closed."""
        self._closed = True
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for wire in self._wires.values():
            wire.close()
        for wire in self._wires.values():
            await wire.closed()

    async def _tried(self, place: Place, key: str, use: Callable[[Wire], Awaitable[Any]]) -> Any:
        """Use a connection; where the key may have moved, look once more."""
        try:
            return await self._once(place, key, use)
        except Exception as error:
            if not worth_another_try(place, error):
                raise unavailable(place, error, key) from error
        try:
            return await self._once(place, key, use)
        except Exception as error:
            raise unavailable(place, error, key) from error

    async def _once(self, place: Place, key: str, use: Callable[[Wire], Awaitable[Any]]) -> Any:
        address = place.known(key)
        wire = None if address is None else self._wires.get((place, address, ""))
        if wire is None or wire.lost:
            wire = await self.line(place, key)
        return await use(wire)

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
        place, address, _ = line
        try:
            self._wires[line] = await connect(place, address, **options)
            return self._wires[line]
        finally:
            del self._connecting[line]


def _glob(text: str) -> str:
    """Write a text so that a glob means just it."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)
