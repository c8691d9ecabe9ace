"""Find the location of user code in its files, as a related location of a diagnostic."""

import inspect
from pathlib import Path
from typing import Any

from channelmap.diagnostics import Location, Related
from channelmap.loader.files import label_of


def related_definition(code: Any, message: str) -> tuple[Related, ...]:
    """Return the location of a class or function with a message; empty if its source cannot be found."""
    try:
        code = inspect.unwrap(code)
        path = inspect.getsourcefile(code)
        lines, number = inspect.getsourcelines(code)
    except (OSError, TypeError, ValueError, SyntaxError):
        return ()
    # For code that was compiled from a string, Python may return lines of other code.
    if not path or code.__name__ not in "".join(lines):
        return ()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return (Related(Location(label_of(Path(path)), number, indent + 1), message),)


def related_line(location: str, message: str) -> tuple[Related, ...]:
    """Return the location ``file:line`` with a message; empty if the file does not exist."""
    path, _, number = location.rpartition(":")
    if not number.isdecimal() or not Path(path).is_file():
        return ()
    return (Related(Location(label_of(Path(path)), int(number), 1), message),)
