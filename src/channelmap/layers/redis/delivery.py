"""Follows the transfer of a large command, so that a slow connection is not taken for a server that does not answer.

On Linux the kernel says how many bytes the other machine has acknowledged. Elsewhere, and on Unix sockets, only what
an event loop has not yet given to the kernel is known.
"""

import socket
import struct
import sys
from collections.abc import Callable

#: Bytes above which the transfer of a command is followed: less takes seconds on no connection worth using.
LARGE = 65_536

#: The parts of Linux's `struct tcp_info` that are read: tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes.
_TCP_INFO = struct.Struct("=24xI92xQ16xI")


class Delivery:
    """The transfer of what was written to a connection.

    Args:
        connection: its socket.
        buffered: counts the bytes that were written and that the kernel does not have yet.

    """

    def __init__(self, connection: socket.socket, buffered: Callable[[], int] = int) -> None:
        self._connection = connection
        self._buffered = buffered
        self._idle = False
        #: Whether nothing is under way any more, as the last two calls of `advanced` saw it. With TLS once is not
        #: enough: what waits to be encrypted is not seen here.
        self.complete = False
        self._received = self._look()

    def advanced(self) -> bool:
        """Whether the other machine has received anything since the last call."""
        before, self._received = self._received, self._look()
        return self._received > before

    def _look(self) -> int:
        buffered, outstanding, received = self._buffered(), 0, None
        if sys.platform == "linux":
            try:
                info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            except OSError:  # a Unix socket
                info = b""
            # Kernels before 4.6 say less.
            if len(info) == _TCP_INFO.size:
                unacknowledged, received, unsent = _TCP_INFO.unpack(info)
                outstanding = unacknowledged + unsent
        idle = not (buffered or outstanding)
        self.complete, self._idle = idle and self._idle, idle
        return -buffered if received is None else received
