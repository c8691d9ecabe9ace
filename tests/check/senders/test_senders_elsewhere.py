"""Sends are checked through imports and helpers of the same tree; sends that cannot be checked are counted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from channelmap.check.senders import Senders, check_senders
from channelmap.loader import load

JOB = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"], "additionalProperties": False}
CONTRACT = """\
version: 1
layer: memory://
channels:
  jobs:
    consumer: nowhere.Consumer
    events: {job: job.json}
"""
ID = "channel 'jobs' refuses this 'job': $.id expected integer, got string"
NAMES = """\
import enum
from django.db import models
JOBS = 'jobs'
JOB = 'job'
class Channel:
    JOBS = 'jobs'
class Kind(enum.StrEnum):
    JOB = 'job'
class Choice(models.TextChoices):
    JOB = 'job', 'A job'
"""

Sent = Callable[..., Senders]


@pytest.fixture
def sent(project: Path) -> Sent:
    """Write modules, by their paths, and check their sends."""
    (project / "job.json").write_text(json.dumps(JOB))
    (project / "channels.yaml").write_text(CONTRACT)

    def find(**modules: str) -> Senders:
        for name, code in modules.items():
            path = project / "src" / f"{name.replace('_in_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
        return check_senders(load(), ["src"])

    return find


def found(senders: Senders) -> list[str]:
    return [f"{each.location} {each.message}" for each in senders.findings]


@pytest.mark.parametrize(
    ("imports", "channel", "kind"),
    [
        ("from shop.names import JOBS, JOB", "JOBS", "JOB"),
        ("from .names import JOBS as WORK, JOB", "WORK", "JOB"),
        ("from . import names", "names.JOBS", "names.JOB"),
        ("import shop.names as known", "known.JOBS", "known.JOB"),
        ("import shop.names", "shop.names.JOBS", "shop.names.JOB"),
        ("from shop import names", "names.JOBS", "names.JOB"),
        ("from .names import *", "JOBS", "JOB"),
        ("from shop.again import JOBS, JOB", "JOBS", "JOB"),
        ("from shop.again import *", "JOBS", "JOB"),
        ("from . import again", "again.names.JOBS", "again.JOB"),
        ("from .names import Channel, Kind", "Channel.JOBS", "Kind.JOB"),
        ("from shop import names", "names.Channel.JOBS", "names.Choice.JOB"),
    ],
)
@pytest.mark.parametrize("package", [{}, {"shop_in___init__": ""}])
def test_constants_of_other_modules_are_resolved(
    imports: str, channel: str, kind: str, package: dict[str, str], sent: Sent
) -> None:
    app = f"{imports}\nlayer.send_sync({channel}, {{'type': {kind}, 'id': 'one'}})\n"
    again = "from shop.names import JOBS\nfrom . import names\nfrom .names import Channel, JOB\n"

    senders = sent(**package, shop_in_names=NAMES, shop_in_again=again, shop_in_app=app)

    line, column = app.count("\n"), app.splitlines()[-1].index("'one'") + 1
    assert found(senders) == [f"src/shop/app.py:{line}:{column} {ID}"]
    assert (len(senders.judged), senders.unread) == (1, ())


@pytest.mark.parametrize(
    "names",
    [
        "JOBS = 'jobs'\nJOBS = 'others'",
        "import os\nJOBS = os.environ['JOBS']",
        "def JOBS(): 'jobs'",
        "from .names import JOBS",
        "from .elsewhere import *",
        "from .names import *",
        "__all__ = ['OTHERS']\nJOBS = 'jobs'",
    ],
)
def test_an_ambiguous_import_is_not_resolved(names: str, sent: Sent) -> None:
    app = "from .names import *\nlayer.send_sync(JOBS, {'type': 'job', 'id': 'one'})\n"

    senders = sent(shop_in___init__="", shop_in_names=names, shop_in_app=app)

    assert senders.findings == ()
    assert [reason for _, reason in senders.unread] == ["the name of the channel is not a literal or constant"]


def test_of_two_modules_with_one_name_the_nearer_one_is_used(sent: Sent) -> None:
    app = "import names\nlayer.send_sync(names.JOBS, {'type': 'job', 'id': 1})\n"

    senders = sent(
        one_in_names="JOBS = 'jobs'", two_in_names="JOBS = 'others'", one_in_app=app, two_in_app=app, app=app
    )

    assert found(senders) == ["src/two/app.py:2:17 no channel 'others' is declared"]
    assert [str(location) for location, _ in senders.unread] == ["src/app.py:2:1"]


@pytest.mark.parametrize(
    ("helper", "call"),
    [
        ("def emit(event):\n    layer.send_sync('jobs', event)", "emit({'type': 'job', 'id': 'one'})"),
        ("def emit(id):\n    layer.send_sync('jobs', {'type': 'job', 'id': id})", "emit('one')"),
        (
            'async def emit(event):\n    """Send."""\n    await layer.send("jobs", event)',
            "emit({'type': 'job', 'id': 'one'})",
        ),
        (
            "def emit(channel, *, event):\n    return layer.send('jobs', event)",
            "emit(1, event={'type': 'job', 'id': 'one'})",
        ),
        (
            "def emit(channel, event):\n    async_to_sync(get_channel_layer().send)(channel, event)",
            "emit('jobs', {'type': 'job', 'id': 'one'})",
        ),
        (
            "async def emit(e):\n    await layer.send_many('jobs', [e])",
            "async_to_sync(emit)({'type': 'job', 'id': 'one'})",
        ),
    ],
)
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_calls_of_a_helper_are_checked_as_sends(helper: str, call: str, where: str, sent: Sent) -> None:
    if where == "elsewhere":
        senders = sent(helpers=helper, app=f"from helpers import emit\n\n\n{call}\n")
    else:
        senders = sent(app=f"{helper}\n{call}\n")

    line, column = (4 if where == "elsewhere" else helper.count("\n") + 2), call.index("'one'") + 1
    assert found(senders) == [f"src/app.py:{line}:{column} {ID}"]
    assert (len(senders.judged), senders.unread) == (1, ())


def test_a_fault_inside_a_helper_is_reported_there_and_once(sent: Sent) -> None:
    helper = "def emit(id):\n    layer.send_sync('jobs', {'type': 'job', 'id': id, 'more': 1})\n"

    senders = sent(helpers=helper, app="from helpers import emit\nemit(1)\nemit(2)\n")

    assert found(senders) == ["src/helpers.py:2:55 channel 'jobs' refuses this 'job': $ does not allow 'more'"]


def test_a_fault_of_the_arguments_of_a_helper_is_reported_at_the_call(sent: Sent) -> None:
    helper = "def emit(channel):\n    layer.send_sync(channel, {'type': 'job'})\n"

    senders = sent(helpers=helper, app="from helpers import emit\nx = 1; emit('jobs')\n")

    assert found(senders) == ["src/app.py:2:8 channel 'jobs' refuses this 'job': $ requires 'id'"]


@pytest.mark.parametrize(
    "helper",
    [
        "def emit(event):\n    log(event)\n    layer.send_sync('jobs', event)",
        "def emit(*events):\n    layer.send_sync('jobs', events[0])",
        "def emit(event):\n    layer.send_sync('jobs', dict(event))",
        "@as_json\ndef emit(event):\n    layer.send_sync('jobs', event)",
    ],
)
def test_a_function_that_does_more_than_send_is_not_a_helper(helper: str, sent: Sent) -> None:
    senders = sent(app=f"{helper}\nemit({{'type': 'job', 'id': 'one'}})\n")

    assert senders.findings == ()
    assert {reason for _, reason in senders.unread} == {"the event is not a literal or constant"}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("layer.send(channel, {'type': 'job', 'id': 1})", "the name of the channel is not a literal or constant"),
        ("layer.send('jobs', event)", "the event is not a literal or constant"),
        ("layer.send_many('jobs', events)", "the event is not a literal or constant"),
        ("layer.send('jobs', {**event})", "the type of the event is not a literal or constant"),
        ("layer.send('jobs', {'type': kind, 'id': 1})", "the type of the event is not a literal or constant"),
    ],
)
def test_a_send_that_cannot_be_checked_is_listed_with_the_reason(call: str, reason: str, sent: Sent) -> None:
    senders = sent(app=f"{call}\nlayer.send('jobs', {{'type': 'job', 'id': 1}})\nsocket.send(channel, event)\n")

    assert [(str(location), why) for location, why in senders.unread] == [("src/app.py:1:1", reason)]
    assert [str(location) for location in senders.judged] == ["src/app.py:2:1"]


@pytest.mark.parametrize(
    "block",
    [
        "with pytest.raises(EventRejected):",
        "with raises((TypeError, channelmap.EventRejected), match='id') as caught:",
        "with self.assertRaises(EventRejected), other():",
        "async with pytest.raises(UnknownChannel):",
    ],
)
def test_a_send_in_a_block_that_expects_a_rejection_is_not_checked(block: str, sent: Sent) -> None:
    code = f"async def test():\n    {block}\n        layer.send_sync('jobs', {{'type': 'job'}})\n"
    code += "        layer.send_sync('nowhere', event)\n"

    assert sent(test_app=code) == Senders((), frozenset(), ())
    for name in ("EventRejected", "UnknownChannel"):
        code = code.replace(name, "KeyError")
    assert len(sent(test_app=code).findings) == 2
