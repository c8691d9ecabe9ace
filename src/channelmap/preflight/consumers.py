"""Check that each channel has a consumer that a worker can run. This imports user code, through `imports`."""

import inspect
from typing import Any

from asgiref.sync import iscoroutinefunction

from channelmap.codes import Code
from channelmap.contract import Channel
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import quoted
from channelmap.imports import AttributeMissing, ImportProblem, ModuleBroken, import_dotted, shadowing_hint
from channelmap.preflight.code_locations import related_line


def consumer_of(channel: Channel, location: Location) -> tuple[type | None, tuple[Diagnostic, ...]]:
    """Import the consumer of a channel; return its class (None for a plain application) and its faults.

    Args:
        channel: the channel.
        location: where the contract names the consumer.

    """
    try:
        consumer = import_dotted(channel.consumer)
    except ImportProblem as problem:
        return None, (_not_imported(problem, location),)
    if not _is_application(consumer):
        return None, (_not_a_consumer(channel, consumer, location),)
    consumer = getattr(consumer, "consumer_class", consumer)
    return consumer if isinstance(consumer, type) else None, ()


def _not_imported(problem: ImportProblem, location: Location) -> Diagnostic:
    match problem:
        case AttributeMissing():
            return Diagnostic(location, Code.CONSUMER_NOT_FOUND, problem.message, problem.hint)
        case ModuleBroken():
            related = related_line(problem.location, "raised here")
            message = problem.message
            if related:
                raised = related[0].location
                message = message.replace(problem.location, f"{raised.path}:{raised.line}")
            return Diagnostic(location, Code.CONSUMER_IMPORT_FAILED, message, problem.hint, related=related)
    return Diagnostic(location, Code.CONSUMER_MODULE_MISSING, problem.message, problem.hint)


def _is_application(consumer: Any) -> bool:
    """Whether a worker can run a consumer: an ASGI application, or a class with `as_asgi`."""
    if isinstance(consumer, type):
        return hasattr(consumer, "as_asgi")
    call = inspect.getattr_static(type(consumer), "__call__", None)
    if not (iscoroutinefunction(consumer) or iscoroutinefunction(call)):
        return False
    try:
        # The result of `as_asgi` is marked as a wrapper of the class, which has another signature.
        inspect.signature(consumer, follow_wrapped=False).bind("scope", "receive", "send")
    except (TypeError, ValueError):
        return False
    return True


def _not_a_consumer(channel: Channel, consumer: Any, location: Location) -> Diagnostic:
    is_class = isinstance(consumer, type)
    kind = "a class without 'as_asgi'" if is_class else f"of type {quoted(type(consumer).__name__)}"
    message = f"{quoted(channel.consumer)} is {kind}, not a consumer"
    expected = "expected a consumer class, or an async application taking scope, receive and send"
    hint = shadowing_hint(channel.consumer) or expected
    return Diagnostic(location, Code.NOT_A_CONSUMER, message, hint)
