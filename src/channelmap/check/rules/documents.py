"""The documents that contain the schemas of a contract, each once, and the schemas in them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

from channelmap.contract import Channel, Contract, EventType, Written
from channelmap.diagnostics import Location
from channelmap.loader.files import label_of
from channelmap.pointers import Pointer
from channelmap.source import read_document
from channelmap.validation import DIALECTS, Schema
from channelmap.validation.keywords import IN_PLACE
from channelmap.validation.structure import children


@dataclass(frozen=True)
class SchemaDocument:
    """A schema as it was written: a whole file, or a mapping in the contract's own document.

    Attributes:
        schema: the schema.
        written: its location.
        channel: the first channel that uses it.
        event_type: the first event type that uses it.
        is_event: whether it is the schema of that event type, not one that schemas refer to.

    """

    schema: Schema
    written: Written
    channel: str
    event_type: EventType
    is_event: bool = True

    @cached_property
    def dialect(self) -> str:
        """The URI of its dialect, one of `DIALECTS`."""
        named = self.schema.get("$schema", DIALECTS[0]) if isinstance(self.schema, dict) else DIALECTS[0]
        return str(named).removesuffix("#")

    @cached_property
    def parts(self) -> tuple["Part", ...]:
        """The schema and those in it, in the order in which they were written, except `true` and `false`."""
        found: list[Part] = []
        waiting: list[tuple[Pointer, Schema, bool]] = [((), self.schema, False)]
        while waiting:
            pointer, schema, in_place = waiting.pop()
            if isinstance(schema, dict):
                found.append(Part(self, pointer, schema, in_place=in_place))
                inside = reversed(children(schema))
                waiting += [(pointer + steps, child, steps[0] in IN_PLACE) for steps, child in inside]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Part:
    """One schema within a document.

    Attributes:
        document: the document.
        pointer: the pointer to it.
        schema: the schema.
        in_place: whether it judges the same value as the schema around it, as a branch of `allOf` does.

    """

    document: SchemaDocument
    pointer: Pointer
    schema: dict[str, Any]
    in_place: bool

    def locate(self, *steps: str | int, key: bool = False) -> Location:
        """Return the location of a value in it, or of its key."""
        return self.document.written.locate((*self.pointer, *steps), key=key)


def schema_documents(contract: Contract, channels: Iterable[Channel]) -> tuple[SchemaDocument, ...]:
    """Find the schemas that channels use, and the files to which they refer, each once."""
    found: dict[tuple[str, Pointer], SchemaDocument] = {}
    for channel in channels:
        for event_type in channel.events.values():
            written = event_type.written
            if written is not None:
                document = SchemaDocument(event_type.schema, written, channel.name, event_type)
                found.setdefault((written.document.path, written.pointer), document)
    waiting = list(found.values())
    # Many schemas refer to the same file.
    followed: set[str] = set()
    for document in waiting:
        named = _named_files(contract, document)
        new = sorted(named - followed)
        followed |= named
        for path in map(Path, new):
            if path.resolve() not in contract.files:
                continue
            label = label_of(path)
            if (label, ()) not in found:
                # This does not raise: the loader has read the file.
                file = read_document(path, label)
                other = replace(document, schema=file.data, written=Written(file), is_event=False)
                found[label, ()] = other
                waiting.append(other)
    return tuple(found.values())


def _named_files(contract: Contract, document: SchemaDocument) -> set[str]:
    """Return the files that the references of a document name, whether they exist or not."""
    inline = document.written.document is contract.document
    directory = contract.root if inline else Path(document.written.document.path).parent
    references = (part.schema.get("$ref") for part in document.parts)
    names = {urldefrag(reference)[0] for reference in references if isinstance(reference, str)}
    return {os.path.join(directory, unquote(name)) for name in names - {""}}  # noqa: PTH118  (pathlib is slow)
