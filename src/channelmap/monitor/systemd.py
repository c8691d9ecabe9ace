"""Notify systemd of the state of a service (`Type=notify`, `WatchdogSec=`), see sd_notify(3)."""

import os
import socket
from contextlib import suppress


class Systemd:
    """The notification socket of this process, if systemd has started it with one.

    Args:
        address: path of the socket; a first character `@` is the abstract namespace. Empty for none.
        watchdog: whether systemd expects regular messages.

    """

    def __init__(self, address: str, *, watchdog: bool) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = watchdog

    @classmethod
    def from_environment(cls) -> "Systemd":
        """Return the socket of this process, and hide it from the processes that this one starts."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        expected = os.environ.pop("WATCHDOG_USEC", "")
        return cls(address, watchdog=bool(expected) and pid in ("", str(os.getpid())))

    @property
    def is_used(self) -> bool:
        """Whether there is a socket."""
        return bool(self._address)

    def ready(self) -> None:
        """Tell that the service has started."""
        self._send("READY=1")

    def alive(self, text: str) -> None:
        """Feed the watchdog, and show a text in `systemctl status`."""
        self._send(f"STATUS={text}" + ("\nWATCHDOG=1" if self._watchdog else ""))

    def stuck(self, text: str) -> None:
        """Show a text in `systemctl status` without feeding the watchdog."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """Tell that the service stops."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address:
            # A service manager that does not listen must not end the worker.
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
                notifying.settimeout(0)
                notifying.sendto(message.encode(), self._address)
