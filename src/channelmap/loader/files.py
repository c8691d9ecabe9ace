"""The files that a contract names: each read once, none outside the contract's own directory."""

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal

from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ContractError, quoted
from channelmap.source import Document, near_names, read_document

Fetch = Callable[[str], None]
"""Puts a file below the root, by its relative path; nothing where there is no such file."""

Kind = Literal["schema", "examples"]
_MISSING: dict[Kind, Code] = {"schema": Code.SCHEMA_MISSING, "examples": Code.EXAMPLES_MISSING}
#: Files of a directory that are opened for a hint.
_MOST_LOOKED_AT = 200
_SYNTAX: dict[Kind, Code] = {"schema": Code.SCHEMA_SYNTAX, "examples": Code.EXAMPLES_SYNTAX}


def absolute(path: Path) -> Path:
    """Make a path absolute; symbolic links stay.

    Raises:
        ContractError: the path is relative, and the working directory was deleted.

    """
    try:
        return path.absolute()
    except FileNotFoundError:
        hint = "name the file by its absolute path, or change to a directory that exists"
        problem = "the working directory no longer exists"
        raise ContractError([Diagnostic(Location(str(path)), Code.FILE_MISSING, problem, hint)]) from None


def label_of(path: Path) -> str:
    """Name a file for messages: relative to the working directory where it is below it."""
    # Not resolved: a symbolic link is called as its user calls it.
    file = os.path.normpath(absolute(path)) if "\0" not in str(path) else str(path)
    try:
        directory = os.getcwd()  # noqa: PTH109  (a contract may have 10,000 files, and pathlib is slow)
    except FileNotFoundError:  # it was deleted
        return file
    return "." if file == directory else file.removeprefix(f"{directory.rstrip('/')}/")


class Files:
    """The files below a root directory; what is wrong with one is noted in `found`, once.

    Args:
        root: the directory of the contract file.
        fetch: called before a file is looked for the first time.

    """

    def __init__(self, root: Path, fetch: Fetch | None = None) -> None:
        self.root = root
        self._fetch = fetch
        self.found: list[Diagnostic] = []
        self._resolved_root = root.resolve()
        self._documents: dict[Path, Document | None] = {}
        self._directories: dict[str, Path] = {}

    @property
    def paths(self) -> frozenset[Path]:
        """The files that were read, resolved."""
        return frozenset(self._documents)

    def read(self, name: str, mention: Location, kind: Kind) -> Document | None:
        """Read the file of that relative name, or note what is wrong with it and return None.

        Args:
            name: the path, relative to the root, with slashes.
            mention: where the file is named.
            kind: what it is for.

        """
        try:
            path = self._resolved(name)
        except (ValueError, OSError, RuntimeError):
            message = f"{quoted(name)} is outside the directory of the contract"
            self._note(mention, Code.PATH_OUTSIDE_ROOT, message, "move the file below that directory")
            return None
        if self._fetch is not None and path not in self._documents:
            self._fetch(path.relative_to(self._resolved_root).as_posix())
        # Not `path.exists`, which raises where a name is too long, or a directory may not be entered.
        if not os.path.exists(path):  # noqa: PTH110
            self._note(mention, _MISSING[kind], f"there is no file {quoted(name)}", near_names(path))
            return None
        if path not in self._documents:
            self._documents[path] = self._read(path, name, kind)
        return self._documents[path]

    def _resolved(self, name: str) -> Path:
        """Follow the symbolic links of a name; ValueError when it leads out of the root."""
        directory, _, file = name.rpartition("/")
        if directory not in self._directories:
            self._directories[directory] = (self._resolved_root / directory).resolve()
        path = self._directories[directory] / file
        # Not by `resolve` alone: of ten thousand files each step from the root would be looked at each time.
        # (Not `path.is_symlink`, which raises where a name is too long.)
        if file in {"", ".", ".."} or os.path.islink(path):  # noqa: PTH114
            path = path.resolve()
        if not path.is_relative_to(self._resolved_root):
            raise ValueError(name)
        return path

    def with_id(self, identities: set[str], directory: str) -> str:
        """Return the name of a schema file that has one of these as its `$id`, or nothing.

        Looked through are the directories of what was read so far, and one more.

        Args:
            identities: absolute URIs.
            directory: its name, relative to the root.

        """
        directories = {path.parent for path in self._documents} | {self._resolved_root / directory}
        paths = (path for each in sorted(directories) for path in sorted(_listed(each)))
        for path in islice(paths, _MOST_LOOKED_AT):
            with suppress(ContractError):
                data = read_document(path, path.name).data
                identity = data.get("$id") if isinstance(data, dict) else None
                if isinstance(identity, str) and identity.removesuffix("#") in identities:
                    return path.relative_to(self._resolved_root).as_posix()
        return ""

    def _read(self, path: Path, name: str, kind: Kind) -> Document | None:
        try:
            return read_document(path, label_of(self.root / name))
        except ContractError as error:
            self.found.extend(_as_kind(diagnostic, kind) for diagnostic in error.diagnostics)
            return None

    def _note(self, location: Location, code: Code, message: str, hint: str) -> None:
        self.found.append(Diagnostic(location, code, message, hint))


def _listed(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.suffix in {".json", ".yaml", ".yml"}]
    except OSError:
        return []


def _as_kind(diagnostic: Diagnostic, kind: Kind) -> Diagnostic:
    """Call an error of syntax by the file that it is in: what it is a syntax of, the file's name says."""
    code = _SYNTAX[kind] if diagnostic.code in {Code.YAML_SYNTAX, Code.JSON_SYNTAX} else diagnostic.code
    return Diagnostic(diagnostic.location, code, diagnostic.message, diagnostic.hint)
