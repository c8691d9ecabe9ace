"""Spans of OpenTelemetry for sends and handler calls. This is the only module that imports OpenTelemetry.

It is imported only for contracts with `tracing: true`. It uses OpenTelemetry's API: without an SDK nothing is recorded.
An exception of an SDK is logged and never affects an event.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from channelmap.asgi import AtHand, Event, Receive, Send, forward
from channelmap.environment import shown
from channelmap.errors import EventRejected, TracingUnavailable, one_line, printable, shortened, text_of
from channelmap.handling import (
    AroundHandler,
    CurrentDelivery,
    Reject,
    Retry,
    StopConsumer,
    around_handler,
    checked,
    current_delivery,
    current_holder,
)
from channelmap.trace_key import TRACE_KEY, trace_fields

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise TracingUnavailable(str(error)) from None

if TYPE_CHECKING:
    from contextvars import Token

log = logging.getLogger("channelmap.tracing")

# The attributes of spans: OpenTelemetry's conventions for messaging, and channelmap's own names.
SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"
EVENT_TYPE: Final = "channelmap.event.type"
ATTEMPT: Final = "channelmap.attempt"

#: Maximum length of an event type in an attribute; an undeclared type may be any text.
_MAX_TYPE_LENGTH = 100
#: Seconds between two logged exceptions of the SDK.
_ERROR_SECS = 60.0

#: A proxy, if the application sets up its SDK later.
_tracer = trace.get_tracer("channelmap", version("channelmap"))
#: Not the propagator that the application may have configured: other processes expect these two fields.
_propagator = TraceContextTextMapPropagator()


class SendSpan:
    """The span of one call that sends events to a declared channel: a context manager around the call.

    Args:
        channel: the channel's name.
        batch: number of events of a `send_many`; `None` for a single event.

    """

    def __init__(self, channel: str, batch: int | None = None) -> None:
        attributes = {} if batch is None else {BATCH_COUNT: batch}
        self._span = _start("send", channel, SpanKind.PRODUCER, None, attributes)
        self._is_batch = batch is not None
        self._current = trace.use_span(self._span, record_exception=False, set_status_on_exception=False)
        self._fields: dict[str, str] = {}
        with _logged_errors:
            _propagator.inject(self._fields, trace.set_span_in_context(self._span))

    def __enter__(self) -> Self:
        """Make the span current."""
        self._current.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span; a rejection is recorded by its code."""
        self._current.__exit__(kind, error, traceback)
        if isinstance(error, EventRejected):
            _set_event_type(self._span, error.type)
            _set_error(self._span, error.code, str(error))
        elif error is not None:
            _set_error(self._span, _class_of(error), text_of(error))
        _end(self._span)

    def carry(self, event: Event) -> Event:
        """Return a copy of a valid event with the context of the span."""
        if not isinstance(event, dict):
            # Not validated; the layer rejects it.
            return event
        if not self._is_batch:
            _set_event_type(self._span, event.get("type"))
        return {**event, TRACE_KEY: self._fields} if self._fields else event

    def sent(self, event_id: str | None) -> None:
        """Note the id of a single event."""
        if event_id:
            self._span.set_attribute(MESSAGE_ID, event_id)


@dataclass(slots=True)
class _Received:
    """An event that the application has received, and whose handler has not started."""

    event_type: Any
    fields: dict[str, str]
    delivery: CurrentDelivery | None
    #: Nanoseconds since the epoch.
    at: int


class HandlerSpans:
    """The spans of one instance of an application, which handles one event at a time: a context manager around it.

    A consumer of channelmap runs each handler in a span that is current. For any other application, the span of an
    event lasts from its `receive` until the next one, or until the application ends, and is not current.

    Args:
        channel: the channel's name.

    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        # At most one of each. The thread of a handler and the event loop may both want to end a span: `pop` decides.
        self._received: list[_Received] = []
        self._running: list[Span] = []
        self._token: Token[AroundHandler | None] | None = None

    def __enter__(self) -> Self:
        """Let consumers run their handlers in spans."""
        self._token = around_handler.set(self._around_handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span of the current event: the application has ended, or was cut off."""
        if self._token is not None:
            around_handler.reset(self._token)
        self._finish(error)

    def receive(self, receive: Receive) -> Receive:
        """Return a `receive` that notes each event, for its span."""

        async def traced() -> Event:
            self._finish()
            return self._note(await receive())

        def traced_at_hand(at_hand: AtHand) -> AtHand:
            def next_traced() -> Event | None:
                self._finish()
                event = at_hand()
                return None if event is None else self._note(event)

            return next_traced

        return forward(receive, traced, traced_at_hand)

    def reject(self, reject: Send) -> Send:
        """Return a function for rejected events that records each in a span of its own."""

        async def traced(rejection: Event) -> None:
            span = self._start()
            _set_error(span, rejection["code"], rejection["reason"])
            _end(span)
            await reject(rejection)

        return traced

    def _note(self, event: Event) -> Event:
        self._received[:] = [_Received(event.get("type"), trace_fields(event), current_delivery(), time.time_ns())]
        return event

    @contextmanager
    def _around_handler(self) -> Iterator[None]:
        """Run the handler of the received event in its span."""
        span = self._start()
        self._running.append(span)
        raised: BaseException | None = None
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            raised = error
            raise
        finally:
            self._finish(raised)

    def _finish(self, error: BaseException | None = None) -> None:
        """End the span of the current event, if it has not ended."""
        if not self._running and not self._received:
            return
        try:
            span = self._running.pop() if self._running else self._start()
        except IndexError:
            return  # the other thread has ended it
        _record(span, error)
        _end(span)

    def _start(self) -> Span:
        """Start the span of the received event, at the time at which it was received."""
        if not self._received:
            # A middleware has made the event.
            return _start("process", self._channel, SpanKind.CONSUMER, {}, {})
        received = self._received.pop()
        attributes: dict[str, str | int] = {}
        if received.delivery is not None:
            attributes = {MESSAGE_ID: received.delivery.id, ATTEMPT: received.delivery.attempt}
        span = _start("process", self._channel, SpanKind.CONSUMER, received.fields, attributes, received.at)
        _set_event_type(span, received.event_type)
        return span


class _LoggedErrors:
    """A context manager that logs an exception of the SDK, at most once a minute, and suppresses it."""

    def __init__(self) -> None:
        self._next_log = 0.0

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """Log the exception; do not suppress what is not an `Exception`."""
        if not isinstance(error, Exception):
            return False
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _ERROR_SECS
            log.error("OpenTelemetry failed: %s", text_of(error), exc_info=error)
        return True


_logged_errors = _LoggedErrors()


def _start(  # noqa: PLR0913, PLR0917  (the parts of a span)
    operation: str,
    channel: str,
    kind: SpanKind,
    parent: dict[str, str] | None,
    attributes: Mapping[str, str | int],
    at: int | None = None,
) -> Span:
    """Start a span.

    Args:
        operation: `send` or `process`.
        channel: the channel's name.
        kind: the kind of the span.
        parent: the trace context of its event, which is linked too; `None` for the current span.
        attributes: further attributes.
        at: start time in nanoseconds since the epoch; `None` for now.

    """
    name = shown(channel)
    common = {SYSTEM: "channelmap", OPERATION_NAME: operation, OPERATION_TYPE: operation, DESTINATION: name}
    with _logged_errors:
        # The worker's own context is not a parent: it is the same for all events.
        context = None if parent is None else _propagator.extract(parent, Context())
        sender = trace.get_current_span(context).get_span_context()
        links = [trace.Link(sender)] if context is not None and sender.is_valid else []
        return _tracer.start_span(f"{operation} {name}", context, kind, {**common, **attributes}, links, at)
    return trace.INVALID_SPAN


def _set_event_type(span: Span, event_type: object) -> None:
    if isinstance(event_type, str):
        span.set_attribute(EVENT_TYPE, printable(shortened(shown(event_type), _MAX_TYPE_LENGTH)))


def _record(span: Span, error: BaseException | None) -> None:
    """Record how a handler ended, with the outcomes that the worker's metrics have."""
    error = None if error is None else checked(error)
    holder = current_holder.get()
    if holder is not None and holder.timed_out:
        _set_error(span, "timeout", "the handler took longer than the timeout of its channel")
    elif error is None or isinstance(error, StopConsumer):
        return
    elif isinstance(error, Retry):
        _set_error(span, "retry", error.reason)
    elif isinstance(error, Reject):
        _set_error(span, "given-up", error.reason)
    else:
        _set_error(span, _class_of(error), text_of(error))
        with _logged_errors:
            span.record_exception(error)


def _set_error(span: Span, error_type: str, reason: str) -> None:
    span.set_attribute(ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR, one_line(shortened(reason))))


def _class_of(error: BaseException) -> str:
    """Return the name of an exception's class, with its module unless it is built in."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _end(span: Span) -> None:
    with _logged_errors:
        span.end()
