"""Walk through a schema and all its subschemas in document order."""

from collections.abc import Iterator

from channelmap.pointers import Pointer
from channelmap.validation.engine import Schema
from channelmap.validation.structure import children


def subschemas(schema: Schema) -> Iterator[tuple[Pointer, Schema]]:
    """Yield a schema and all its subschemas, each with the path to it; follow no `$ref`."""
    waiting: list[tuple[Pointer, Schema]] = [((), schema)]
    while waiting:
        pointer, found = waiting.pop()
        yield pointer, found
        if isinstance(found, dict):
            waiting += [(pointer + steps, child) for steps, child in reversed(children(found))]
