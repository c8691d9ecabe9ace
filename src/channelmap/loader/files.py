"""Read the files that a contract names: each file once, and no file outside the contract's directory."""

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
"""A function that creates a file below the root, given its relative path, or does nothing if it has no such file."""

FileKind = Literal["schema", "examples"]
_MISSING: dict[FileKind, Code] = {"schema": Code.SCHEMA_MISSING, "examples": Code.EXAMPLES_MISSING}
#: Maximum number of files that are read for a hint.
_MAX_OPENED_FOR_HINT = 200
_SYNTAX: dict[FileKind, Code] = {"schema": Code.SCHEMA_SYNTAX, "examples": Code.EXAMPLES_SYNTAX}


def absolute(path: Path) -> Path:
    """Return an absolute path; do not resolve symbolic links.

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
    """Return the name of a file in messages: relative if it is below the working directory, otherwise absolute."""
    # Symbolic links are not resolved: messages use the name that the user wrote.
    file = os.path.normpath(absolute(path)) if "\0" not in str(path) else str(path)
    try:
        directory = os.getcwd()  # noqa: PTH109  (a contract may have 10,000 files, and pathlib is slow)
    except FileNotFoundError:  # it was deleted
        return file
    return "." if file == directory else file.removeprefix(f"{directory.rstrip('/')}/")


class Files:
    """A reader of files below a root directory.

    Attributes:
        root: the directory of the contract file.
        diagnostics: faults of the files, each reported once.

    Args:
        root: the directory of the contract file.
        fetch: called before a file is read for the first time.

    """

    def __init__(self, root: Path, fetch: Fetch | None = None) -> None:
        self.root = root
        self._fetch = fetch
        self.diagnostics: list[Diagnostic] = []
        self._resolved_root = root.resolve()
        self._documents: dict[Path, Document | None] = {}
        self._directories: dict[str, Path] = {}

    @property
    def paths(self) -> frozenset[Path]:
        """The resolved paths of the files that were read."""
        return frozenset(self._documents)

    def read(self, name: str, mention: Location, kind: FileKind) -> Document | None:
        """Read a file, or report what is wrong with it and return None.

        Args:
            name: the path relative to the root, with slashes.
            mention: the location where the file is named.
            kind: the use of the file.

        """
        try:
            path = self._resolved(name)
        except (ValueError, OSError, RuntimeError):
            message = f"{quoted(name)} is outside the directory of the contract"
            self._report(mention, Code.PATH_OUTSIDE_ROOT, message, "move the file below that directory")
            return None
        if self._fetch is not None and path not in self._documents:
            self._fetch(path.relative_to(self._resolved_root).as_posix())
        # Not `path.exists`: it raises if a name is too long or a directory is not accessible.
        if not os.path.exists(path):  # noqa: PTH110
            self._report(mention, _MISSING[kind], f"there is no file {quoted(name)}", near_names(path))
            return None
        if path not in self._documents:
            self._documents[path] = self._read(path, name, kind)
        return self._documents[path]

    def _resolved(self, name: str) -> Path:
        """Return the path of a name without symbolic links; ValueError if it is outside the root."""
        directory, _, file = name.rpartition("/")
        if directory not in self._directories:
            self._directories[directory] = (self._resolved_root / directory).resolve()
        path = self._directories[directory] / file
        # `resolve` examines each directory from the root, too slow for ten thousand files; so directories are cached.
        # (Not `path.is_symlink`: it raises if a name is too long.)
        if file in {"", ".", ".."} or os.path.islink(path):  # noqa: PTH114
            path = path.resolve()
        if not path.is_relative_to(self._resolved_root):
            raise ValueError(name)
        return path

    def with_id(self, identities: set[str], directory: str) -> str:
        """Return the relative name of a schema file that has one of these as its `$id`; empty if none is found.

        The search covers the directories of all files that were read so far, and one more.

        Args:
            identities: absolute URIs.
            directory: the further directory, relative to the root.

        """
        directories = {path.parent for path in self._documents} | {self._resolved_root / directory}
        paths = (path for each in sorted(directories) for path in sorted(_schema_files_in(each)))
        for path in islice(paths, _MAX_OPENED_FOR_HINT):
            with suppress(ContractError):
                data = read_document(path, path.name).data
                identity = data.get("$id") if isinstance(data, dict) else None
                if isinstance(identity, str) and identity.removesuffix("#") in identities:
                    return path.relative_to(self._resolved_root).as_posix()
        return ""

    def _read(self, path: Path, name: str, kind: FileKind) -> Document | None:
        try:
            return read_document(path, label_of(self.root / name))
        except ContractError as error:
            self.diagnostics.extend(_with_kind_code(diagnostic, kind) for diagnostic in error.diagnostics)
            return None

    def _report(self, location: Location, code: Code, message: str, hint: str) -> None:
        self.diagnostics.append(Diagnostic(location, code, message, hint))


def _schema_files_in(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.suffix in {".json", ".yaml", ".yml"}]
    except OSError:
        return []


def _with_kind_code(diagnostic: Diagnostic, kind: FileKind) -> Diagnostic:
    """Give a syntax error the code of the file's kind, instead of the code of YAML or JSON."""
    code = _SYNTAX[kind] if diagnostic.code in {Code.YAML_SYNTAX, Code.JSON_SYNTAX} else diagnostic.code
    return Diagnostic(diagnostic.location, code, diagnostic.message, diagnostic.hint)
