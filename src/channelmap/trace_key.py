"""The key of an event under which its trace context travels. Removing it does not need OpenTelemetry."""

import re
from typing import Any

#: The value has `traceparent` and, where there is one, `tracestate`, as W3C Trace Context defines them.
TRACE_KEY = "__trace__"

_FIELDS = ("traceparent", "tracestate")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)")
_INVALID_TRACE_ID = "0" * 32


def without_trace(event: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an event without its trace context; the event itself if it has none."""
    if TRACE_KEY not in event:
        return event
    copy = dict(event)
    del copy[TRACE_KEY]
    return copy


def trace_fields(event: dict[str, Any]) -> dict[str, str]:
    """Return the trace context of an event; empty if it has none, or if its value is not one.

    Any sender may have written the value, so it may be anything.
    """
    value = event.get(TRACE_KEY)
    if not isinstance(value, dict):
        return {}
    return {name: value[name] for name in _FIELDS if isinstance(value.get(name), str)}


def trace_id_of(event: dict[str, Any] | None) -> str:
    """Return the trace id of an event in hexadecimal digits; empty if it has no valid trace context."""
    found = _TRACEPARENT.match(trace_fields(event).get("traceparent", "")) if event else None
    return "" if found is None or found[1] == _INVALID_TRACE_ID else found[1]
