"""Excerpts of files for a terminal: the line of a finding, and the marked word in it.

A file that is missing, has changed, is too large or is not text has no excerpt; its findings are reported without one.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from channelmap.diagnostics import Location
from channelmap.source.document import MAX_BYTES

#: Maximum number of code points shown of a line, and of those before the word.
_MAX_SHOWN = 100
_SHOWN_BEFORE = 40
#: Maximum length of a word; a search for its end must not scan a line of a million code points.
_MAX_WORD = 10_000
_NEWLINE = re.compile(r"\r\n?|\n")
_QUOTED = r"""  "(?:[^"\\]|\\.)*+"  |  '(?:[^']|'')*+'  """
#: A word of YAML or JSON: a quoted text, an opening bracket, or a plain scalar, which may contain `${…}`.
_WORD = re.compile(
    _QUOTED + r"| [\[{] | (?: \$\{[^}]{0,200}\} | (?! :(?:\s|$) | \s\# ) [^,\]}] )++",
    re.VERBOSE,
)
#: A word of Python: a quoted text, a decorator, the head of a definition, or a dotted name.
_PYTHON_WORD = re.compile(_QUOTED + r"| (?: @ | (?:async\s+)? (?:def|class) \s+ )? [\w.]++", re.VERBOSE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A line and the word in it.

    Attributes:
        text: the line for a terminal: shortened, without tabs and control characters.
        indent: number of terminal cells before the word.
        width: number of terminal cells of the word; 0 if the location has no column.
        end_column: column after the last code point of the word; 0 if the location has no column.

    """

    text: str
    indent: int
    width: int
    end_column: int


class Excerpts:
    """Reads the excerpts of one report; each file is read once."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def at(self, location: Location) -> Excerpt | None:
        """Return the excerpt at a location; None if the file does not have it, or cannot be read."""
        if location.path not in self._lines:
            self._lines[location.path] = _read_lines(location.path)
        lines = self._lines[location.path]
        if not 1 <= location.line <= len(lines):
            return None
        line = lines[location.line - 1]
        # The end of a line is a valid location: something is missing there.
        if location.column > len(line) + 1:
            return None
        return _excerpt(line, location.column, _PYTHON_WORD if location.path.endswith(".py") else _WORD)


def _read_lines(path: str) -> list[str]:
    try:
        # Opening a pipe would wait for its writer forever.
        if not Path(path).is_file():
            return []
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        return []
    if len(data) > MAX_BYTES or b"\0" in data:
        return []
    return _NEWLINE.split(data.decode("utf-8-sig", errors="replace"))


def _excerpt(line: str, column: int, word: re.Pattern[str]) -> Excerpt:
    start = max(column - 1, 0)
    end = start + _length(line, start, word) if column else start
    first = max(start - _SHOWN_BEFORE, 0) if len(line) > _MAX_SHOWN else 0
    last = first + _MAX_SHOWN
    before, shown, after = line[first:start], line[start : min(end, last)], line[min(end, last) : last]
    before = ("…" if first else "") + _printable(before)
    text = before + _printable(shown) + _printable(after) + ("…" if last < len(line) else "")
    # The end of a line has no cells, but gets a mark.
    width = max(_cells(_printable(shown)), 1) if column else 0
    return Excerpt(text, _cells(before), width, end + 1 if column else 0)


def _length(line: str, start: int, word: re.Pattern[str]) -> int:
    found = word.match(line, start, start + _MAX_WORD)
    if found is None:
        return 1 if start < len(line) else 0
    return max(len(found.group().rstrip()), 1)


def _printable(text: str) -> str:
    """Replace tabs by a fixed number of spaces, so that marks are aligned, and control characters by U+FFFD."""
    return "".join(char if char.isprintable() else "    " if char == "\t" else "\ufffd" for char in text)


def _cells(text: str) -> int:
    """Return the number of terminal cells of a text."""
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
