"""Whether each event type has a handler that can be called with it, and each handler an event type."""

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction

from channelmap.checks.code_places import defined
from channelmap.consumers import handler_name, handlers_of
from channelmap.contract import Channel, Contract, EventType
from channelmap.diagnostics import Diagnostic, Location, Severity
from channelmap.errors import did_you_mean, quoted

_BaseClasses = tuple[type, ...]


def handlers(consumer: type, event_type: EventType, place: Location) -> Iterator[Diagnostic]:
    """Find what is wrong with the handler of an event type, which is declared at that place.

    Consumers that derive from no class of channelmap or Channels may find their handlers in any way: nothing is
    known of them.
    """
    name = handler_name(event_type.name)
    bases = _framework_bases(consumer)
    if not bases:
        return
    if any(hasattr(base, name) for base in bases):
        yield _reserved(event_type, name, place)
    elif name not in handlers_of(consumer):
        yield _missing(consumer, event_type, name, place)
    else:
        for rule in (_wrong_kind, _wrong_arguments):
            yield from rule(consumer, name, place)


def _framework_bases(consumer: type) -> _BaseClasses:
    """Return the classes of channelmap or Channels that a consumer derives from: these are understood."""
    return tuple(
        base
        for base in consumer.__mro__
        if base.__module__ == "channelmap.consumers" or base.__module__.partition(".")[0] == "channels"
    )


def _reserved(event_type: EventType, name: str, place: Location) -> Diagnostic:
    message = f"event type {quoted(event_type.name)} would call {quoted(name)}, which every consumer has"
    return Diagnostic(place, "handler-reserved", message, "give the event type another name")


def _missing(consumer: type, event_type: EventType, name: str, place: Location) -> Diagnostic:
    message = f"{consumer.__name__} has no method {quoted(name)} for event type {quoted(event_type.name)}"
    hint = did_you_mean(name, handlers_of(consumer))
    return Diagnostic(place, "handler-missing", message, hint, related=defined(consumer, consumer.__name__))


def _wrong_kind(consumer: type, name: str, place: Location) -> Iterator[Diagnostic]:
    handler = getattr(consumer, name)
    subject = f"{consumer.__name__}.{name}"
    if _is_sync(consumer):
        if iscoroutinefunction(handler):
            message = f"{subject} is async, but {consumer.__name__} is a SyncConsumer"
            hint = "write 'def', or derive from AsyncConsumer"
            yield Diagnostic(place, "handler-not-sync", message, hint, related=defined(handler, subject))
    # A decorator's plain function may return the coroutine of the async one that it wraps.
    elif not (iscoroutinefunction(handler) or iscoroutinefunction(inspect.unwrap(handler))):
        message = f"{subject} is not async, but {consumer.__name__} is an AsyncConsumer"
        hint = "write 'async def', or derive from SyncConsumer"
        yield Diagnostic(place, "handler-not-async", message, hint, related=defined(handler, subject))


def _is_sync(consumer: type) -> bool:
    return any(base.__name__ == "SyncConsumer" for base in _framework_bases(consumer))


def _wrong_arguments(consumer: type, name: str, place: Location) -> Iterator[Diagnostic]:
    if _takes_an_event(consumer, name):
        return
    subject = f"{consumer.__name__}.{name}"
    message = f"{subject} cannot be called with one event and nothing else"
    related = defined(getattr(consumer, name), subject)
    hint = f"write 'def {name}(self, event)'" if _is_sync(consumer) else f"write 'async def {name}(self, event)'"
    yield Diagnostic(place, "handler-wrong-arguments", message, hint, related=related)


def _takes_an_event(consumer: type, name: str) -> bool:
    """Whether a method of an instance can be called with one argument; in doubt, yes."""
    written = inspect.getattr_static(consumer, name)
    is_bound = isinstance(written, (staticmethod, classmethod)) or not hasattr(type(written), "__get__")
    arguments = ("event",) if is_bound else ("self", "event")
    try:
        # What a decorator returns is called, whatever it wraps.
        signature = inspect.signature(getattr(consumer, name), follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def handler_unreached(
    contract: Contract, channels: list[Channel], consumers: Mapping[str, type]
) -> Iterator[Diagnostic]:
    """Find methods that look like handlers, and that no event type calls.

    Args:
        contract: the contract.
        channels: those whose consumers are looked at.
        consumers: by dotted path, the consumer classes of these.

    """
    reached = {
        (owner, handler_name(event_type))
        for channel in contract.channels.values()
        if channel.consumer in consumers
        for owner in consumers[channel.consumer].__mro__
        for event_type in channel.events
    }
    for channel in channels:
        for owner, name in _handlers_by_owner(consumers.get(channel.consumer)):
            if (owner, name) not in reached:
                # Which is told once, whichever channels use the class.
                reached.add((owner, name))
                subject = f"{owner.__name__}.{name}"
                message = f"{subject} looks like a handler, but no event type calls it"
                near = did_you_mean(name, channel.events)
                place = contract.document.locate(("channels", channel.name, "consumer"))
                yield Diagnostic(
                    place,
                    "handler-unreached",
                    message,
                    near or "declare its event type, or begin its name with '_'",
                    Severity.WARNING,
                    defined(getattr(owner, name), subject),
                    channel.name,
                )


def _handlers_by_owner(consumer: type | None) -> Iterator[tuple[type, str]]:
    """Go through the methods of a consumer that can be nothing but handlers, each with the class that defines it."""
    if consumer is None or not _framework_bases(consumer):
        return
    own = set(consumer.__mro__) - set(_framework_bases(consumer))
    used = {name for owner in own for code in _codes(owner) for name in code.co_names}
    # Who tells the name of its private channel is sent what no contract declares.
    if "channel_name" in used:
        return
    for name in sorted(handlers_of(consumer) - used):
        owners = [owner for owner in consumer.__mro__ if name in vars(owner)]
        method = vars(owners[0])[name]
        is_right_kind = iscoroutinefunction(method) is not _is_sync(consumer)
        # What a library's class defines may be called by that library.
        is_own = all(_package(owner) == _package(consumer) for owner in owners)
        if is_own and inspect.isfunction(method) and is_right_kind and _takes_an_event(consumer, name):
            yield owners[0], name


def _package(owner: type) -> str:
    return owner.__module__.partition(".")[0]


def _codes(owner: type) -> Iterator[types.CodeType]:
    """Go through the code of a class's methods, and what is nested in it."""
    methods = [getattr(value, "__func__", value) for value in vars(owner).values()]
    functions = [inspect.unwrap(method) for method in methods if inspect.isfunction(method)]
    waiting: list[Any] = [getattr(function, "__code__", None) for function in functions]
    while waiting:
        code = waiting.pop()
        if isinstance(code, types.CodeType):
            yield code
            waiting.extend(code.co_consts)
