"""Text to model, in stages that each collect every complaint: read the file, its shape, its schemas, build.

Loading never imports user code, because senders load too.
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
    """Read a contract file, with its schemas and examples.

    Args:
        path: the file; the paths in it are relative to its directory, and reach nothing outside.
        env: what fills ``${NAME}`` in it; the process's environment unless given.
        fetch: called with the relative path of each other file before it is read, to put it there.

    Raises:
        ContractError: with everything that is wrong, in this file and in those that it names.

    """
    with collection_paused():
        return _load(absolute(Path(path)), os.environ if env is None else env, fetch)


def _load(path: Path, env: Mapping[str, str], fetch: Fetch | None) -> Contract:
    document = _read(path, env)
    misplaced = [*misplaced_variables(document)]
    if misplaced:
        # No schema and no example is looked at that holds a value of the environment.
        raise ContractError([*misplaced, *check_shape(document)])
    files = Files(path.parent, fetch)
    schemas = Schemas(document, files)
    examples = read_examples(document, files)
    found = [*check_shape(document), *schemas.found, *files.found]
    if found:
        raise ContractError(found)
    return build(document, schemas, examples, files)


def _read(path: Path, env: Mapping[str, str]) -> Document:
    """Read the contract file itself; if it is missing, the error has its absolute path, and says how to have one."""
    try:
        return read_document(path, label_of(path), env, ("channels",))
    except ContractError as error:
        if not error.is_missing_file:
            raise
        (missing,) = error.diagnostics
        hint = f"{missing.hint} If not, {_HINT}" if missing.hint.endswith("?") else _HINT
        location = Location(str(path))
        raise ContractError([Diagnostic(location, missing.code, missing.message, hint)]) from None
