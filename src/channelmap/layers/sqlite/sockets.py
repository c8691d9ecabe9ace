"""The directory of the notification sockets, beside the file.

Other users may be able to write to the parent directory. So the directory is opened without following a link, and used
only if its owner may write to the file anyway. Only sockets with names of the form of `new_name` are considered, and
only sockets of this user are removed.
"""

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

_NAME = re.compile(r"[0-9]{1,10}\.[0-9a-f]{8}")


def directory_of(file: str) -> str:
    """Return the path of the directory of a file's notification sockets."""
    return f"{file}-wake"


def new_name() -> str:
    """Return a new socket name: the process id, and a random part."""
    return f"{os.getpid()}.{secrets.token_hex(4)}"


def mode_of(file: str) -> int:
    """Return the permissions of a socket: all users who may write to the file may send notifications."""
    return Path(file).stat().st_mode & 0o666


class SocketDirectory:
    """The directory of a file's notification sockets, kept open; created if missing.

    Args:
        file: the database, which must exist.

    Raises:
        OSError: the directory cannot be created, is not a directory, or belongs to another user.

    """

    def __init__(self, file: str) -> None:
        self.path = Path(directory_of(file))
        self._make(file)
        # Do not follow a symbolic link at the path.
        self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        #: Return the status of the open directory; a partial of `fstat` is the fastest way.
        self.status: Callable[[], os.stat_result] = partial(os.fstat, self._handle)
        if not is_trusted(self.status(), Path(file).stat()):
            raise PermissionError(errno.EPERM, "the directory belongs to another user", str(self.path))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # `close` is a default argument, because modules may be gone when the interpreter exits.
        if hasattr(self, "_handle"):
            close(self._handle)

    def _make(self, file: str) -> None:
        with suppress(FileExistsError):
            mode = mode_of(file)
            self.path.mkdir(mode=0o700)
            self.path.chmod(mode | (mode & 0o444) >> 2)

    def names(self) -> list[str]:
        """List the notification sockets."""
        names = os.listdir(self._handle)  # noqa: PTH208  (a path takes no handle)
        return [name for name in names if _NAME.fullmatch(name) and self._socket(name)]

    def holds(self, name: str) -> bool:
        """Return whether a socket of that name exists."""
        return self._socket(name) is not None

    def remove(self, name: str) -> None:
        """Remove a socket of this user; other files stay."""
        found = self._socket(name)
        if found is not None and found.st_uid == os.geteuid():
            with suppress(OSError):
                os.unlink(name, dir_fd=self._handle)

    def _socket(self, name: str) -> os.stat_result | None:
        try:
            found = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except OSError:
            return None
        return found if stat.S_ISSOCK(found.st_mode) else None


def is_trusted(directory: os.stat_result, file: os.stat_result) -> bool:
    """Return whether the owner of the directory may write to the file."""
    if directory.st_uid in {0, os.geteuid(), file.st_uid}:
        return True
    return directory.st_gid == file.st_gid and bool(file.st_mode & stat.S_IWGRP)
