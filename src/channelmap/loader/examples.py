"""The events that a contract shows as accepted or rejected, inline or in a file of their own."""

from typing import Any

from channelmap.codes import Code
from channelmap.contract import Example
from channelmap.diagnostics import Diagnostic
from channelmap.loader.files import Files
from channelmap.loader.schemas import mapping
from channelmap.pointers import Pointer
from channelmap.source import Document


def read_examples(document: Document, files: Files) -> dict[Pointer, tuple[Example, ...]]:
    """Read the examples in a contract file of any shape, by their pointer; bad files are noted in `files`."""
    return {
        pointer: _examples(document, pointer, declared, files)
        for channel, settings in mapping(mapping(document.data).get("channels")).items()
        for event_type, declaration in mapping(mapping(settings).get("events")).items()
        for key, declared in mapping(declaration).items()
        if key in {"accepts", "rejects"} and (pointer := ("channels", channel, "events", event_type, key))
    }


def _examples(document: Document, pointer: Pointer, declared: Any, files: Files) -> tuple[Example, ...]:
    if isinstance(declared, list):
        return _located(document, pointer, declared)
    if not isinstance(declared, str) or not declared:
        return ()
    file = files.read(declared, document.locate(pointer), "examples")
    if file is None:
        return ()
    if not isinstance(file.data, list):
        message = "a file of examples expected a list of events"
        files.found.append(Diagnostic(file.locate(()), Code.WRONG_SHAPE, message))
        return ()
    return _located(file, (), file.data)


def _located(document: Document, pointer: Pointer, events: list[Any]) -> tuple[Example, ...]:
    return tuple(Example(event, document.locate((*pointer, index))) for index, event in enumerate(events))
