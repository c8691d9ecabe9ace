"""Files beside the schemas that nobody reads."""

from collections.abc import Iterator
from pathlib import Path

from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Location, Severity
from channelmap.loader.files import label_of

_SUFFIXES = frozenset({".json", ".yaml", ".yml"})


def file_unused(contract: Contract) -> Iterator[Diagnostic]:
    """Find files that lie among the schemas and examples, and that nothing names."""
    root = contract.root.resolve()
    # Whatever else a project keeps lies beside its contract.
    directories = {path.parent for path in contract.files} - {root}
    for path in sorted({path for directory in directories for path in _files(directory)}):
        if path.resolve() not in contract.files:
            label = label_of(contract.root / path.relative_to(root))
            hint = "name it in the contract, or delete it"
            yield Diagnostic(Location(label), "file-unused", "nothing names this file", hint, severity=Severity.WARNING)


def _files(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in _SUFFIXES and not is_hidden and path.is_file():
            yield path
