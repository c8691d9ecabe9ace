"""Close Django's database connections after handlers, as Django does after requests.

A connection is closed when it has reached `CONN_MAX_AGE` or has failed. So after a restart of the database server each
connection costs at most the event during which it broke.
"""

import asyncio
import threading
import time
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.db.backends.signals import connection_created

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, Send, forward
from channelmap.threads import in_own_thread


def closing_connections(application: Application) -> Application:
    """Return an application that closes the connections of its handlers after each event, if they are due.

    Each instance has its own connections, because its handlers run their queries in a thread of their own. An event
    whose handlers have no connections costs two calls.
    """
    connection_created.connect(_note_connection, dispatch_uid=__name__)

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        _close_orphans()
        connections = _Connections()
        _connections.set(connections)

        async def closing_receive() -> Event:
            if connections.are_due():
                await sync_to_async(connections.close_due)()
            return await receive()

        def through(at_hand: AtHand) -> AtHand:
            # Called in the thread of the handlers, between two events.
            def closing_at_hand() -> Event | None:
                if connections.are_due():
                    connections.close_due()
                return at_hand()

            return closing_at_hand

        try:
            await application(scope, forward(receive, closing_receive, through), send)
        except asyncio.CancelledError:
            # A thread may still run a handler that was cut off.
            _orphans.append(connections)
            raise
        except BaseException:
            await connections.close_all()
            raise
        await connections.close_all()

    return in_own_thread(closing)


class _Connections:
    """The connections that the handlers of one instance have opened, each with its thread."""

    def __init__(self) -> None:
        self._opened: list[tuple[Any, threading.Thread]] = []

    def add(self, connection: Any) -> None:
        """Add a connection of the current thread that was opened just now, perhaps again."""
        if all(connection is not known for known, _ in self._opened):
            self._opened.append((connection, threading.current_thread()))

    def are_due(self) -> bool:
        """Return whether `close_due` has something to do."""
        return any(_is_due(connection) for connection, _ in self._opened)

    def close_due(self) -> None:
        """Close connections that are obsolete or unusable; call this between two events."""
        for connection, _ in self._opened:
            connection.queries_log.clear()
            _in_this_thread(connection, connection.close_if_unusable_or_obsolete)
        self._opened = [entry for entry in self._opened if entry[0].connection is not None]

    async def close_all(self) -> None:
        """Close all connections, in a thread; without any, no thread is started."""
        if self:
            await sync_to_async(self.close)()

    def close(self, *, only_of_dead_threads: bool = False) -> None:
        """Close all connections."""
        for entry in [*self._opened]:
            connection, thread = entry
            if not (only_of_dead_threads and thread.is_alive()):
                self._opened.remove(entry)
                _in_this_thread(connection, connection.close)

    def __bool__(self) -> bool:
        return bool(self._opened)


#: The connections of the current instance, in its handlers and in the threads that these await.
_connections: ContextVar[_Connections | None] = ContextVar("connections", default=None)
#: Connections of instances that were cancelled; closed once their threads have ended.
_orphans: list[_Connections] = []


def _note_connection(connection: Any, **_: Any) -> None:
    connections = _connections.get()
    if connections is not None:
        connections.add(connection)


def _close_orphans() -> None:
    for connections in [*_orphans]:
        connections.close(only_of_dead_threads=True)
        if not connections:
            _orphans.remove(connections)


def _is_due(connection: Any) -> bool:
    """Return whether `close_if_unusable_or_obsolete` would do something, without a call of the database."""
    return connection.connection is not None and (
        (connection.close_at is not None and time.monotonic() >= connection.close_at)
        or connection.errors_occurred
        or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
        # Ask the server before the next event, and not for each query.
        or (connection.health_check_enabled and connection.health_check_done)
    )


def _in_this_thread(connection: Any, call: Any) -> None:
    """Call a method of a connection that belongs to another thread, which does not use it now."""
    connection.inc_thread_sharing()
    try:
        call()
    finally:
        connection.dec_thread_sharing()
