"""A pool of asynchronous connections of one event loop, with commands and scripts."""

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

from channelmap.layers.redis.client.connection import Connection, connect
from channelmap.layers.redis.client.faults import (
    CLOSED,
    Lost,
    Silent,
    Unreached,
    note_failure,
    redirection,
    shown_cause,
    unavailable,
)
from channelmap.layers.redis.client.script import Script
from channelmap.layers.redis.client.sync import ask
from channelmap.layers.redis.client.topology import Address, Topology

log = logging.getLogger("channelmap.layers.redis")

#: Seconds between two pings on idle connections. A network may drop a connection silently; an unanswered ping closes it
#: after the time limit of any command. A pool that only sends commands needs no pings.
PING_SECS = 5.0

#: A connection's server and purpose: '' for commands, else what its blocking command or subscription is for.
_PoolKey = tuple[Topology, Address, str]

#: Sends a command to a server; the future has the reply.
_Call = Callable[..., "asyncio.Future[Any]"]

_SCAN_COUNT = 1_000

T = TypeVar("T")


class ConnectionPool:
    """One connection to each server for commands, and one for each other purpose."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections: dict[_PoolKey, Connection] = {}
        self._connecting: dict[_PoolKey, asyncio.Task[Connection]] = {}
        self._finding: dict[Topology, asyncio.Future[Address]] = {}
        self._pinging: asyncio.TimerHandle | None = None
        #: Servers with an unanswered last ping.
        self._silent: set[tuple[Topology, Address]] = set()
        #: The number of pings that each server has not answered yet.
        self._unanswered = Counter[tuple[Topology, Address]]()
        self._closed = False

    async def run(self, topology: Topology, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script on the server that has the keys.

        Raises:
            LayerUnavailable: the server cannot be reached, or refuses.

        """
        tail = (len(keys), *keys, *arguments)

        async def use(call: _Call) -> Any:
            try:
                return await call("EVALSHA", script.sha, *tail)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return await call("EVAL", script.text, *tail)

        return await self._try(topology, keys[0], use)

    async def call(self, topology: Topology, key: str, *command: Any) -> Any:
        """Send a command to the server that has the key; raises as `run`."""
        return await self._try(topology, key, lambda call: call(*command))

    async def keys(self, topology: Topology, prefix: str, suffix: str = "") -> list[bytes]:
        """Return all keys of a topology with a prefix and a suffix; raises as `run`."""
        pattern = f"{_escaped(prefix)}*{_escaped(suffix)}"

        async def scan(connection: Connection) -> list[bytes]:
            found: list[bytes] = []
            cursor = b"0"
            while True:
                cursor, some = await connection.call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                found += some
                if cursor == b"0":
                    return found

        return [key for keys in await self._on_each_node(topology, scan) for key in keys]

    async def clients(self, topology: Topology) -> list[dict[str, str]] | None:
        """Return the clients of all nodes, as CLIENT LIST describes them; `None` if the user may not list them.

        Raises as `run`.
        """

        async def list_clients(connection: Connection) -> bytes | None:
            try:
                return await connection.call("CLIENT", "LIST", "TYPE", "NORMAL")  # type: ignore[no-any-return]
            except hiredis.ReplyError as error:
                if str(error).startswith("NOPERM"):
                    return None
                raise

        lists = await self._on_each_node(topology, list_clients)
        if None in lists:
            return None
        lines = [line for text in lists if text is not None for line in text.decode(errors="replace").splitlines()]
        return [dict(part.partition("=")[::2] for part in line.split()) for line in lines]

    async def _on_each_node(self, topology: Topology, use: Callable[[Connection], Awaitable[T]]) -> list[T]:
        """Use the connection for commands to each node that has keys; raises as `run`."""
        try:
            addresses = await _in_thread(topology.nodes, ask)
            return [await use(await self._connection_to(topology, address, "")) for address in addresses]
        except Exception as error:  # noqa: BLE001  (raised below)
            problem = error
        raise unavailable(topology, problem) from shown_cause(problem)

    async def delete_all(self, topology: Topology, prefix: str) -> None:
        """Delete all keys of a topology with a prefix; raises as `run`."""
        keys = await self.keys(topology, prefix)
        # One by one: in a Cluster no command names keys of several slots.
        for start in range(0, len(keys), _SCAN_COUNT):
            some = keys[start : start + _SCAN_COUNT]
            await asyncio.gather(*[self.call(topology, key.decode(errors="replace"), "UNLINK", key) for key in some])

    async def connection(self, topology: Topology, key: str, purpose: str = "", **options: Any) -> Connection:
        """Return the connection for a purpose to the server that has the key; open it if necessary.

        Args:
            topology: the server, service or Cluster.
            key: a key that the server has.
            purpose: '' for commands, else any text.
            options: as `connect` takes them.

        Raises:
            Unreached, Lost, hiredis.ReplyError: the server cannot be reached, or refuses the login.

        """
        address = topology.known(key)
        if address is None:
            try:
                address = await self._find(topology, key)
            except OSError as error:
                raise Unreached from error
        return await self._connection_to(topology, address, purpose, **options)

    async def close(self) -> None:
        """Close all connections, and return when they are closed; the pool cannot be used again."""
        self._closed = True
        if self._pinging is not None:
            self._pinging.cancel()
        for finding in self._finding.values():
            if not finding.done():
                finding.set_exception(Lost(CLOSED))
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for connection in self._connections.values():
            connection.close()
        for connection in self._connections.values():
            await connection.closed()

    async def _find(self, topology: Topology, key: str) -> Address:
        """Look up the address of a key; concurrent callers share one look-up."""
        while True:
            if self._closed:
                raise Lost(CLOSED)
            finding = self._finding.get(topology)
            # A look-up that has just ended may be outdated: the addresses may have been forgotten since.
            ours = False
            if finding is None or finding.done():
                ours = True
                finding = self._finding[topology] = _in_thread(topology.find, key, ask)
                finding.add_done_callback(_retrieve_error)
                finding.add_done_callback(partial(self._found, topology))
            try:
                found = await asyncio.shield(finding)
            except Exception:
                # A look-up that failed for another caller's key may have found ours.
                if known := topology.known(key):
                    return known
                raise
            if ours:
                return found
            if known := topology.known(key):
                return known

    def _found(self, topology: Topology, finding: "asyncio.Future[Address]") -> None:
        if self._finding.get(topology) is finding:
            del self._finding[topology]

    async def _try(self, topology: Topology, key: str, use: Callable[[_Call], Awaitable[Any]]) -> Any:
        """Use a connection; try once more if the key may have moved."""
        try:
            return await self._use(topology, key, use)
        except Exception as error:  # noqa: BLE001  (raised below, so that this error is not the context)
            problem = error
        if note_failure(topology, problem):
            other = redirection(topology, key, problem)
            try:
                if other is None:
                    return await self._use(topology, key, use)
                return await use(_asking(await self._connection_to(topology, other, "")))
            except Exception as error:  # noqa: BLE001
                problem = error
        try:
            raise unavailable(topology, problem, key) from shown_cause(problem)
        finally:
            # The error's traceback refers to this frame: each failed call would leave a cycle in memory.
            del problem

    async def _use(self, topology: Topology, key: str, use: Callable[[_Call], Awaitable[Any]]) -> Any:
        address = topology.known(key)
        connection = None if address is None else self._connections.get((topology, address, ""))
        if connection is None or connection.lost:
            connection = await self.connection(topology, key)
        return await use(connection.call)

    async def _connection_to(self, topology: Topology, address: Address, purpose: str, **options: Any) -> Connection:
        if self._closed:
            raise Lost(CLOSED)
        pool_key = (topology, address, purpose)
        connection = self._connections.get(pool_key)
        if connection is not None and not connection.lost:
            return connection
        if pool_key not in self._connecting:
            # A task of its own: the first caller may be cancelled while others wait for the same connection.
            self._connecting[pool_key] = self._loop.create_task(self._connect(pool_key, options))
        connecting = self._connecting[pool_key]
        try:
            return await asyncio.shield(connecting)
        except OSError as error:
            raise Unreached from error
        except asyncio.CancelledError:
            if connecting.cancelled():
                raise Lost(CLOSED) from None
            raise

    async def _connect(self, pool_key: _PoolKey, options: dict[str, Any]) -> Connection:
        topology, address, purpose = pool_key
        try:
            connection = await connect(topology, address, **options)
            self._close_former(topology)
            self._connections[pool_key] = connection
            if purpose and self._pinging is None:
                self._pinging = self._loop.call_later(PING_SECS, self._ping)
            return connection
        finally:
            del self._connecting[pool_key]

    def _ping(self) -> None:
        """Ping over each idle connection; a blocking command has a time limit of its own."""
        self._pinging = self._loop.call_later(PING_SECS, self._ping)
        for (topology, address, _), connection in self._connections.items():
            if connection.idle and not connection.lost:
                self._unanswered[topology, address] += 1
                connection.call("PING").add_done_callback(partial(self._note_ping, topology, address))

    def _note_ping(self, topology: Topology, address: Address, reply: "asyncio.Future[Any]") -> None:
        """Log an unanswered ping, once for all connections to a server; an error reply is an answer."""
        error = reply.exception()
        self._unanswered[topology, address] -= 1
        if not isinstance(error, Silent):
            # An old connection may still be silent beside a new one: both belong to one outage.
            if not self._unanswered[topology, address]:
                self._silent.discard((topology, address))
        elif (topology, address) not in self._silent:
            self._silent.add((topology, address))
            log.warning("%s: idle connections to %s are lost (%s); reconnecting", topology.url, address, error)

    def _close_former(self, topology: Topology) -> None:
        """Close the connections to former servers; those with a pending command are closed at a later call."""
        for pool_key, connection in list(self._connections.items()):
            if pool_key[0] is topology and topology.has_left(pool_key[1]) and (connection.lost or connection.idle):
                del self._connections[pool_key]
                connection.close()


def _asking(connection: Connection) -> _Call:
    """Return a function that sends ASKING before each command, for which alone it is valid."""

    def call(*command: Any) -> "asyncio.Future[Any]":
        connection.call("ASKING").add_done_callback(_retrieve_error)
        return connection.call(*command)

    return call


def _retrieve_error(future: "asyncio.Future[Any]") -> None:
    """Retrieve the error of a future that may have no waiter, or asyncio would log it."""
    if not future.cancelled():
        future.exception()


def _in_thread(function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
    """Run a blocking function in a new thread: silent servers must not occupy the event loop's own threads."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: Any, error: Exception | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def run() -> None:
        result, problem = None, None
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001  (raised from the future)
            problem = error
        with suppress(RuntimeError):  # the loop is closed: there is no waiter
            loop.call_soon_threadsafe(finish, result, problem)

    threading.Thread(target=run, name="channelmap look-up", daemon=True).start()
    return future


def _escaped(text: str) -> str:
    """Escape the special characters of a glob."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)
