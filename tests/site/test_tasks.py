"""The backend for `django.tasks`: tasks are judged when they are enqueued, and a worker runs them."""

import json
from pathlib import Path
from typing import Any

import pytest

from .projects import Project

SETTINGS = """\
try:
    import django.tasks
except ImportError:
    INSTALLED_APPS += ["django_tasks"]
TASKS = {"default": {"BACKEND": "channelmap.django.TaskBackend", "QUEUES": ["mail", "slow"]}}
"""

CHANNELS = """\
version: 1
channels:
  mail:
    consumer: channelmap.django.TaskConsumer
    delivery: at-least-once
    retry: {attempts: 3, delay: 0.01, jitter: 0}
    events:
      shop.tasks.welcome:
        schema:
          type: object
          properties: {user: {type: integer, minimum: 1}, greeting: {type: string}}
          required: [user]
          additionalProperties: false
      user.reminded: {task: shop.tasks.remind}
      shop.tasks.context_of: true
      shop.tasks.broken: true
      shop.tasks.given_up: true
      shop.tasks.flaky: true
      shop.tasks.odd_result: true
      shop.tasks.only_positional: true
  slow:
    consumer: channelmap.django.TaskConsumer
    events: {shop.tasks.slow: true}
"""

TASKS = """\
import json
from pathlib import Path

try:
    from django.tasks import task
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError:
    from django_tasks import task
    from django_tasks.signals import task_enqueued, task_finished, task_started

from channelmap import Reject
from django.dispatch import receiver

def note(*line):
    with open("notes.txt", "a") as notes:
        notes.write(json.dumps(line) + "\\n")

@receiver([task_enqueued, task_started, task_finished])
def note_signal(sender, signal, task_result, **kwargs):
    name = {task_enqueued: "enqueued", task_started: "started", task_finished: "finished"}[signal]
    errors = [error.exception_class_path for error in task_result.errors]
    note(name, sender.__name__, task_result.task.name, task_result.status.value, task_result.attempts, errors)

@task(queue_name="mail")
def welcome(user, greeting="Hello", *, loud=False):
    note("welcome", user, greeting)

@task(queue_name="mail")
async def remind(user):
    note("remind", user)

@task(queue_name="mail", takes_context=True)
def context_of(context, user):
    note("context", context.attempt, context.task_result.id != "", user)

@task(queue_name="mail")
def broken():
    raise ValueError("no")

@task(queue_name="mail")
def given_up():
    raise Reject("customer is gone")

@task(queue_name="mail", takes_context=True)
async def flaky(context):
    note("attempt", context.attempt)
    if context.attempt < 3:
        raise OSError("not yet")

@task(queue_name="mail")
def odd_result():
    return object()

@task(queue_name="mail")
def only_positional(user, /, greeting):
    note("only positional", user, greeting)

@task(queue_name="slow")
def slow(seconds):
    note("slow", seconds)
"""


@pytest.fixture
def tasks(shop: Project) -> Project:
    """The project with tasks."""
    shop.set(SETTINGS)
    shop.write({"channels.yaml": CHANNELS, "shop/tasks.py": TASKS})
    return shop


def notes(shop: Project) -> list[list[Any]]:
    path = shop.directory / "notes.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


#: What is called, and what comes of it: the event that waits, or the error.
CALLS: list[tuple[str, Any]] = [
    ("welcome.enqueue(1)", {"type": "shop.tasks.welcome", "user": 1}),
    ("welcome.enqueue(user=1)", {"type": "shop.tasks.welcome", "user": 1}),
    ("welcome.enqueue(1, 'Hi')", {"type": "shop.tasks.welcome", "user": 1, "greeting": "Hi"}),
    ("welcome.enqueue(1, greeting='Hi')", {"type": "shop.tasks.welcome", "user": 1, "greeting": "Hi"}),
    ("async_to_sync(welcome.aenqueue)(1)", {"type": "shop.tasks.welcome", "user": 1}),
    ("remind.enqueue(2)", {"type": "user.reminded", "user": 2}),
    ("only_positional.enqueue(3, greeting='Hi')", {"type": "shop.tasks.only_positional", "user": 3, "greeting": "Hi"}),
    (
        "welcome.enqueue('one')",
        "EventRejected: channel 'mail' rejected 'shop.tasks.welcome' [schema-mismatch]: $.user",
    ),
    ("welcome.enqueue(0)", "$.user expected at least 1"),
    ("welcome.enqueue(user=1, greeting=None)", "$.greeting expected string"),
    ("welcome.enqueue(1, loud=True)", "'loud'"),
    ("async_to_sync(welcome.aenqueue)('one')", "$.user expected integer"),
    ("welcome.enqueue()", "TypeError: task 'shop.tasks.welcome': missing a required argument: 'user'"),
    ("welcome.enqueue(1, usr=2)", "TypeError: task 'shop.tasks.welcome': got an unexpected keyword argument 'usr'"),
    ("welcome.enqueue(date.today())", "EventRejected"),
    ("welcome.using(priority=5).enqueue(1)", "Invalid"),
    ("welcome.using(queue_name='other').enqueue(1)", "Invalid"),
    ("welcome.using(queue_name='slow').enqueue(1)", "channel 'slow' does not declare"),
    ("welcome.get_result('1')", "NotImplementedError"),
    (
        "task(queue_name='mail')(takes_type)",
        "task 'shop.calls.takes_type' has an argument 'type'",
    ),
    (
        "task(queue_name='mail')(takes_any)",
        "task 'shop.calls.takes_any' takes *users, but",
    ),
    ("task(lambda: None)", "Invalid"),
]

RUN = """\
import json
from datetime import date
from asgiref.sync import async_to_sync
from shop.calls import *

result = []
for call in json.loads({calls!r}):
    async_to_sync(layer.purge)("mail")
    try:
        found = eval(call)
    except Exception as error:
        result.append(f"{{type(error).__name__}}: {{error}}")
    else:
        (delivery,) = async_to_sync(waiting)()
        result.append([delivery.event, delivery.id == found.id, found.status.value, found.attempts])
"""

CALLED_IN = """\
from shop.tasks import *
from channelmap import get_channel_layer

layer = get_channel_layer()

async def waiting():
    return [delivery async for delivery in layer.peek("mail")]

def takes_type(type): ...

def takes_any(*users): ...
"""


def test_right_and_wrong_calls(tasks: Project) -> None:
    tasks.write({"shop/calls.py": CALLED_IN})
    found = tasks.shell(RUN.format(calls=json.dumps([call for call, _ in CALLS])))
    for (call, expected), got in zip(CALLS, found, strict=True):
        if isinstance(expected, dict):
            assert got == [expected, True, "READY", 0], call
        else:
            assert isinstance(got, str), call
            assert expected in got, call


def work(tasks: Project, *events: dict[str, Any]) -> list[list[Any]]:
    """Send the events of tasks, run a worker until nothing waits, and return what happened in it."""
    tasks.send("mail", *events)
    before = len(notes(tasks))
    process = tasks.start("runworker", "--burst")
    assert process.wait(60) == 0, process.errors
    return notes(tasks)[before:]


def test_a_worker_runs_functions_and_coroutines_and_signals_say_so(tasks: Project) -> None:
    tasks.shell(
        "from shop.tasks import *\n"
        "result = [welcome.enqueue(1).id, remind.enqueue(2).id, only_positional.enqueue(3, 'Hi').id]"
    )
    found = work(tasks)
    assert notes(tasks)[0] == ["enqueued", "TaskBackend", "welcome", "READY", 0, []]
    assert found == [
        ["started", "TaskBackend", "welcome", "RUNNING", 1, []],
        ["welcome", 1, "Hello"],
        ["finished", "TaskBackend", "welcome", "SUCCESSFUL", 1, []],
        ["started", "TaskBackend", "remind", "RUNNING", 1, []],
        ["remind", 2],
        ["finished", "TaskBackend", "remind", "SUCCESSFUL", 1, []],
        ["started", "TaskBackend", "only_positional", "RUNNING", 1, []],
        ["only positional", 3, "Hi"],
        ["finished", "TaskBackend", "only_positional", "SUCCESSFUL", 1, []],
    ]


def test_a_context_has_the_attempt_and_the_events_id(tasks: Project) -> None:
    assert work(tasks, {"type": "shop.tasks.context_of", "user": 7})[1] == ["context", 1, True, 7]


def test_a_failure_is_retried_and_finishes_once_after_the_last_attempt(tasks: Project) -> None:
    found = work(tasks, {"type": "shop.tasks.broken"})
    assert [line[0] for line in found] == ["started", "started", "started", "finished"]
    assert found[-1] == ["finished", "TaskBackend", "broken", "FAILED", 3, ["builtins.ValueError"]]
    letters = tasks.manage("channelmap", "dead", "list", "--json")[1]
    assert "ValueError" in letters


def test_a_task_that_recovers_finishes_successfully(tasks: Project) -> None:
    found = work(tasks, {"type": "shop.tasks.flaky"})
    assert [line[1] for line in found if line[0] == "attempt"] == [1, 2, 3]
    assert found[-1] == ["finished", "TaskBackend", "flaky", "SUCCESSFUL", 3, []]


def test_a_task_may_give_its_event_up(tasks: Project) -> None:
    found = work(tasks, {"type": "shop.tasks.given_up"})
    assert [line[0] for line in found] == ["started", "finished"]
    assert found[-1][3:] == ["FAILED", 1, ["channelmap.handling.Reject"]]


def test_a_result_that_is_not_json_fails_as_with_djangos_own_backends(tasks: Project) -> None:
    assert work(tasks, {"type": "shop.tasks.odd_result"})[-1][3] == "FAILED"


def test_run_after_delays_the_event(tasks: Project) -> None:
    counts = tasks.shell(
        "from datetime import timedelta\n"
        "from asgiref.sync import async_to_sync\n"
        "from django.utils import timezone\n"
        "from channelmap import get_channel_layer\n"
        "from shop.tasks import welcome\n"
        "welcome.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1)\n"
        "found = async_to_sync(get_channel_layer().counts)(['mail'])['mail']\n"
        "result = [found.waiting, found.scheduled]"
    )
    assert counts == [0, 1]


def test_the_system_check_finds_nothing_wrong_with_right_queues_and_tasks(tasks: Project) -> None:
    assert tasks.manage("check")[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  slow:", "  slower:", "(channelmap.task-queue) TASKS['default']: queue 'slow' is not a channel"),
        ("shop.tasks.broken:", "shop.tasks.brokn:", "channelmap.handler-missing"),
        ("shop.tasks.broken:", "shop.tasks.note:", "'shop.tasks.note' is of type 'function'"),
        ("task: shop.tasks.remind", "task: shop.task.remind", "there is no module 'shop.task'"),
        (
            "channelmap.django.TaskConsumer\n    events: {shop.tasks.slow: true}",
            "shop.consumers.Orders\n    events: {paid: {task: shop.tasks.slow}}",
            "channelmap.handler-task",
        ),
        (
            "channelmap.django.TaskConsumer\n    events: {shop.tasks.slow: true}",
            "shop.consumers.Orders\n    events: {paid: true}",
            "queue 'slow' is a channel whose consumer is 'shop.consumers.Orders'",
        ),
    ],
)
def test_wrong_queues_and_tasks_are_found_by_the_system_check(tasks: Project, old: str, new: str, said: str) -> None:
    contract = Path("channels.yaml").read_text()
    assert old in contract
    tasks.write({"channels.yaml": contract.replace(old, new)})
    code, _, errors = tasks.manage("check")
    assert code == 1
    assert said in errors
