"""Read the `accepts` and `rejects` examples of a contract, inline or from files."""

from typing import Any

from channelmap.codes import Code
from channelmap.contract import Example
from channelmap.diagnostics import Diagnostic
from channelmap.loader.files import Files
from channelmap.loader.schemas import mapping_or_empty
from channelmap.pointers import Pointer
from channelmap.source import Document


def read_examples(document: Document, files: Files) -> dict[Pointer, tuple[Example, ...]]:
    """Return the examples of a contract file, by the pointer to their list; report bad files in `files`.

    The contract file may have any shape.
    """
    return {
        pointer: _examples(document, pointer, declared, files)
        for channel, settings in mapping_or_empty(mapping_or_empty(document.data).get("channels")).items()
        for event_type, declaration in mapping_or_empty(mapping_or_empty(settings).get("events")).items()
        for key, declared in mapping_or_empty(declaration).items()
        if key in {"accepts", "rejects"} and (pointer := ("channels", channel, "events", event_type, key))
    }


def _examples(document: Document, pointer: Pointer, declared: Any, files: Files) -> tuple[Example, ...]:
    if isinstance(declared, list):
        return _with_locations(document, pointer, declared)
    if not isinstance(declared, str) or not declared:
        return ()
    file = files.read(declared, document.locate(pointer), "examples")
    if file is None:
        return ()
    if not isinstance(file.data, list):
        message = "a file of examples expected a list of events"
        files.diagnostics.append(Diagnostic(file.locate(()), Code.WRONG_SHAPE, message))
        return ()
    return _with_locations(file, (), file.data)


def _with_locations(document: Document, pointer: Pointer, events: list[Any]) -> tuple[Example, ...]:
    return tuple(Example(event, document.locate((*pointer, index))) for index, event in enumerate(events))
