"""Schemas that accept nothing: of an event type, or within one."""

from collections.abc import Iterator
from typing import Any

from channelmap.check.rules.blame import blame, blame_for_event, refuses_all
from channelmap.check.rules.documents import SchemaDocument
from channelmap.codes import Code
from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic
from channelmap.errors import quoted
from channelmap.pointers import Pointer, text_of
from channelmap.validation import Schema
from channelmap.validation.algebra import unsatisfiable_parts
from channelmap.validation.structure import CannotBundle, bundle

#: What says, beside `false`, that there is to be no such thing.
_MEANT: tuple[Any, ...] = ({"not": {}}, {"not": True})


def schema_accepts_nothing(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Find out whether no event of the type can be valid."""
    if event_type.validator is None or event_type.written is None:
        return
    # One good example is proof enough, and costs nothing.
    shown = [example.event for example in event_type.accepts if channel.judge(example.event) is None]
    if any(event["type"] == event_type.name for event in shown):
        return
    whole = _whole(event_type)
    if refuses_all(whole, event_type.name):
        pointer, reason, hint = blame_for_event(event_type.schema, whole, event_type.name)
        message = f"the schema refuses every event of type {quoted(event_type.name)}: {reason}"
        yield Diagnostic(event_type.written.locate(pointer), Code.SCHEMA_ACCEPTS_NOTHING, message, hint)


def _whole(event_type: EventType) -> Schema:
    """Return the schema of an event type with what it refers to; where there is no such schema, one for anything."""
    assert event_type.validator is not None
    try:
        return bundle(event_type.validator)
    except CannotBundle:
        return True


def schema_dead_part(document: SchemaDocument) -> Iterator[Diagnostic]:
    """Find what can have no valid value, and does not say so by being `false`."""
    # The engine gives up on a reference to another file.
    refers_far = any(not part.schema.get("$ref", "#").startswith("#") for part in document.parts)
    found = unsatisfiable_parts(_whole(document.event_type) if refers_far and document.is_event else document.schema)
    if not found:
        return
    written = {text_of(part.pointer): (part.pointer, part.schema) for part in document.parts}
    dead = {text: written[text] for text in found if text in written and _is_at_fault(written[text][1])}
    if dead and document.is_event and refuses_all(_whole(document.event_type), document.event_type.name):
        # Which is told of the event type.
        return
    for text, (pointer, schema) in dead.items():
        if not any(text.startswith(f"{outer}/") for outer in dead):
            steps, reason, hint = blame(schema)
            place = document.written.locate((*pointer, *steps))
            message = f"{_subject(pointer)} can have no valid value: {reason}"
            yield Diagnostic(place, Code.SCHEMA_DEAD_PART, message, hint)


def _is_at_fault(schema: dict[str, Any]) -> bool:
    """Whether a part that accepts nothing is itself at fault: it was not meant, and refers to no other."""
    return schema not in _MEANT and "$ref" not in schema


def _subject(pointer: Pointer) -> str:
    if not pointer:
        return "the schema"
    last = pointer[-1]
    return quoted(last) if isinstance(last, str) else f"part {last + 1} of {quoted(pointer[-2])}"
