"""Read YAML and JSON into plain data, and keep the location of every value.

This is the only package that knows the syntax of YAML and JSON. Both are read into JSON values with the same limits.
Anything that has no JSON value, or that an editor would read differently, is reported with its location. The package
does not know channels, events or schemas.
"""

from collections.abc import Mapping
from pathlib import Path

from channelmap.pointers import Pointer
from channelmap.source.document import Document
from channelmap.source.files import near_names, read_bytes
from channelmap.source.json_text import read_json
from channelmap.source.yaml_text import read_yaml

__all__ = ["Document", "near_names", "read_document", "read_json", "read_yaml"]


def read_document(
    path: Path, label: str, env: Mapping[str, str] | None = None, filled_keys: Pointer | None = None
) -> Document:
    """Read a `.json` file as JSON and any other as YAML.

    Args:
        path: the file.
        label: the name of the file in messages.
        env: the variables for ``${NAME}`` in a YAML file; if None, such text is left unchanged.
        filled_keys: the pointer to the mapping in whose keys variables are replaced, too.

    Raises:
        ContractError: the file cannot be read, or its text is invalid.

    """
    data = read_bytes(path, label)
    return read_json(label, data) if path.suffix == ".json" else read_yaml(label, data, env, filled_keys)
