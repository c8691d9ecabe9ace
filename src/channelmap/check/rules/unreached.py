"""Find handlers that no event type calls; methods that other code may call are not reported."""

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

#: Names of the argument of a handler; a method with another argument is a helper.
_EVENT_ARGUMENTS = frozenset({"event", "message"})
#: A consumer that uses one of these may call any method: it may send itself events through its private channel, or
#: look up methods by name.
_DYNAMIC_CALLS = frozenset({"channel_name", "getattr"})
#: Prefixes of methods that servers of other protocols call.
_SERVER_PREFIXES = ("http_", "lifespan_", "websocket_")


def handler_unreached(
    contracts: Sequence[Contract], channels: list[Channel], consumers: Mapping[str, type]
) -> Iterator[Diagnostic]:
    """Find methods that look like handlers, and that no event type calls.

    Args:
        contracts: the contract to check, and others that may name the same consumers.
        channels: the channels whose consumers are checked.
        consumers: the classes of their consumers, by dotted path.

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
                # Report it once, even if several channels use the class.
                reached.add((owner, name))
                subject = f"{owner.__name__}.{name}"
                message = f"{subject} looks like a handler, but no event type calls it"
                near = did_you_mean(name, channel.events)
                location = contracts[0].document.locate(("channels", channel.name, "consumer"))
                yield Diagnostic(
                    location,
                    Code.HANDLER_UNREACHED,
                    message,
                    near or "declare its event type, or begin its name with '_'",
                    related=related_definition(getattr(owner, name), subject),
                    channel=channel.name,
                )


def _methods_by_owner(consumer: type | None) -> Iterator[tuple[type, str]]:
    """Yield the public methods that a consumer's own classes do not use, each with the class that defines it."""
    if consumer is None or not framework_bases(consumer):
        return
    own = set(consumer.__mro__) - set(framework_bases(consumer))
    used = {name for owner in own for code in _codes(owner) for name in code.co_names}
    if _DYNAMIC_CALLS & used or getattr(consumer, "groups", None):
        return
    for name in sorted(handlers_of(consumer) - used):
        owners = [owner for owner in consumer.__mro__ if name in vars(owner)]
        # A library may call the methods that its own class defines.
        is_own = all(_package(owner) == _package(consumer) for owner in owners)
        if is_own and not name.startswith(_SERVER_PREFIXES):
            yield owners[0], name


def _looks_like_handler(consumer: type, owner: type, name: str) -> bool:
    method = vars(owner)[name]
    if not inspect.isfunction(method) or iscoroutinefunction(method) is is_sync(consumer):
        return False
    # A method with a second name, or in a table, is called by other code.
    if name != method.__name__ or any(_contains(value, method) for value in vars(owner).values()):
        return False
    arguments = list(inspect.signature(method).parameters)[1:2]
    return any(word.strip("_") in _EVENT_ARGUMENTS for word in arguments) and takes_an_event(consumer, name)


def _contains(value: Any, method: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(each is method for each in values)


def _package(owner: type) -> str:
    return owner.__module__.partition(".")[0]


def _codes(owner: type) -> Iterator[types.CodeType]:
    """Yield the code objects of a class's methods, and those nested in them."""
    methods = [getattr(value, "__func__", value) for value in vars(owner).values()]
    functions = [inspect.unwrap(method) for method in methods if inspect.isfunction(method)]
    waiting: list[Any] = [getattr(function, "__code__", None) for function in functions]
    while waiting:
        code = waiting.pop()
        if isinstance(code, types.CodeType):
            yield code
            waiting.extend(code.co_consts)
