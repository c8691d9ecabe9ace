"""Whether each handler has an event type that calls it: what may be called otherwise is not complained about."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asgiref.sync import iscoroutinefunction

from channelmap.codes import Code
from channelmap.consumers import handler_name, handlers_of
from channelmap.contract import Channel, Contract
from channelmap.diagnostics import Diagnostic
from channelmap.errors import did_you_mean
from channelmap.preflight.code_locations import related_definition
from channelmap.preflight.handlers import framework_bases, is_sync, takes_an_event

#: What the argument of a handler is called; a method that takes something else is a helper.
_ARGUMENTS = frozenset({"event", "message"})
#: A consumer that tells the name of its private channel receives undeclared events; one that uses `getattr` may call
#: any method.
_UNTOLD = frozenset({"channel_name", "getattr"})
#: Servers of these protocols call such methods, where a consumer stands behind one of them, too.
_OF_SERVERS = ("http_", "lifespan_", "websocket_")


def handler_unreached(
    contracts: Sequence[Contract], channels: list[Channel], consumers: Mapping[str, type]
) -> Iterator[Diagnostic]:
    """Find methods that look like handlers, and that no event type calls.

    Args:
        contracts: the one that is checked, and others that may name the same consumers.
        channels: those whose consumers are looked at.
        consumers: by dotted path, the consumer classes of these.

    """
    reached = {
        (owner, handler_name(event_type))
        for contract in contracts
        for channel in contract.channels.values()
        if channel.consumer in consumers
        for owner in consumers[channel.consumer].__mro__
        for event_type in channel.events
    }
    for channel in channels:
        consumer = consumers.get(channel.consumer)
        for owner, name in _methods_by_owner(consumer):
            if (owner, name) not in reached and consumer is not None and _looks_like_handler(consumer, owner, name):
                # Which is told once, whichever channels use the class.
                reached.add((owner, name))
                subject = f"{owner.__name__}.{name}"
                message = f"{subject} looks like a handler, but no event type calls it"
                near = did_you_mean(name, channel.events)
                place = contracts[0].document.locate(("channels", channel.name, "consumer"))
                yield Diagnostic(
                    place,
                    Code.HANDLER_UNREACHED,
                    message,
                    near or "declare its event type, or begin its name with '_'",
                    related=related_definition(getattr(owner, name), subject),
                    channel=channel.name,
                )


def _methods_by_owner(consumer: type | None) -> Iterator[tuple[type, str]]:
    """Go through the public methods that a consumer's own classes do not use, each with the class that defines it."""
    if consumer is None or not framework_bases(consumer):
        return
    own = set(consumer.__mro__) - set(framework_bases(consumer))
    used = {name for owner in own for code in _codes(owner) for name in code.co_names}
    if _UNTOLD & used or getattr(consumer, "groups", None):
        return
    for name in sorted(handlers_of(consumer) - used):
        owners = [owner for owner in consumer.__mro__ if name in vars(owner)]
        # What a library's class defines may be called by that library.
        is_own = all(_package(owner) == _package(consumer) for owner in owners)
        if is_own and not name.startswith(_OF_SERVERS):
            yield owners[0], name


def _looks_like_handler(consumer: type, owner: type, name: str) -> bool:
    method = vars(owner)[name]
    if not inspect.isfunction(method) or iscoroutinefunction(method) is is_sync(consumer):
        return False
    # One that has another name too is called by that, or lies in a table.
    if name != method.__name__ or any(_holds(value, method) for value in vars(owner).values()):
        return False
    arguments = list(inspect.signature(method).parameters)[1:2]
    return any(word.strip("_") in _ARGUMENTS for word in arguments) and takes_an_event(consumer, name)


def _holds(value: Any, method: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(each is method for each in values)


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
