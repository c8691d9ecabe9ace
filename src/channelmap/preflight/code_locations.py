"""Where the user's code stands in its files, for a second place of a diagnostic."""

import inspect
from pathlib import Path
from typing import Any

from channelmap.diagnostics import Location, Related
from channelmap.loader.files import label_of


def defined(code: Any, message: str) -> tuple[Related, ...]:
    """Return the place of a class or function with what is there; nothing where its source cannot be found."""
    try:
        code = inspect.unwrap(code)
        path = inspect.getsourcefile(code)
        lines, number = inspect.getsourcelines(code)
    except (OSError, TypeError, ValueError, SyntaxError):
        return ()
    # Python may know a line of code that was made up in a string: then it is one of another code.
    if not path or code.__name__ not in "".join(lines):
        return ()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return (Related(Location(label_of(Path(path)), number, indent + 1), message),)


def file_and_line(place: str, message: str) -> tuple[Related, ...]:
    """Return the place that ``file:line`` names with what is there; nothing where there is no such file."""
    path, _, number = place.rpartition(":")
    if not number.isdecimal() or not Path(path).is_file():
        return ()
    return (Related(Location(label_of(Path(path)), int(number), 1), message),)
