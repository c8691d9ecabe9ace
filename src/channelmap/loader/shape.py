"""Check the shape of a contract file, by `channels.schema.json` and the few rules that JSON Schema cannot express."""

import functools
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from channelmap.codes import BREAKS, Code
from channelmap.diagnostics import Diagnostic
from channelmap.environment import shown
from channelmap.errors import did_you_mean, quoted
from channelmap.pointers import Pointer
from channelmap.source import Document
from channelmap.validation import Mismatch, Validator

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def check_shape(document: Document) -> list[Diagnostic]:
    """Return everything that is wrong with the shape of a contract file."""
    validator, schema = _own_schema()
    found = [
        diagnostic
        for mismatch in validator.mismatches(document.data)
        for diagnostic in _diagnostics(document, mismatch, schema)
    ]
    found += _suppression_faults(document)
    channels = document.marked_data.get("channels") if isinstance(document.data, dict) else None
    for name, channel in channels.items() if isinstance(channels, dict) else ():
        if isinstance(channel, dict):
            found += _handler_collisions(document, ("channels", name, "events"), channel.get("events"))
            found += _retry_without_effect(document, ("channels", name), channel)
    return found


@functools.cache
def _own_schema() -> tuple[Validator, dict[str, Any]]:
    schema = json.loads(files("channelmap").joinpath("channels.schema.json").read_text("utf-8"))
    return Validator(schema), schema


def _diagnostics(document: Document, mismatch: Mismatch, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    pointer = document.display_pointer(mismatch.pointer)
    match mismatch.keyword:
        case "additionalProperties":
            known = _follow(schema, mismatch.schema_path[:-1])["properties"]
            for name in mismatch.names:
                location = document.locate((*pointer, name), key=True)
                yield Diagnostic(location, Code.UNKNOWN_KEY, f"unknown key {quoted(name)}", _key_hint(name, known))
        case "required" | "dependencies" if mismatch.names:
            location = document.locate(pointer, key=True)
            yield Diagnostic(location, Code.MISSING_KEY, f"{_subject(pointer)} lacks {quoted(mismatch.names[0])}")
        case "propertyNames":
            named = document.display_pointer((*pointer, mismatch.names[0]))
            yield Diagnostic(document.locate(named, key=True), *_bad_name(pointer, shown(named[-1])))
        case _:
            yield Diagnostic(
                document.locate(pointer), Code.WRONG_SHAPE, _wrong_shape(document, pointer, mismatch, schema)
            )


def _key_hint(name: str, known: dict[str, Any]) -> str:
    return did_you_mean(name, known) or f"expected one of {', '.join(map(quoted, known))}"


def _bad_name(pointer: Pointer, name: str) -> tuple[Code, str, str]:
    if pointer == ("channels",):
        hint = "expected 1 to 99 ASCII letters, digits, hyphens, underscores and periods"
        return Code.CHANNEL_NAME_INVALID, f"{quoted(name)} cannot be the name of a channel", hint
    hint = "expected text that begins neither with '_' nor with '.'"
    return Code.EVENT_TYPE_INVALID, f"{quoted(name)} cannot be an event type", hint


def _wrong_shape(document: Document, pointer: Pointer, mismatch: Mismatch, schema: dict[str, Any]) -> str:
    owner = _follow(schema, mismatch.schema_path[:-1])
    subject = _subject(pointer)
    if mismatch.keyword == "minProperties":
        return f"{subject} must not be empty"
    if mismatch.keyword == "oneOf":
        return f"{subject} needs either 'url' or 'backend'"
    if "symmetric_encryption_keys" in pointer[:-1]:
        return f"{subject} expected text in quotes"
    value, written = _follow(document.data, pointer), document.source_text(pointer)
    got = _kind_of(value) if pointer[:1] == ("layer",) else _got(value, written)
    if mismatch.keyword == "maximum":
        return f"{subject} expected a number of at most {owner['maximum']:,}, got {got}"
    return f"{subject} expected {_expectation(owner, schema)}, got {got}"


def _subject(pointer: Pointer) -> str:
    if not pointer:
        return "the file"
    name = quoted(pointer[-1])
    return f"channel {name}" if pointer[:-1] == ("channels",) else name


def _expectation(owner: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return in words what a schema expects; supports only the keywords that `channels.schema.json` uses."""
    if "$ref" in owner:
        return _expectation(_follow(schema, owner["$ref"].split("/")[1:]), schema)
    if "anyOf" in owner:
        return " or ".join(_expectation(branch, schema) for branch in owner["anyOf"])
    if "const" in owner:
        return json.dumps(owner["const"])
    if "enum" in owner:
        return f"one of {', '.join(map(quoted, owner['enum']))}"
    types = [owner["type"]] if isinstance(owner["type"], str) else owner["type"]
    words = " or ".join(_TYPES[name] for name in types)
    if "format" in owner:
        words = "a date such as 2027-03-31"
    elif "pattern" in owner:
        words = "a URL such as sqlite:///channels.db, redis://localhost:6379/0 or memory://"
    if "exclusiveMinimum" in owner:
        return f"{words} above {owner['exclusiveMinimum']}".replace(" or null above 0", " above 0 or null")
    return f"{words} of at least {owner['minimum']}" if "minimum" in owner else words


def _got(value: Any, written: str) -> str:
    """Return a value in words: a short one is shown, but never a value from the environment."""
    if written:
        return f"{_kind_of(value)} {quoted(written)}"
    if isinstance(value, str) and value:
        return f"text {quoted(value)}"
    return json.dumps(value)[:60] if isinstance(value, (bool, int, float)) else _kind_of(value)


def _kind_of(value: Any) -> str:
    match value:
        case dict():
            return "a mapping" if value else "an empty mapping"
        case list():
            return "a list"
        case str():
            return "text" if value else "empty text"
        case bool():
            return "true or false"
        case None:
            return "null"
    return "a number"


def _follow(value: Any, pointer: Any) -> Any:
    for step in pointer:
        value = value[step]
    return value


def _handler_collisions(document: Document, pointer: Pointer, events: Any) -> Iterator[Diagnostic]:
    """Yield event types whose handler has the same name as that of an earlier type."""
    first: dict[str, str] = {}
    for event_type in events if isinstance(events, dict) else ():
        handler = event_type.replace(".", "_")
        other = first.setdefault(handler, event_type)
        if other != event_type:
            location = document.locate((*pointer, other), key=True)
            message = (
                f"{quoted(event_type)} and {quoted(other)} ({location.line}:{location.column}) "
                f"would both call {quoted(handler)}"
            )
            yield Diagnostic(document.locate((*pointer, event_type), key=True), Code.HANDLER_COLLISION, message)


def _suppression_faults(document: Document) -> Iterator[Diagnostic]:
    """Yield suppressions of unknown codes, and suppressions of breaks without an end date."""
    check = document.marked_data.get("check") if isinstance(document.data, dict) else None
    for key, entries in check.items() if isinstance(check, dict) else ():
        for index, entry in enumerate(entries) if isinstance(entries, list) else ():
            pointer: Pointer = ("check", key, index, "code") if isinstance(entry, dict) else ("check", key, index)
            code = entry.get("code") if isinstance(entry, dict) else entry
            if isinstance(code, str) and code not in [*Code]:
                message = f"unknown code {quoted(code)}"
                yield Diagnostic(document.locate(pointer), Code.WRONG_SHAPE, message, did_you_mean(code, [*Code]))
            if isinstance(entry, dict) and code in BREAKS and "until" not in entry:
                message = f"a suppression of {quoted(code)} lacks 'until'"
                hint = "give the date until which old senders or consumers may be running"
                yield Diagnostic(document.locate(pointer[:-1]), Code.MISSING_KEY, message, hint)


def misplaced_variables(document: Document) -> Iterator[Diagnostic]:
    """Yield environment variables below `events`: what an event looks like must not depend on where a process runs."""
    for pointer in document.variables:
        if pointer[:1] == ("channels",) and pointer[2:3] == ("events",):
            message = "'events' cannot hold an environment variable: events look the same wherever they are sent"
            hint = "write the value out; $${ stands for a literal ${"
            yield Diagnostic(document.locate(pointer), Code.VARIABLE_MISPLACED, message, hint)


def _retry_without_effect(document: Document, pointer: Pointer, channel: dict[str, Any]) -> Iterator[Diagnostic]:
    """Yield a `retry` setting of a channel without retries: its author would rely on it."""
    defaults = document.data.get("defaults")
    inherited = defaults.get("delivery") if isinstance(defaults, dict) else None
    if "retry" in channel and channel.get("delivery", inherited) in {None, "at-most-once"}:
        message = "'retry' has no effect where delivery is at-most-once"
        location = document.locate((*pointer, "retry"), key=True)
        yield Diagnostic(location, Code.RETRY_AT_MOST_ONCE, message, "add 'delivery: at-least-once'")
