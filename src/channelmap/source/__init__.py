"""Text to plain data that still knows its places. The only room that knows the syntax of YAML and of JSON.

Both languages are read into the same JSON values under the same bounds, and everything that has no JSON
value, or that an editor would read differently, is refused with its place. Knows no channel, event or schema.
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
        path: where the file is.
        label: what messages call it.
        env: fills ``${NAME}`` in a YAML file; without it such text stays as it is.
        filled_keys: the mapping whose keys are filled in too.

    Raises:
        ContractError: the file cannot be read, with everything that is wrong with it.

    """
    data = read_bytes(path, label)
    return read_json(label, data) if path.suffix == ".json" else read_yaml(label, data, env, filled_keys)
