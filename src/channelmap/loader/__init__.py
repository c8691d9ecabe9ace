"""Load a contract: read the file, check its shape, load its schemas and examples, build the model.

A stage reports everything that is wrong, not only the first fault. Loading never imports user code, because senders
load contracts, too.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import ContractError
from channelmap.garbage import collection_paused
from channelmap.loader.build import build
from channelmap.loader.examples import read_examples
from channelmap.loader.files import Fetch, Files, absolute, label_of
from channelmap.loader.schemas import Schemas
from channelmap.loader.shape import check_shape, misplaced_variables
from channelmap.source import Document, read_document

__all__ = ["Fetch", "load"]

_HINT = "point $CHANNELMAP_CONFIG to the contract file, or write a first one with 'channelmap init'"


def load(
    path: str | Path = "channels.yaml", *, env: Mapping[str, str] | None = None, fetch: Fetch | None = None
) -> Contract:
    """Read a contract file with its schemas and examples.

    Args:
        path: the file. The paths in it are relative to its directory, and must stay inside it.
        env: the variables for ``${NAME}`` in it; by default the environment of the process.
        fetch: called with the relative path of each other file before that is read; it may create the file.

    Raises:
        ContractError: the contract is invalid; has all diagnostics about this file and the files that it names.

    """
    with collection_paused():
        return _load(absolute(Path(path)), os.environ if env is None else env, fetch)


def _load(path: Path, env: Mapping[str, str], fetch: Fetch | None) -> Contract:
    document = _read(path, env)
    misplaced = [*misplaced_variables(document)]
    if misplaced:
        # Schemas and examples are not read: one of them contains a value from the environment.
        raise ContractError([*misplaced, *check_shape(document)])
    files = Files(path.parent, fetch)
    schemas = Schemas(document, files)
    examples = read_examples(document, files)
    found = [*check_shape(document), *schemas.diagnostics, *files.diagnostics]
    if found:
        raise ContractError(found)
    return build(document, schemas, examples, files)


def _read(path: Path, env: Mapping[str, str]) -> Document:
    """Read the contract file; the error for a missing file has its absolute path and says how to create one."""
    try:
        return read_document(path, label_of(path), env, ("channels",))
    except ContractError as error:
        if not error.is_missing_file:
            raise
        (missing,) = error.diagnostics
        hint = f"{missing.hint} If not, {_HINT}" if missing.hint.endswith("?") else _HINT
        location = Location(str(path))
        raise ContractError([Diagnostic(location, missing.code, missing.message, hint)]) from None
