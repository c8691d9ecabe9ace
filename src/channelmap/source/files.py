"""Bytes from the disk: a file that cannot be read says why, in plain words."""

import difflib
import stat
from pathlib import Path

from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ContractError, quoted
from channelmap.source.document import MAX_BYTES


def read_bytes(path: Path, label: str) -> bytes:
    """Read a file, one byte more than is allowed at most, so that a huge one is found and not loaded.

    Raises:
        ContractError: `file-missing` or `file-unreadable`.

    """
    try:
        # Opening a pipe would wait for its writer forever.
        if not stat.S_ISREG(mode := path.stat().st_mode):
            raise _error(label, Code.FILE_UNREADABLE, "is a directory" if stat.S_ISDIR(mode) else "is not a file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _error(label, Code.FILE_MISSING, "there is no such file", near_names(path)) from None
    except OSError as error:
        raise _error(label, Code.FILE_UNREADABLE, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _error(label, Code.FILE_MISSING, "no file can have such a name") from None


def near_names(path: Path) -> str:
    """Name the file of the same directory that was probably meant, as a hint, or say nothing."""
    try:
        names = [sibling.name for sibling in path.parent.iterdir()]
    except (OSError, ValueError):
        return f"there is no directory {quoted(path.parent.name)} either" if path.parent.name else ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"did you mean {quoted(near[0])}?" if near else ""


def _error(label: str, code: Code, message: str, hint: str = "") -> ContractError:
    return ContractError([Diagnostic(Location(label), code, message, hint)])
