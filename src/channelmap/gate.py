"""The gate: an ASGI application in front of a consumer, which rejects events that the channel does not declare.

It wraps `receive`, so any ASGI application can stand behind it, under any worker.
"""

import logging
from typing import Any

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, Send, forward
from channelmap.contract import Channel
from channelmap.errors import EventRejected
from channelmap.trace_key import TRACE_KEY, without_trace

log = logging.getLogger("channelmap.gate")


class Gate:
    """An ASGI application that passes on to another one only the events that the channel declares.

    It wraps `receive`. It sends rejected events back to a server that announces ``channel.reject`` in
    ``scope["extensions"]``. Otherwise it logs code, channel, type and paths, never the payload. It removes the trace
    context of each event before validation, because a sender may trace events even if this process does not.

    Args:
        channel: the channel; its `validate` decides whether invalid events are rejected, logged or not checked.
        application: the inner application; its scope lacks the extension.
        tracing: record a span for each event, as a child of the span of its send.

    Raises:
        TracingUnavailable: `tracing` is true, and OpenTelemetry cannot be imported.

    """

    def __init__(self, channel: Channel, application: Application, *, tracing: bool = False) -> None:
        self.channel = channel
        self.application = application
        self._handler_spans = None
        if tracing:
            from channelmap.tracing import HandlerSpans

            self._handler_spans = HandlerSpans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application behind the gate."""
        reject = send if "channel.reject" in scope.get("extensions", {}) else _log_rejection
        scope = {key: value for key, value in scope.items() if key != "extensions"}
        if self._handler_spans is None:
            return await self.application(scope, self._judging(receive, reject), send)
        with self._handler_spans(self.channel.name) as spans:
            return await self.application(scope, self._judging(spans.receive(receive), spans.reject(reject)), send)

    def _judging(self, receive: Receive, reject: Send) -> Receive:
        if self.channel.validate == "enforce":
            return _enforcing_receive(self.channel, receive, reject)
        if self.channel.validate == "warn":
            return _warning_receive(self.channel, receive)
        return _unchecked_receive(receive)


def _enforcing_receive(channel: Channel, receive: Receive, reject: Send) -> Receive:
    admit = channel.admit
    #: Rejections of the consumer's thread, which the event loop sends before the next call of `receive`.
    rejections: list[tuple[Event, EventRejected]] = []

    async def admitted() -> Event:
        while True:
            while rejections:
                await reject(_rejection(*rejections.pop()))
            event = await receive()
            event, rejected = admit(without_trace(event) if TRACE_KEY in event else event)
            if rejected is None:
                return event
            rejections.append((event, rejected))

    def admitted_at_hand(at_hand: AtHand) -> AtHand:
        def next_admitted() -> Event | None:
            event = at_hand()
            if event is None:
                return None
            event, rejected = admit(without_trace(event) if TRACE_KEY in event else event)
            if rejected is None:
                return event
            rejections.append((event, rejected))
            return None

        return next_admitted

    return forward(receive, admitted, admitted_at_hand)


def _warning_receive(channel: Channel, receive: Receive) -> Receive:
    def check(event: Event) -> Event:
        event, rejected = channel.admit(without_trace(event))
        if rejected is not None:
            log.warning("%s; delivered all the same (validate: warn)", rejected)
        return event

    async def receive_and_warn() -> Event:
        return check(await receive())

    def warning_at_hand(at_hand: AtHand) -> AtHand:
        return lambda: None if (event := at_hand()) is None else check(event)

    return forward(receive, receive_and_warn, warning_at_hand)


def _unchecked_receive(receive: Receive) -> Receive:
    async def unchecked() -> Event:
        return without_trace(await receive())

    def unchecked_at_hand(at_hand: AtHand) -> AtHand:
        return lambda: None if (event := at_hand()) is None else without_trace(event)

    return forward(receive, unchecked, unchecked_at_hand)


def _rejection(event: Event, rejected: EventRejected) -> Event:
    return {
        "type": "channel.reject",
        "event": event,
        "code": rejected.code,
        "violations": rejected.violations,
        "reason": str(rejected),
    }


async def _log_rejection(rejection: Event) -> None:
    log.error("%s", rejection["reason"])
