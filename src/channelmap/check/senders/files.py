"""Find and parse Python files: those that were named, and those below directories."""

import ast
import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ChannelMapError, quoted
from channelmap.loader.files import label_of
from channelmap.source import near_names

#: Errors that the interpreter raises for bytes that are not Python, or too deeply nested.
_PARSE_ERRORS = (SyntaxError, ValueError, LookupError, RecursionError, MemoryError)


class SendersMissing(ChannelMapError):
    """A path given for senders, `path`, does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        hint = near_names(self.path)
        text = f"there is no file or directory {quoted(self.path, 200)}"
        return f"{text}; {hint}" if hint else text


#: The finding about a file that cannot be parsed.
Unreadable = Diagnostic


class Module:
    """A Python file that was parsed.

    Attributes:
        path: the file.
        tree: its syntax.

    """

    def __init__(self, path: Path, text: str, tree: ast.Module) -> None:
        self.path = path
        self.tree = tree
        self._lines = text.split("\n")

    @cached_property
    def _nodes(self) -> frozenset[int]:
        return frozenset(map(id, ast.walk(self.tree)))

    def contains(self, node: ast.AST) -> bool:
        """Return whether the node is part of this file."""
        return id(node) in self._nodes

    def location(self, node: ast.expr) -> Location:
        """Return the location of an expression; the syntax tree counts columns in bytes of UTF-8, from 0."""
        before = self._lines[node.lineno - 1].encode()[: node.col_offset]
        return Location(label_of(self.path), node.lineno, len(before.decode()) + 1)


def python_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Find the files to read: those that are named, and every `.py` below the directories, each once.

    Third-party code is left out: hidden directories, virtual environments, `site-packages`, `node_modules`.

    Raises:
        SendersMissing: one of the paths does not exist.

    """
    seen: set[str] = set()
    for named in paths:
        if "\0" in str(named) or not os.access(named, os.F_OK):
            raise SendersMissing(named)
        for path in _below(named) if named.is_dir() else (named,):
            # Unlike `Path.resolve`, this does not raise on a link to itself.
            resolved = os.path.realpath(path)
            if resolved not in seen:
                seen.add(resolved)
                yield path


def _below(directory: Path) -> Iterator[Path]:
    unreadable: list[OSError] = []
    for parent, directories, names in os.walk(directory, onerror=unreadable.append):
        directories[:] = sorted(name for name in directories if not _is_foreign(Path(parent, name)))
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(".py"))
    yield from (Path(error.filename) for error in unreadable)


def _is_foreign(directory: Path) -> bool:
    name = directory.name
    return (
        name.startswith(".")
        or name in {"node_modules", "site-packages"}
        or os.access(directory / "pyvenv.cfg", os.F_OK)
    )


def mentions(path: Path, words: Iterable[str]) -> bool:
    """Return whether a file contains one of the words, without parsing it; True if it cannot be read."""
    try:
        # Opening a pipe would wait forever for its writer.
        data = path.read_bytes() if path.is_file() else None
        return data is None or any(word.encode() in data for word in words)
    except OSError:
        return True


def read_module(path: Path) -> Module | Unreadable:
    """Parse a Python file, without running it; return a finding `sender-unreadable` if it cannot be parsed."""
    label = label_of(path)
    try:
        if path.is_dir():
            return _unreadable(Location(label), "the directory cannot be read")
        if not path.is_file():
            # Opening a pipe would wait for its writer forever.
            return _unreadable(Location(label), "this is not a file")
        text = importlib.util.decode_source(path.read_bytes())
        with warnings.catch_warnings():
            # Such as an invalid escape in a string.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except OSError as error:
        return _unreadable(Location(label), f"the file cannot be read: {error.strerror}")
    except _PARSE_ERRORS as error:
        location = Location(label)
        if isinstance(error, SyntaxError) and error.lineno:
            location = Location(label, error.lineno, max(error.offset or 1, 1))
        return _unreadable(location, "the file is not Python that this interpreter understands")
    return Module(path, text, tree)


def _unreadable(location: Location, reason: str) -> Diagnostic:
    return Diagnostic(location, Code.SENDER_UNREADABLE, reason, "what it sends was not checked")
