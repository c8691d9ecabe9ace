"""Text to model, in stages that each collect every complaint: read the file, its shape, its schemas, build.

Loading never imports user code, because senders load too.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from channelmap.contract import Contract
from channelmap.errors import ContractError
from channelmap.loader.build import build
from channelmap.loader.examples import read_examples
from channelmap.loader.files import Fetch, Files, label_of
from channelmap.loader.schemas import Schemas
from channelmap.loader.shape import check_shape, misplaced_variables
from channelmap.source import read_document

__all__ = ["Fetch", "load"]


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
    path = Path(path)
    document = read_document(path, label_of(path), os.environ if env is None else env, ("channels",))
    misplaced = [*misplaced_variables(document)]
    if misplaced:
        # No schema and no example is looked at that holds a value of the environment.
        raise ContractError([*misplaced, *check_shape(document)])
    files = Files(path.absolute().parent, fetch)
    schemas = Schemas(document, files)
    examples = read_examples(document, files)
    found = [*check_shape(document), *schemas.found, *files.found]
    if found:
        raise ContractError(found)
    return build(document, schemas, examples, files)
