"""A backend for `django.tasks`: a queue is a channel, a task an event type, and its arguments are the properties.

So the contract judges `enqueue()`, and a worker of channelmap runs the tasks:

    TASKS = {"default": {"BACKEND": "channelmap.django.TaskBackend", "QUEUES": ["mail"]}}

    channels:
      mail:
        consumer: channelmap.django.TaskConsumer
        events:
          shop.tasks.welcome: {schema: {properties: {user: {type: integer}}}}

An event type is the dotted path of its task; `task:` names the task of an event type with another name.
"""

import inspect
import os
import platform
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from channelmap.asgi import Event
from channelmap.consumers import AsyncConsumer
from channelmap.contract import Contract
from channelmap.django.settings import contract_path
from channelmap.django.tasks_api import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
    task_finished,
    task_started,
)
from channelmap.errors import ContractError, quoted
from channelmap.handling import Reject, current_delivery
from channelmap.imports import ImportProblem, import_dotted
from channelmap.layer import current_layer
from channelmap.loader import load
from channelmap.sending import ContractLayer, get_channel_layer

#: Keys of an event that are not properties of its task.
_RESERVED = frozenset({"type", "__asgi_channel__", "__trace__"})
_CONSUMER = "channelmap.django.TaskConsumer"


class TaskBackend(BaseTaskBackend):
    """Sends tasks as events. It keeps no results and has no priorities; `run_after` delays the event.

    `enqueue` raises `EventRejected` for arguments that the contract rejects, `UnknownChannel` for a queue that it does
    not declare, and what else `send` raises.
    """

    supports_defer = True
    supports_async_task = True

    def validate_task(self, task: Any) -> None:
        """Raise InvalidTask for a task whose arguments cannot be the properties of an event."""
        super().validate_task(task)
        name = quoted(f"{task.func.__module__}.{task.func.__qualname__}")
        for parameter in inspect.signature(task.func).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise InvalidTask(
                    f"task {name} takes *{parameter.name}, but the properties of an event have names; "
                    f"take a list: {parameter.name}"
                )
            if parameter.name in _RESERVED:
                raise InvalidTask(
                    f"task {name} has an argument {quoted(parameter.name)}, which names the type of the event; "
                    "rename it, for example to 'kind'"
                )

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Judge the arguments, send the event, and return the result, whose id is that of the event."""
        layer = get_channel_layer()
        event = self._event(layer.contract, task, args, kwargs)
        event_id = layer.send_sync(task.queue_name, event, at=_aware(task.run_after))
        result = self._result(task, event_id, args, kwargs)
        task_enqueued.send(type(self), task_result=result)
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Do the same in an event loop."""
        layer = get_channel_layer()
        event = self._event(layer.contract, task, args, kwargs)
        event_id = await layer.send(task.queue_name, event, at=_aware(task.run_after))
        result = self._result(task, event_id, args, kwargs)
        await task_enqueued.asend(type(self), task_result=result)
        return result

    def _event(self, contract: Contract, task: Any, args: Any, kwargs: Any) -> Event:
        self.validate_task(task)
        return {"type": _event_type_of(contract, task), **_properties(task, args, kwargs)}

    def _result(self, task: Any, event_id: str | None, args: Any, kwargs: Any) -> Any:
        return TaskResult(
            task=task, id=event_id or "", status=TaskResultStatus.READY, enqueued_at=timezone.now(), started_at=None,
            last_attempted_at=None, finished_at=None, args=list(args), kwargs=dict(kwargs), backend=self.alias,
            errors=[], worker_ids=[],
        )  # fmt: skip

    def check(self, **_: Any) -> Iterator[CheckMessage]:
        """Yield an error for each queue that is not a channel of tasks."""
        try:
            contract = load(contract_path())
        except (ImproperlyConfigured, ContractError):
            return  # the app's own check says it
        for queue in sorted(self.queues):
            channel = contract.channels.get(queue)
            subject = f"TASKS['{self.alias}']: queue {quoted(queue)}"
            if channel is None:
                hint = f"declare the channel with 'consumer: {_CONSUMER}', or remove the queue"
                yield Error(f"{subject} is not a channel of {contract.path}", hint=hint, id="channelmap.task-queue")
            elif not _is_for_tasks(channel.consumer):
                message = f"{subject} is a channel whose consumer is {quoted(channel.consumer)}"
                location = contract.document.locate(("channels", queue, "consumer"))
                yield Error(message, hint=f"write 'consumer: {_CONSUMER}'", obj=location, id="channelmap.task-queue")


class TaskConsumer(AsyncConsumer):
    """Runs the task of each event: a coroutine in the event loop, another function in a thread.

    The worker decides what follows a failure, as for every consumer. `task_finished` is sent once, after the last
    attempt.
    """

    async def dispatch(self, event: Event) -> None:
        """Run the task that the event's type names."""
        task = self._task(event["type"])
        args, kwargs = _arguments(task, event)
        result = _running(task, args, kwargs)
        backend = type(task.get_backend())
        await task_started.asend(sender=backend, task_result=result)
        context = (TaskContext(task_result=result),) if task.takes_context else ()
        try:
            normalize_json(await task.acall(*context, *args, **kwargs))
        except BaseException as error:
            if self._is_last_attempt(error):
                kind = type(error)
                result.errors.append(
                    TaskError(
                        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
                        traceback="".join(traceback.format_exception(error)),
                    )
                )
                await self._finish(backend, result, TaskResultStatus.FAILED)
            raise
        await self._finish(backend, result, TaskResultStatus.SUCCESSFUL)

    @classmethod
    def task_problem(cls, path: str) -> tuple[str, str] | None:
        """Return why there is no task at a dotted path, and a hint; `None` if there is one."""
        try:
            task_at(path)
        except ImportProblem as error:
            return error.message, error.hint
        except TypeError as error:
            return str(error), "decorate the function with @task"
        return None

    @staticmethod
    async def _finish(backend: Any, result: Any, status: Any) -> None:
        # A result is frozen; Django's own backends change it like this.
        object.__setattr__(result, "finished_at", timezone.now())
        object.__setattr__(result, "status", status)
        # In the `except` block of a failure: Django's logger reads the exception.
        await task_finished.asend(sender=backend, task_result=result)

    def _task(self, event_type: str) -> Any:
        contract = _contract()
        declared = contract.channels[self.scope["channel"]].events.get(event_type) if contract else None
        return task_at(declared.task if declared is not None and declared.task else event_type)

    def _is_last_attempt(self, error: BaseException) -> bool:
        contract, delivery = _contract(), current_delivery()
        policy = contract.channels[self.scope["channel"]].service.retry if contract else None
        if policy is None or delivery is None or isinstance(error, Reject):
            return True
        return delivery.attempt >= policy.attempts


def task_at(path: str) -> Any:
    """Import a task by its dotted path.

    Raises:
        ImportProblem: it cannot be imported.
        TypeError: it is not a task.

    """
    found = import_dotted(path)
    if not isinstance(found, Task):
        raise TypeError(f"{quoted(path)} is of type {quoted(type(found).__name__)}")
    return found


def _contract() -> Contract | None:
    """Return the contract of the worker that runs this code."""
    layer = current_layer.get()
    return layer.contract if isinstance(layer, ContractLayer) else None


def _event_type_of(contract: Contract, task: Any) -> str:
    """Return the event type of a task: one whose `task:` is its path, else the path itself."""
    channel = contract.channel(task.queue_name)
    path: str = task.module_path
    return next((event_type.name for event_type in channel.events.values() if event_type.task == path), path)


def _properties(task: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    """Return the arguments by name; raise TypeError if the function cannot be called with them."""
    signature = inspect.signature(task.func)
    context = (None,) if task.takes_context else ()
    try:
        bound = signature.bind(*context, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"task {quoted(task.module_path)}: {error}") from None
    properties = dict(bound.arguments)
    if context:
        del properties[next(iter(signature.parameters))]
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            properties |= properties.pop(parameter.name, {})
    for name in properties.keys() & _RESERVED:
        raise TypeError(f"task {quoted(task.module_path)}: an argument cannot be named {quoted(name)}")
    return properties


def _arguments(task: Any, event: Event) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments from the properties of an event."""
    kwargs = {name: value for name, value in event.items() if name not in _RESERVED}
    args = [
        kwargs.pop(name)
        for name, parameter in inspect.signature(task.func).parameters.items()
        if parameter.kind is parameter.POSITIONAL_ONLY and name in kwargs
    ]
    return args, kwargs


def _running(task: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Return the result of a task that starts now."""
    delivery, now = current_delivery(), timezone.now()
    attempt = 1 if delivery is None else delivery.attempt
    return TaskResult(
        task=task, id="" if delivery is None else delivery.id, status=TaskResultStatus.RUNNING,
        enqueued_at=None if delivery is None else datetime.fromtimestamp(delivery.sent, UTC), started_at=now,
        last_attempted_at=now, finished_at=None, args=args, kwargs=kwargs, backend=task.backend, errors=[],
        # One for each attempt, because `attempts` is their number.
        worker_ids=[_worker_id()] * attempt,
    )  # fmt: skip


@cache
def _worker_id() -> str:
    return f"{platform.node()[:50]}:{os.getpid()}"


def _aware(time: datetime | None) -> datetime | None:
    """Return a time with a zone; without USE_TZ, Django's times are local."""
    return time.astimezone() if time is not None and time.tzinfo is None else time


def _is_for_tasks(path: str) -> bool:
    try:
        found = import_dotted(path)
    except ImportProblem:
        return True  # the app's own check says it
    return isinstance(found, type) and issubclass(found, TaskConsumer)
