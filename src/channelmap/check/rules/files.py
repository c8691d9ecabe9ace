"""Find unused files among the schemas."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from channelmap.codes import Code
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Location
from channelmap.loader.files import label_of

_SUFFIXES = frozenset({".json", ".yaml", ".yml"})
#: Files that people keep beside schemas; a directory with any other file is not one of schemas.
_DOCUMENTATION = frozenset({"", ".md", ".rst", ".txt"})


def file_unused(contract: Contract, beside: Iterable[Contract]) -> Iterator[Diagnostic]:
    """Find files among the schemas and examples that neither this contract nor one of `beside` names."""
    named = contract.files.union(*(other.files for other in beside))
    root = contract.root.resolve()
    # The directory of the contract is left out: a project keeps any kind of file there.
    directories = {path.parent for path in contract.files} - {root}
    for path in sorted({path for directory in directories for path in _files(directory)}):
        if path not in named and path.resolve() not in named:
            label = label_of(contract.root / path.relative_to(root))
            hint = "name it in the contract, or delete it"
            yield Diagnostic(Location(label), Code.FILE_UNUSED, "nothing names this file", hint)


def _files(directory: Path) -> Iterator[Path]:
    """Find the JSON and YAML files below a directory, without subdirectories that contain files of other kinds."""
    for parent, directories, names in os.walk(directory):
        shown = [Path(parent, name) for name in names if not name.startswith(".")]
        if {path.suffix for path in shown} <= _SUFFIXES | _DOCUMENTATION:
            directories[:] = [name for name in directories if not name.startswith(".")]
            yield from (path for path in shown if path.suffix in _SUFFIXES)
        else:
            directories.clear()
