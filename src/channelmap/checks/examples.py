"""Whether the examples hold: the contract's own test of its schemas."""

from collections.abc import Iterator
from typing import Any

from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic, Severity
from channelmap.errors import quoted
from channelmap.validation.second import second_opinion

_TYPE_FAULTS = {"missing-type": "it has no type", "unknown-type": "its type is not declared"}


def accepts_refused(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Find events that are shown as good and are refused."""
    for example in event_type.accepts:
        reason = _refusal(channel, event_type, example.event)
        if reason:
            message = f"{quoted(event_type.name)} refuses an example that it must accept: {reason}"
            yield Diagnostic(example.location, "accepts-refused", message)


def rejects_accepted(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Find events that are shown as bad and are accepted."""
    for example in event_type.rejects:
        if channel.judge(example.event) is None and example.event["type"] == event_type.name:
            message = f"{quoted(event_type.name)} accepts an example that it must reject"
            yield Diagnostic(example.location, "rejects-accepted", message)


def engines_disagree(_channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Find examples that the jsonschema package judges otherwise, as other tools may."""
    examples = [each for each in (*event_type.accepts, *event_type.rejects) if isinstance(each.event, dict)]
    if event_type.validator is None or not examples:
        return
    opinion = second_opinion(event_type.validator)
    for example in examples:
        ours = event_type.validator.is_valid(example.event)
        other = opinion(example.event)
        if other is not None and other is not ours:
            verdicts = ("accepted", "refused") if ours else ("refused", "accepted")
            message = f"this example of {quoted(event_type.name)} is {verdicts[0]} here and {verdicts[1]} by jsonschema"
            hint = "say more plainly in the schema what is meant: other tools will read it differently"
            yield Diagnostic(example.location, "engines-disagree", message, hint, Severity.WARNING)


def _refusal(channel: Channel, event_type: EventType, event: Any) -> str:
    """Say why an event is not accepted as one of that type, or nothing."""
    rejected = channel.judge(event)
    if rejected is not None:
        return "; ".join(map(str, rejected.violations)) or _TYPE_FAULTS[rejected.code]
    return "" if event["type"] == event_type.name else "it is of another type"
