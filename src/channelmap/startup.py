"""What must hold in a process of channelmap's before anything else is imported, whatever runs in it.

Imports nothing but the standard library: what it prepares for must not have happened yet.
"""

import os
import signal
import sys
from types import FrameType


def prepare() -> None:
    """Open what is missing of the standard streams, and make imports and signals safe."""
    _open_missing_streams()
    _put_working_directory_last()
    leave_on_signals()


def leave_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this process at once, also as the first one of a container.

    The kernel ignores a signal to process 1 for which nothing is installed.
    """
    if os.getpid() != 1:
        return
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _leave)


def _leave(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)


def _open_missing_streams() -> None:
    """Put the null device in the place of closed standard streams: any other file would get their numbers."""
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.dup(number)
    os.close(number)


def _put_working_directory_last() -> None:
    """Keep modules of the project from hiding those of Python and of installed packages.

    `python -m` puts the working directory first; it becomes importable in its turn, before consumers are imported.
    """
    try:
        directory = os.getcwd()  # noqa: PTH109  (pathlib is not needed to start)
    except FileNotFoundError:
        return
    others = [entry for entry in sys.path if os.path.abspath(entry) != directory]  # noqa: PTH100
    if len(others) < len(sys.path):
        sys.path[:] = [*others, directory]
