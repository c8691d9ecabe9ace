"""Follow the transfer of a large command, so that a slow network is not mistaken for a server that does not answer.

On Linux the kernel tells how many bytes the other machine has acknowledged. Elsewhere, and on Unix sockets, only the
bytes that an event loop has not yet passed to the kernel are known.
"""

import socket
import struct
import sys
from collections.abc import Callable

#: Commands of more bytes than this are followed; smaller ones take seconds only on unusable networks.
LARGE = 65_536

#: The parts of Linux's `struct tcp_info` that are read: tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes.
_TCP_INFO = struct.Struct("=24xI92xQ16xI")


class Transfer:
    """The transfer of the bytes that were written to a connection.

    Args:
        connection: its socket.
        buffered: returns how many written bytes the kernel does not have yet.

    """

    def __init__(self, connection: socket.socket, buffered: Callable[[], int] = int) -> None:
        self._connection = connection
        self._buffered = buffered
        self._idle = False
        #: Whether no bytes were under way in the last two calls of `advanced`. One call is not enough with TLS: bytes
        #: that wait for encryption are not counted.
        self.complete = False
        self._received = self._measure()

    def advanced(self) -> bool:
        """Return whether the other machine has received anything since the last call."""
        before, self._received = self._received, self._measure()
        return self._received > before

    def _measure(self) -> int:
        buffered, outstanding, received = self._buffered(), 0, None
        if sys.platform == "linux":
            try:
                info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            except OSError:  # a Unix socket
                info = b""
            # Kernels before 4.6 return fewer bytes.
            if len(info) == _TCP_INFO.size:
                unacknowledged, received, unsent = _TCP_INFO.unpack(info)
                outstanding = unacknowledged + unsent
        idle = not (buffered or outstanding)
        self.complete, self._idle = idle and self._idle, idle
        return -buffered if received is None else received
