"""Files among the schemas that no contract names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from channelmap.codes import Code
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Location
from channelmap.loader.files import label_of

_SUFFIXES = frozenset({".json", ".yaml", ".yml"})
#: What people lay beside schemas; beside anything else, a JSON file may be anything.
_NOTES = frozenset({"", ".md", ".rst", ".txt"})


def file_unused(contract: Contract, beside: Iterable[Contract]) -> Iterator[Diagnostic]:
    """Find files that lie among the schemas and examples, and that nothing names, nor one of the contracts beside."""
    named = contract.files.union(*(other.files for other in beside))
    root = contract.root.resolve()
    # Whatever else a project keeps lies beside its contract.
    directories = {path.parent for path in contract.files} - {root}
    for path in sorted({path for directory in directories for path in _files(directory)}):
        if path not in named and path.resolve() not in named:
            label = label_of(contract.root / path.relative_to(root))
            hint = "name it in the contract, or delete it"
            yield Diagnostic(Location(label), Code.FILE_UNUSED, "nothing names this file", hint)


def _files(directory: Path) -> Iterator[Path]:
    """Find the JSON and YAML files below a directory, down to where others lie among them."""
    for parent, directories, names in os.walk(directory):
        shown = [Path(parent, name) for name in names if not name.startswith(".")]
        if {path.suffix for path in shown} <= _SUFFIXES | _NOTES:
            directories[:] = [name for name in directories if not name.startswith(".")]
            yield from (path for path in shown if path.suffix in _SUFFIXES)
        else:
            directories.clear()
