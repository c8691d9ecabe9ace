"""Preparation of every channelmap process, before anything else is imported.

This module imports only the standard library, because imports are among the things that it prepares.
"""

import os
import signal
import sys
from types import FrameType


def prepare() -> None:
    """Open missing standard streams, and make imports and signals safe."""
    _open_missing_streams()
    _put_working_directory_last()
    exit_on_signals()


def exit_on_signals() -> None:
    """Make SIGTERM and SIGHUP end this process at once, also as process 1 of a container.

    The kernel ignores signals to process 1 that have no handler.
    """
    if os.getpid() != 1:
        return
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _exit)


def _exit(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)


def _open_missing_streams() -> None:
    """Open the null device for closed standard streams; otherwise other files would get their numbers."""
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.dup(number)
    os.close(number)


def _put_working_directory_last() -> None:
    """Keep modules of the project from hiding those of Python and of installed packages.

    `python -m` puts the working directory first. It is added again before consumers are imported.
    """
    try:
        directory = os.getcwd()  # noqa: PTH109  (pathlib is not needed to start)
    except FileNotFoundError:
        return
    others = [entry for entry in sys.path if os.path.abspath(entry) != directory]  # noqa: PTH100
    if len(others) < len(sys.path):
        sys.path[:] = [*others, directory]
