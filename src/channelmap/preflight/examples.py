"""Check that channels accept and reject the examples as the contract says."""

from collections.abc import Iterator
from typing import Any

from channelmap.codes import Code
from channelmap.contract import Channel, EventType
from channelmap.diagnostics import Diagnostic
from channelmap.errors import quoted

_TYPE_FAULTS = {"missing-type": "it has no type", "unknown-type": "its type is not declared"}


def accepts_refused(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Yield the `accepts` examples that the channel rejects."""
    for example in event_type.accepts:
        reason = _rejection_reason(channel, event_type, example.event)
        if reason:
            message = f"{quoted(event_type.name)} refuses an example that it must accept: {reason}"
            yield Diagnostic(example.location, Code.ACCEPTS_REFUSED, message)


def rejects_accepted(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    """Yield the `rejects` examples that the channel accepts."""
    for example in event_type.rejects:
        if channel.judge(example.event) is None and example.event["type"] == event_type.name:
            message = f"{quoted(event_type.name)} accepts an example that it must reject"
            yield Diagnostic(example.location, Code.REJECTS_ACCEPTED, message)


def _rejection_reason(channel: Channel, event_type: EventType, event: Any) -> str:
    """Return why the channel does not accept an event as one of this type; empty if it does."""
    rejected = channel.judge(event)
    if rejected is not None:
        return "; ".join(map(str, rejected.violations)) or _TYPE_FAULTS[rejected.code]
    return "" if event["type"] == event_type.name else "it is of another type"
