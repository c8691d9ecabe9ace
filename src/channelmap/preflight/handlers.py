"""Check that each event type has a handler that can be called with one event."""

import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction

from channelmap.codes import Code
from channelmap.consumers import handler_name, handlers_of, is_generator
from channelmap.contract import EventType
from channelmap.diagnostics import Diagnostic, Location
from channelmap.errors import did_you_mean, quoted
from channelmap.preflight.code_locations import related_definition

_BaseClasses = tuple[type, ...]


def handler_faults(consumer: type, event_type: EventType, location: Location) -> Iterator[Diagnostic]:
    """Yield the faults of the handler of an event type, which the contract declares at `location`.

    A consumer that is not derived from a class of channelmap or Channels is not checked: how it finds its handlers is
    unknown. A consumer that runs tasks says itself why it cannot run one, by a class method `task_problem`.
    """
    name = handler_name(event_type.name)
    bases = framework_bases(consumer)
    if not bases:
        return
    if task_problem := getattr(consumer, "task_problem", None):
        if problem := task_problem(event_type.task or event_type.name):
            yield _no_task(event_type, problem, location)
    elif event_type.task:
        yield _task_without_consumer(consumer, event_type, location)
    elif any(hasattr(base, name) for base in bases):
        yield _reserved(event_type, name, location)
    elif name not in handlers_of(consumer):
        yield _missing(consumer, event_type, name, location)
    else:
        kind = _generator if is_generator(getattr(consumer, name)) else _wrong_kind
        for rule in (kind, _wrong_arguments):
            yield from rule(consumer, name, location)


def framework_bases(consumer: type) -> _BaseClasses:
    """Return the base classes of a consumer that belong to channelmap or Channels."""
    return tuple(
        base
        for base in consumer.__mro__
        if base.__module__ == "channelmap.consumers" or base.__module__.partition(".")[0] == "channels"
    )


def _reserved(event_type: EventType, name: str, location: Location) -> Diagnostic:
    message = f"event type {quoted(event_type.name)} would call {quoted(name)}, which every consumer has"
    return Diagnostic(location, Code.HANDLER_RESERVED, message, "give the event type another name")


def _no_task(event_type: EventType, problem: tuple[str, str], location: Location) -> Diagnostic:
    why, hint = problem
    message = f"there is no task for event type {quoted(event_type.name)}: {why}"
    return Diagnostic(location, Code.HANDLER_MISSING, message, hint)


def _task_without_consumer(consumer: type, event_type: EventType, location: Location) -> Diagnostic:
    message = f"event type {quoted(event_type.name)} names a task, but {consumer.__name__} runs no tasks"
    hint = "remove 'task', or write 'consumer: channelmap.django.TaskConsumer'"
    return Diagnostic(location, Code.HANDLER_TASK, message, hint)


def _missing(consumer: type, event_type: EventType, name: str, location: Location) -> Diagnostic:
    message = f"{consumer.__name__} has no method {quoted(name)} for event type {quoted(event_type.name)}"
    hint = did_you_mean(name, handlers_of(consumer))
    return Diagnostic(
        location, Code.HANDLER_MISSING, message, hint, related=related_definition(consumer, consumer.__name__)
    )


def _generator(consumer: type, name: str, location: Location) -> Iterator[Diagnostic]:
    subject = f"{consumer.__name__}.{name}"
    message = f"{subject} is a generator: calling it runs none of it"
    hint = "remove 'yield', or collect its values in another method"
    yield Diagnostic(
        location, Code.HANDLER_GENERATOR, message, hint, related=related_definition(getattr(consumer, name), subject)
    )


def _wrong_kind(consumer: type, name: str, location: Location) -> Iterator[Diagnostic]:
    handler = getattr(consumer, name)
    subject = f"{consumer.__name__}.{name}"
    if is_sync(consumer):
        if iscoroutinefunction(handler):
            message = f"{subject} is async, but {consumer.__name__} is a SyncConsumer"
            hint = "write 'def', or derive from AsyncConsumer"
            yield Diagnostic(
                location, Code.HANDLER_NOT_SYNC, message, hint, related=related_definition(handler, subject)
            )
    elif not _may_be_async(inspect.getattr_static(consumer, name), handler):
        message = f"{subject} is not async, but {consumer.__name__} is an AsyncConsumer"
        hint = "write 'async def', or derive from SyncConsumer"
        yield Diagnostic(location, Code.HANDLER_NOT_ASYNC, message, hint, related=related_definition(handler, subject))


def _may_be_async(written: Any, handler: Any) -> bool:
    """Whether calling a handler may return a coroutine.

    A plain function counts if it wraps an async function, for example as the result of a decorator.
    """
    if isinstance(written, functools.partialmethod):
        return _may_be_async(written.func, written.func)
    inner = inspect.unwrap(handler)
    held = [cell.cell_contents for cell in getattr(inner, "__closure__", None) or () if cell != types.CellType()]
    return any(map(iscoroutinefunction, (handler, type(handler).__call__, inner, *held)))


def is_sync(consumer: type) -> bool:
    """Whether a consumer's handlers are plain functions."""
    return any(base.__name__ == "SyncConsumer" for base in framework_bases(consumer))


def _wrong_arguments(consumer: type, name: str, location: Location) -> Iterator[Diagnostic]:
    if takes_an_event(consumer, name):
        return
    subject = f"{consumer.__name__}.{name}"
    message = f"{subject} cannot be called with one event and nothing else"
    related = related_definition(getattr(consumer, name), subject)
    hint = f"write 'def {name}(self, event)'" if is_sync(consumer) else f"write 'async def {name}(self, event)'"
    yield Diagnostic(location, Code.HANDLER_WRONG_ARGUMENTS, message, hint, related=related)


def takes_an_event(consumer: type, name: str) -> bool:
    """Whether a method of an instance can be called with one argument; true if that cannot be determined."""
    written = inspect.getattr_static(consumer, name)
    if isinstance(written, functools.partial):
        # It depends on the version of Python whether it gets `self`.
        return True
    is_bound = isinstance(written, (staticmethod, classmethod)) or not hasattr(type(written), "__get__")
    arguments = ("event",) if is_bound else ("self", "event")
    try:
        # The signature of the decorated function counts, not that of the function inside.
        signature = inspect.signature(getattr(consumer, name), follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
