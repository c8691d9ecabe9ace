"""Whether each channel has a consumer that a worker can run. User code is imported here, through `imports`."""

import inspect
from typing import Any

from asgiref.sync import iscoroutinefunction

from channelmap.codes import Code
from channelmap.contract import Channel
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import quoted
from channelmap.imports import AttributeMissing, ImportProblem, ModuleBroken, hidden_by, import_dotted
from channelmap.preflight.code_locations import file_and_line


def consumer_of(channel: Channel, place: Location) -> tuple[type | None, tuple[Diagnostic, ...]]:
    """Import the consumer of a channel; return its class where it is of one, and what is wrong with it.

    Args:
        channel: the channel.
        place: where its consumer is named.

    """
    try:
        consumer = import_dotted(channel.consumer)
    except ImportProblem as problem:
        return None, (_not_imported(problem, place),)
    if not _is_application(consumer):
        return None, (_not_a_consumer(channel, consumer, place),)
    consumer = getattr(consumer, "consumer_class", consumer)
    return consumer if isinstance(consumer, type) else None, ()


def _not_imported(problem: ImportProblem, place: Location) -> Diagnostic:
    match problem:
        case AttributeMissing():
            return Diagnostic(place, Code.CONSUMER_NOT_FOUND, problem.message, problem.hint)
        case ModuleBroken():
            related = file_and_line(problem.place, "raised here")
            message = problem.message
            if related:
                raised = related[0].location
                message = message.replace(problem.place, f"{raised.path}:{raised.line}")
            return Diagnostic(place, Code.CONSUMER_IMPORT_FAILED, message, problem.hint, related=related)
    return Diagnostic(place, Code.CONSUMER_MODULE_MISSING, problem.message, problem.hint)


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
    expected = "expected a consumer class, or an async application taking scope, receive and send"
    hint = hidden_by(channel.consumer) or expected
    return Diagnostic(place, Code.NOT_A_CONSUMER, message, hint)
