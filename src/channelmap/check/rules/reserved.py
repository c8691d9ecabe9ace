"""Schemas that declare a key that no event may have."""

from collections.abc import Iterator

from channelmap.check.rules.empty_schemas import bundled_schema
from channelmap.check.rules.schemas import schemas_of_same_value
from channelmap.codes import Code
from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic
from channelmap.errors import quoted
from channelmap.pointers import Pointer
from channelmap.validation import RESERVED_KEYS, Schema


def property_reserved(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:  # noqa: ARG001  (as all rules of event types)
    """Find reserved keys among the properties of events; below, every name is free."""
    if event_type.validator is None or event_type.written is None:
        return
    found: dict[str, Pointer] = {}
    if any("$ref" in part for _, part in schemas_of_same_value(event_type.schema)):
        # What the schema refers to has no location of its own here.
        found = {name: () for name, _ in _declared(bundled_schema(event_type))}
    found |= _declared(event_type.schema)
    for name, pointer in found.items():
        message = f"the schema declares {quoted(name)}, which is reserved for {RESERVED_KEYS[name]}"
        location = event_type.written.locate(pointer, key=bool(pointer))
        yield Diagnostic(location, Code.PROPERTY_RESERVED, message, "give the property another name")


def _declared(schema: Schema) -> Iterator[tuple[str, Pointer]]:
    """Yield the reserved keys that a schema declares for the event itself, each with the way to it."""
    for pointer, part in schemas_of_same_value(schema):
        for name in RESERVED_KEYS.keys() & part.get("properties", {}).keys():
            yield name, (*pointer, "properties", name)
