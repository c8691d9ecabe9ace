"""Find schemas that accept nothing: of an event type, or a part of one."""

from collections.abc import Iterator
from typing import Any

from channelmap.check.rules.contradictions import find_contradiction, find_event_contradiction, rejects_all
from channelmap.check.rules.documents import SchemaDocument
from channelmap.codes import Code
from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic
from channelmap.errors import quoted
from channelmap.pointers import Pointer, text_of
from channelmap.validation import Schema
from channelmap.validation.algebra import unsatisfiable_parts
from channelmap.validation.structure import CannotBundle, bundle

#: Schemas that are meant to accept nothing, like `false`.
_INTENDED: tuple[Any, ...] = ({"not": {}}, {"not": True})


def schema_accepts_nothing(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Find an event type of which no event can be valid."""
    if event_type.validator is None or event_type.written is None:
        return
    # A valid example proves that the schema accepts something.
    shown = [example.event for example in event_type.accepts if channel.judge(example.event) is None]
    if any(event["type"] == event_type.name for event in shown):
        return
    bundled = bundled_schema(event_type)
    if rejects_all(bundled, event_type.name):
        pointer, reason, hint = find_event_contradiction(event_type.schema, bundled, event_type.name)
        message = f"the schema refuses every event of type {quoted(event_type.name)}: {reason}"
        yield Diagnostic(event_type.written.locate(pointer), Code.SCHEMA_ACCEPTS_NOTHING, message, hint)


def bundled_schema(event_type: EventType) -> Schema:
    """Return the schema of an event type with its references pulled in, or `True` if that is not possible."""
    assert event_type.validator is not None
    try:
        return bundle(event_type.validator)
    except CannotBundle:
        return True


def schema_dead_part(document: SchemaDocument) -> Iterator[Diagnostic]:
    """Find parts of a schema that accept nothing and are not meant to."""
    # The engine cannot analyse a reference to another file.
    refers_to_file = any(not part.schema.get("$ref", "#").startswith("#") for part in document.parts)
    found = unsatisfiable_parts(
        bundled_schema(document.event_type) if refers_to_file and document.is_event else document.schema
    )
    if not found:
        return
    written = {text_of(part.pointer): (part.pointer, part.schema) for part in document.parts}
    dead = {text: written[text] for text in found if text in written and _is_at_fault(written[text][1])}
    if dead and document.is_event and rejects_all(bundled_schema(document.event_type), document.event_type.name):
        # `schema_accepts_nothing` reports it.
        return
    for text, (pointer, schema) in dead.items():
        if not any(text.startswith(f"{outer}/") for outer in dead):
            steps, reason, hint = find_contradiction(schema)
            location = document.written.locate((*pointer, *steps))
            message = f"{_subject(pointer)} can have no valid value: {reason}"
            yield Diagnostic(location, Code.SCHEMA_DEAD_PART, message, hint)


def _is_at_fault(schema: dict[str, Any]) -> bool:
    """Whether a part that accepts nothing is itself at fault: it is not meant to, and is not a reference."""
    return schema not in _INTENDED and "$ref" not in schema


def _subject(pointer: Pointer) -> str:
    if not pointer:
        return "the schema"
    last = pointer[-1]
    return quoted(last) if isinstance(last, str) else f"part {last + 1} of {quoted(pointer[-2])}"
