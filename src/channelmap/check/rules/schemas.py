"""Find likely mistakes in schemas: in required names, examples and formats."""

from collections.abc import Iterator
from typing import Any

from channelmap.check.rules.documents import Part
from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic
from channelmap.errors import did_you_mean, quoted
from channelmap.pointers import Pointer
from channelmap.validation import DIALECTS, Schema, SchemaUnusable, Validator, unsupported, with_type
from channelmap.validation.formats import known_formats
from channelmap.validation.keywords import IN_PLACE
from channelmap.validation.structure import children
from channelmap.validation.walk import subschemas

_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_SAME_VALUE = IN_PLACE - {"not"}


def required_undeclared(part: Part) -> Iterator[Diagnostic]:
    """Find required names that are not among the declared properties: one of the two may be misspelt.

    Properties may be declared in any schema that judges the same object. Nothing is reported if one of them has a
    reference, or a schema for undeclared properties.
    """
    if part.in_place:
        return
    judges = list(schemas_of_same_value(part.schema))
    if any(_declares_elsewhere(schema) for _, schema in judges):
        return
    declared = {name for _, schema in judges for name in schema.get("properties", {})}
    patterns = [pattern for _, schema in judges for pattern in schema.get("patternProperties", {})]
    if not declared:
        return
    if part.document.is_event and not part.pointer:
        declared.add("type")
    for steps, schema in judges:
        # A closed schema accepts nothing then, which another rule reports.
        if schema.get("additionalProperties") is False:
            continue
        for index, name in enumerate(schema.get("required", ())):
            if name not in declared and not any(_matches(pattern, name) for pattern in patterns):
                location = part.locate(*steps, "required", index)
                message = f"{quoted(name)} is required, but is not among the properties"
                hint = did_you_mean(name, declared)
                yield Diagnostic(location, Code.REQUIRED_UNDECLARED, message, hint)


def schemas_of_same_value(schema: Schema) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    """Yield the schemas that judge the same object as this one; `not` may name undeclared properties."""
    waiting: list[tuple[Pointer, Any]] = [((), schema)]
    while waiting:
        pointer, judge = waiting.pop()
        if isinstance(judge, dict):
            yield pointer, judge
            if not _SAME_VALUE.isdisjoint(judge):
                waiting += [(pointer + steps, child) for steps, child in children(judge) if steps[0] in _SAME_VALUE]


def _declares_elsewhere(schema: dict[str, Any]) -> bool:
    others = (schema.get(keyword) for keyword in ("additionalProperties", "unevaluatedProperties"))
    return not _REFERENCES.isdisjoint(schema) or any(isinstance(other, dict) for other in others)


def _matches(pattern: str, name: str) -> bool:
    return not Validator({"pattern": pattern}).mismatches(name)


def schema_example_refused(part: Part) -> Iterator[Diagnostic]:
    """Find a `default`, `examples` and members of `enum` that the schema around them rejects."""
    shown = dict(_examples_in(part.schema))
    if not shown or not part.schema.keys() - {"default", "examples", "enum", "title", "description"}:
        return
    if any(isinstance(schema, dict) and schema.keys() & _REFERENCES for _, schema in subschemas(part.schema)):
        return
    try:
        validator = Validator(with_type({**part.schema, "$schema": part.document.dialect}))
    except SchemaUnusable:
        return
    refused = {
        pointer: str(found[0].violation).removeprefix("$ ")
        for pointer, value in shown.items()
        if unsupported({"value": value}) is None and (found := validator.mismatches(value, 1))
    }
    # If all members are rejected, the schema accepts nothing, which another rule reports.
    members = {pointer for pointer in shown if pointer[0] == "enum"}
    for pointer in refused.keys() - (members if members <= refused.keys() else set()):
        subject = "the default" if pointer[0] == "default" else f"this member of {quoted(pointer[0])}"
        message = f"{subject} is refused by its own schema: {refused[pointer]}"
        yield Diagnostic(part.locate(*pointer), Code.SCHEMA_EXAMPLE_REFUSED, message)


def _examples_in(schema: dict[str, Any]) -> Iterator[tuple[Pointer, Any]]:
    # A default of null usually means that there is none.
    if schema.get("default") is not None:
        yield ("default",), schema["default"]
    for keyword in ("examples", "enum"):
        yield from (((keyword, index), value) for index, value in enumerate(schema.get(keyword, ())))


def format_unknown(part: Part) -> Iterator[Diagnostic]:
    """Find formats that the schema engine does not check."""
    name = part.schema.get("format")
    known = known_formats(part.document.dialect)
    if name is not None and name not in known:
        message = f"nothing checks the format {quoted(name)}"
        is_newer = name in known_formats(DIALECTS[0])
        hint = f"'$schema: {DIALECTS[0]}' has it" if is_newer else did_you_mean(name, known)
        yield Diagnostic(part.locate("format"), Code.FORMAT_UNKNOWN, message, hint)
