"""Read files, and explain why a file cannot be read."""

import difflib
import stat
from pathlib import Path

from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ContractError, quoted
from channelmap.source.document import MAX_BYTES


def read_bytes(path: Path, label: str) -> bytes:
    """Return the content of a file, at most one byte more than the limit: enough to detect a file that is too large.

    Raises:
        ContractError: `file-missing` or `file-unreadable`.

    """
    try:
        # Opening a pipe would wait for its writer forever.
        if not stat.S_ISREG(mode := path.stat().st_mode):
            raise _read_error(label, Code.FILE_UNREADABLE, "is a directory" if stat.S_ISDIR(mode) else "is not a file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _read_error(label, Code.FILE_MISSING, "there is no such file", near_names(path)) from None
    except OSError as error:
        raise _read_error(label, Code.FILE_UNREADABLE, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _read_error(label, Code.FILE_MISSING, "no file can have such a name") from None


def near_names(path: Path) -> str:
    """Return a hint with the most similar file name in the same directory; empty if there is none."""
    try:
        names = [sibling.name for sibling in path.parent.iterdir()]
    except (OSError, ValueError):
        return f"there is no directory {quoted(path.parent.name)} either" if path.parent.name else ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"did you mean {quoted(near[0])}?" if near else ""


def _read_error(label: str, code: Code, message: str, hint: str = "") -> ContractError:
    return ContractError([Diagnostic(Location(label), code, message, hint)])
