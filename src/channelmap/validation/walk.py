"""A schema and all schemas in it, in the order in which they were written."""

from collections.abc import Iterator

from channelmap.pointers import Pointer
from channelmap.validation.engine import Schema
from channelmap.validation.structure import children


def subschemas(schema: Schema) -> Iterator[tuple[Pointer, Schema]]:
    """Go through a schema and those in it, each with the way to it; passes over data, and follows no `$ref`."""
    waiting: list[tuple[Pointer, Schema]] = [((), schema)]
    while waiting:
        pointer, found = waiting.pop()
        yield pointer, found
        if isinstance(found, dict):
            waiting += [(pointer + steps, child) for steps, child in reversed(children(found))]
