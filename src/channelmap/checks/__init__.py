"""What loading cannot know: whether the examples hold, the consumers import, and each type has its handler.

One rule, one small function, one code; a channel's rules stand in the order in which one is pointless
without the other. User code is imported here, through `imports`.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction

from channelmap.consumers import handler_name, handlers_of
from channelmap.contract import Channel, Contract, EventType
from channelmap.diagnostics import Code, Diagnostic, Location, Severity, in_order
from channelmap.errors import did_you_mean, quoted
from channelmap.imports import AttributeMissing, ImportProblem, ModuleBroken, import_dotted

_TYPE_FAULTS = {"missing-type": "it has no type", "unknown-type": "its type is not declared"}


def check(contract: Contract, channels: Iterable[str] = (), *, second_opinion: bool = True) -> tuple[Diagnostic, ...]:
    """Find what is wrong with a contract that loads; the consumers are imported for it.

    They are looked for on the Python path as it is: who runs the check sees to it.

    Args:
        contract: the contract.
        channels: only these; all of them when none is named.
        second_opinion: ask the jsonschema package about the examples too, which only ever warns, and takes its time.

    Raises:
        UnknownChannel: one of `channels` is not declared.

    """
    chosen = [contract.channel(name) for name in channels] or contract.channels.values()
    return in_order([finding for channel in chosen for finding in _check(contract, channel, second_opinion)])


def _check(contract: Contract, channel: Channel, second_opinion: bool) -> Iterator[Diagnostic]:  # noqa: FBT001
    for event_type in channel.events.values():
        yield from _accepts_refused(channel, event_type)
        yield from _rejects_accepted(channel, event_type)
        if second_opinion:
            yield from _engines_disagree(event_type)
    place = contract.document.locate(("channels", channel.name, "consumer"))
    try:
        consumer = import_dotted(channel.consumer)
    except ImportProblem as problem:
        yield Diagnostic(place, _import_code(problem), problem.message, problem.hint)
        return
    if not _is_application(consumer):
        yield _not_a_consumer(channel, consumer, place)
        return
    consumer = getattr(consumer, "consumer_class", consumer)
    bases = _framework_bases(consumer)
    for event_type in channel.events.values() if bases else ():
        at = contract.document.locate(("channels", channel.name, "events", event_type.name), key=True)
        yield from _handler(consumer, bases, event_type, at)


def _accepts_refused(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    for example in event_type.accepts:
        reason = _refusal(channel, event_type, example.event)
        if reason:
            message = f"{quoted(event_type.name)} refuses an example that it must accept: {reason}"
            yield Diagnostic(example.location, "accepts-refused", message)


def _rejects_accepted(channel: Channel, event_type: EventType) -> Iterator[Diagnostic]:
    for example in event_type.rejects:
        if not _refusal(channel, event_type, example.event):
            message = f"{quoted(event_type.name)} accepts an example that it must reject"
            yield Diagnostic(example.location, "rejects-accepted", message)


def _engines_disagree(event_type: EventType) -> Iterator[Diagnostic]:
    for example in (*event_type.accepts, *event_type.rejects):
        if event_type.validator is None or not isinstance(example.event, dict):
            continue
        ours = event_type.validator.is_valid(example.event)
        other = event_type.validator.second_opinion(example.event)
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


def _import_code(problem: ImportProblem) -> Code:
    match problem:
        case AttributeMissing():
            return "consumer-not-found"
        case ModuleBroken():
            return "consumer-import-failed"
    return "consumer-module-missing"


def _is_application(consumer: Any) -> bool:
    """Whether the worker can run it: an ASGI application, or a class that makes one with `as_asgi`."""
    if isinstance(consumer, type):
        return hasattr(consumer, "as_asgi")
    call = inspect.getattr_static(type(consumer), "__call__", None)
    if not (iscoroutinefunction(consumer) or iscoroutinefunction(call)):
        return False
    try:
        # `as_asgi` wraps the application in the name of its class, whose signature is another one.
        inspect.signature(consumer, follow_wrapped=False).bind("scope", "receive", "send")
    except (TypeError, ValueError):
        return False
    return True


def _not_a_consumer(channel: Channel, consumer: Any, place: Location) -> Diagnostic:
    is_class = isinstance(consumer, type)
    kind = "a class without 'as_asgi'" if is_class else f"of type {quoted(type(consumer).__name__)}"
    message = f"{quoted(channel.consumer)} is {kind}, not a consumer"
    hint = "expected a consumer class, or an async application taking scope, receive and send"
    return Diagnostic(place, "not-a-consumer", message, hint)


def _framework_bases(consumer: Any) -> tuple[type, ...]:
    """Return the classes of channelmap or Channels that a consumer derives from: these are understood."""
    bases = consumer.__mro__ if isinstance(consumer, type) else ()
    return tuple(
        base
        for base in bases
        if base.__module__ == "channelmap.consumers" or base.__module__.partition(".")[0] == "channels"
    )


def _handler(consumer: type, bases: tuple[type, ...], event_type: EventType, place: Location) -> Iterator[Diagnostic]:
    name = handler_name(event_type.name)
    if any(hasattr(base, name) for base in bases):
        message = f"event type {quoted(event_type.name)} would call {quoted(name)}, which every consumer has"
        yield Diagnostic(place, "handler-reserved", message, "give the event type another name")
    elif name not in handlers_of(consumer):
        message = f"{consumer.__name__} has no method {quoted(name)} for event type {quoted(event_type.name)}"
        yield Diagnostic(place, "handler-missing", message, did_you_mean(name, handlers_of(consumer)))
    else:
        yield from _handler_kind(consumer, bases, name, place)


def _handler_kind(consumer: type, bases: tuple[type, ...], name: str, place: Location) -> Iterator[Diagnostic]:
    handler = getattr(consumer, name)
    subject = f"{consumer.__name__}.{name}"
    if any(base.__name__ == "SyncConsumer" for base in bases):
        if iscoroutinefunction(handler):
            message = f"{subject} is async, but {consumer.__name__} is a SyncConsumer"
            yield Diagnostic(place, "handler-not-sync", message, "write 'def', or derive from AsyncConsumer")
    # A decorator's plain function may return the coroutine of the async one that it wraps.
    elif not (iscoroutinefunction(handler) or iscoroutinefunction(inspect.unwrap(handler))):
        message = f"{subject} is not async, but {consumer.__name__} is an AsyncConsumer"
        yield Diagnostic(place, "handler-not-async", message, "write 'async def', or derive from SyncConsumer")
