"""Sends in Python files are checked as far as their events are literals."""

import json
import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channelmap.check.senders import SendersMissing, check_senders
from channelmap.codes import Severity
from channelmap.contract import Contract
from channelmap.diagnostics import Diagnostic, Location
from channelmap.loader import load

JOB = {
    "type": "object",
    "properties": {
        "type": {"const": "job"},
        "id": {"type": "integer"},
        "size": {
            "type": "object",
            "properties": {"width": {"type": "integer", "minimum": 1}, "height": {"type": "integer"}},
            "required": ["width", "height"],
        },
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id"],
    "additionalProperties": False,
}
CONTRACT = """\
version: 1
layer: memory://
channels:
  jobs:
    consumer: nowhere.Consumer
    events:
      job: job.json
      any: true
  tried:
    consumer: nowhere.Consumer
    validate: warn
    events: {job: job.json}
  free:
    consumer: nowhere.Consumer
    validate: "off"
    events: {job: job.json}
"""

Find = Callable[[str], list[str]]


@pytest.fixture
def contract(project: Path) -> Contract:
    (project / "job.json").write_text(json.dumps(JOB))
    (project / "channels.yaml").write_text(CONTRACT)
    return load()


@pytest.fixture
def diagnostics(contract: Contract, project: Path) -> Callable[[str], tuple[Diagnostic, ...]]:
    """Write a module and return the findings about its sends."""

    def find(code: str) -> tuple[Diagnostic, ...]:
        (project / "app.py").write_text(textwrap.dedent(code), encoding="utf-8")
        return check_senders(contract, ["app.py"]).findings

    return find


@pytest.fixture
def found(diagnostics: Callable[[str], tuple[Diagnostic, ...]]) -> Find:
    """Return the same findings as text, without the name of the file."""
    return lambda code: [str(diagnostic).removeprefix("app.py:") for diagnostic in diagnostics(code)]


@pytest.mark.parametrize(
    "call",
    [
        "{}.send('jobs', {event})",
        "await {}.send('jobs', {event})",
        "{}.send_sync('jobs', {event})",
        "await {}.send_many('jobs', [{event}])",
        "async_to_sync({}.send)('jobs', {event})",
        "asgiref.sync.async_to_sync({}.send)('jobs', {event})",
        "await {}.send(channel='jobs', message={event})",
        "await {}.send('jobs', event={event})",
        "await {}.send_many('jobs', events=[{event}])",
        "asyncio.run({}.send('jobs', {event}))",
    ],
)
def test_every_way_to_send_is_checked(call: str, found: Find) -> None:
    module = f"async def main(): {call}".replace("{}", "layer")

    assert found(module.replace("{event}", "{'type': 'job', 'id': 1}")) == []
    (finding,) = found(module.replace("{event}", "{'type': 'job', 'id': 'one'}"))
    assert "error[sender-event-refused] channel 'jobs' refuses this 'job': $.id expected integer, got string" in finding


def test_every_finding_about_senders_has_its_message_and_location(found: Find) -> None:
    assert found("""\
        layer.send("job", {"type": "job", "id": 1})
        layer.send("jobs", {"type": "jop", "id": 1})
        layer.send("jobs", {"type": "xyz"})
        layer.send("jobs", {"id": 1})
        layer.send("jobs", {"type": 1})
        layer.send("jobs", {"type": "job"})
        layer.send("jobs", {"type": "job", "id": 1, "zzz": {}})
        layer.send("jobs", {"type": "any", "id": float, 1: 2})
        """) == [
        "1:12: error[sender-unknown-channel] no channel 'job' is declared; did you mean 'jobs'?",
        "2:29: error[sender-unknown-type] channel 'jobs' does not declare event type 'jop'; did you mean 'job'?",
        "3:29: error[sender-unknown-type] channel 'jobs' does not declare event type 'xyz'; it declares 'job', 'any'",
        "4:20: error[sender-missing-type] an event without a type is sent to 'jobs'; it declares 'job', 'any'",
        "5:29: error[sender-missing-type] an event whose type is not text is sent to 'jobs'; it declares 'job', 'any'",
        "6:20: error[sender-event-refused] channel 'jobs' refuses this 'job': $ requires 'id'",
        "7:45: error[sender-event-refused] channel 'jobs' refuses this 'job': $ does not allow 'zzz'",
        "8:20: error[sender-event-refused] channel 'jobs' refuses this 'any': $ has a key that is not text but int",
    ]


def test_a_finding_has_channel_and_type_and_the_location_of_their_declaration(
    diagnostics: Callable[[str], tuple[Diagnostic, ...]],
) -> None:
    refused, unknown = diagnostics("layer.send('jobs', {'type': 'job'})\nlayer.send('jobs', {'type': 'x'})")

    assert (refused.channel, refused.event_type) == ("jobs", "job")
    assert refused.related[0].location == Location("channels.yaml", 7, 7)
    assert (unknown.channel, unknown.event_type) == ("jobs", "x")
    assert unknown.related[0].location == Location("channels.yaml", 4, 3)


def test_columns_are_code_points_counted_from_1(found: Find) -> None:
    (finding,) = found("x = 'äöü€😀'; layer.send('jobs', {'type': 'job', 'id': 'one'})")

    assert finding.startswith("1:55: ")


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        ("{'type': 'job', 'id': x, 'extra': y}", "$ does not allow 'extra'"),
        ("{'type': 'job', 'note': x}", "$ requires 'id'"),
        ("{'type': 'job', 'id': x, 'note': 1}", "$.note expected string or null, got integer"),
        ("{'type': 'job', 'id': x, 'size': {'width': y}}", "$.size requires 'height'"),
        ("{'type': 'job', 'id': x, 'size': {'width': 0, 'height': y}}", "$.size.width expected at least 1"),
        ("{'type': 'job', 'id': {'x': y}}", "$.id expected integer, got object"),
        ("{'type': 'job', 'id': [y]}", "$.id expected integer, got array"),
        ("{**x, 'type': 'job', 'id': 'one'}", "$.id expected integer, got string"),
        ("{'type': 'job', 'id': -1.5}", "$.id expected integer, got number"),
        ("{'type': 'job', 'id': 1, 'tags': (1,)}", "$.tags[0] expected string, got integer"),
        (
            "{'type': 'job', 'id': x, 'note': b'1'}",
            "$.note expected a JSON value, got bytes; send `base64.b64encode(value).decode()`",
        ),
    ],
)
def test_the_known_parts_of_an_event_are_checked(event: str, fault: str, found: Find) -> None:
    (finding,) = found(f"layer.send('jobs', {event})")

    assert finding.endswith(f"channel 'jobs' refuses this 'job': {fault}")


@pytest.mark.parametrize(
    "event",
    [
        "{'type': 'job', 'id': x}",
        "{'type': x, 'id': 'one'}",
        "{'type': 'job', **x}",
        "{'type': 'jop', **x}",
        "{'type': 'job', 'id': 'one', **x}",
        "{'type': 'job', 'id': 'one', x: 1}",
        "{x: 'job'}",
        "{'type': 'job', 'id': 1, 'size': {'width': 1, **x}}",
        "{'type': 'job', 'id': 1, 'tags': ['a', x]}",
        "{'type': 'job', 'id': 1, 'tags': [1, *x]}",
        "{'type': 'job', 'id': f'{x}'}",
        "dict(type='job')",
        "x | {'type': 'job'}",
        "x",
        "'text'",
    ],
)
def test_unknown_values_are_not_reported(event: str, found: Find) -> None:
    assert found(f"layer.send('jobs', {event})") == []


@pytest.mark.parametrize(
    "call",
    [
        "layer.send('specific.abc!def', {'id': 1})",
        "layer.group_send('jobs', {'id': 1})",
        "layer.send(name, {'id': 1})",
        "layer.send(f'jobs', {'id': 1})",
        "layer.send(*arguments)",
        "layer.send('jobs', {'id': 1}, timeout=1)",
        "layer.send('jobs', **arguments)",
        "layer.send('jobs', text={'id': 1})",
        "send('jobs', {'id': 1})",
        "layer.send_many('jobs', {'id': 1})",
        "layer.send_many('jobs', events)",
        "layer.send_many('jobs', [*events, event])",
        "async_to_sync(layer.group_send)('jobs', {'id': 1})",
        "layer.send('free', {'id': 1})",
        "socket.send('text', {'id': 1})",
        "player.send('text', {'id': 1})",
        "post_save.send('text', {'id': 1})",
        "get_channel_layer('other').send('jobs', {'id': 1})",
        "channel_layers['other'].send('text', {'id': 1})",
    ],
)
def test_a_call_that_may_not_be_a_send_is_not_reported(call: str, found: Find) -> None:
    assert found(call) == []


@pytest.mark.parametrize(
    "code",
    [
        "layer.send('x', event)",
        "self.channel_layer.send('x', event)",
        "get_channel_layer().send('x', event)",
        "channels.layers.channel_layers['default'].send('x', event)",
        "async_to_sync(get_channel_layer().send)('x', event)",
        "wire = get_channel_layer()\nwire.send('x', event)",
    ],
)
def test_a_channel_layer_is_recognised_by_its_name(code: str, found: Find) -> None:
    (finding,) = found(code)

    assert finding.endswith("error[sender-unknown-channel] no channel 'x' is declared")


def test_names_that_are_bound_once_to_a_literal_are_resolved(found: Find) -> None:
    assert found("""\
        CHANNEL = "jobs"
        TYPE: str = "jop"
        ID = "one"

        class Sender:
            async def first(self):
                await layer.send(CHANNEL, {"type": TYPE})

            async def second(self):
                event = {"type": "job", "id": ID}
                await layer.send(CHANNEL, event)
        """) == [
        "2:13: error[sender-unknown-type] channel 'jobs' does not declare event type 'jop'; did you mean 'job'?",
        "3:6: error[sender-event-refused] channel 'jobs' refuses this 'job': $.id expected integer, got string",
    ]


@pytest.mark.parametrize(
    "code",
    [
        "event = {'type': 'job'}\nevent['id'] = 1\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\nevent.update(id=1)\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\nevent |= {'id': 1}\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\nevent = complete(event)\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\ndef f(event): layer.send('jobs', event)",
        "event = {'type': 'job'}\ndef f():\n  event = given()\n  layer.send('jobs', event)",
        "event = {'type': 'job'}\nfor event in events: layer.send('jobs', event)",
        "event = {'type': 'job'}\n[layer.send('jobs', event) for event in events]",
        "event = {'type': 'job'}\ndel event\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\nimport event\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\ndef f():\n  global event\n  event = given()\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\nfrom names import *\nlayer.send('jobs', event)",
        "event = {'type': 'job'}\nmatch given:\n  case {**event}: layer.send('jobs', event)",
        "event = {'type': 'job'}\nmatch given:\n  case event: layer.send('jobs', event)",
        "event = {'type': 'job'}\nmatch given:\n  case [*event]: layer.send('jobs', event)",
        "try: pass\nexcept E as event: layer.send('jobs', event)",
        "event = other = {'type': 'job'}\nother['id'] = 1\nlayer.send('jobs', event)",
        "size = {}\nsize['width'] = size['height'] = 1\nlayer.send('jobs', {'type': 'job', 'id': 1, 'size': size})",
        "class C:\n  event = {'type': 'job'}\n  def f(self): layer.send('jobs', event)",
        "event = {'type': event}\nlayer.send('jobs', event)",
        "event = event\nlayer.send('jobs', event)",
    ],
)
def test_a_name_that_may_have_another_value_is_not_resolved(code: str, found: Find) -> None:
    assert found(code) == []


def test_a_fault_on_a_channel_with_validate_warn_is_a_warning(
    diagnostics: Callable[[str], tuple[Diagnostic, ...]],
) -> None:
    (finding,) = diagnostics("layer.send('tried', {'type': 'job'})")

    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("code", "place"),
    [
        (b"send = 1\ny = = 2", "app.py:2:5"),
        (b"send = \xff", "app.py"),
        (b"send = 1\0", "app.py"),
        (b"# coding: rot13\nsend", "app.py"),
        (b"# coding: nonsense\nsend", "app.py"),
    ],
)
def test_a_file_that_is_not_python_is_a_warning(code: bytes, place: str, contract: Contract, project: Path) -> None:
    (project / "app.py").write_bytes(code)

    (finding,) = check_senders(contract, ["app.py"]).findings

    words = "the file is not Python that this interpreter understands; what it sends was not checked"
    assert str(finding) == f"{place}: warning[sender-unreadable] {words}"


def test_a_syntax_warning_of_the_interpreter_is_not_reported(found: Find) -> None:
    assert found(r"x = '\d'") == []


def test_other_encodings_are_read_as_python_reads_them(contract: Contract, project: Path) -> None:
    (project / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe4'; layer.send('jobs', {'type': 'job'})\n")
    (project / "marked.py").write_bytes(b"\xef\xbb\xbflayer.send('jobs', {'type': 'job'})\r\n")

    places = [str(finding.location) for finding in check_senders(contract, [project]).findings]

    assert places == ["latin.py:2:29", "marked.py:1:20"]


def test_directories_are_searched_except_for_third_party_code(contract: Contract, project: Path) -> None:
    ours = ["app/send.py", "app/migrations/0001.py", "top.py"]
    others = [".hidden/x.py", "node_modules/x.py", "lib/site-packages/x.py", "env/lib/x.py", "app/notes.txt"]
    for name in [*ours, *others]:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("layer.send('jobs', {'type': 'job'})")
    (project / "env" / "pyvenv.cfg").touch()

    found = check_senders(contract, [project, "top.py", "./top.py"]).findings

    assert [finding.location.path for finding in found] == sorted(ours)
    assert check_senders(contract, ["app/notes.txt"]).findings, "a file that is named is read, whatever its name"


def test_a_missing_path_is_an_error(contract: Contract, project: Path) -> None:
    (project / "senders.py").touch()

    with pytest.raises(
        SendersMissing, match=r"^there is no file or directory 'sender.py'; did you mean 'senders.py'\?$"
    ):
        check_senders(contract, ["sender.py"])
    with pytest.raises(SendersMissing):
        check_senders(contract, ["a\0b"])


def test_a_file_that_cannot_be_read_is_a_warning(contract: Contract, project: Path) -> None:
    (project / "link.py").symlink_to("nowhere.py")

    (finding,) = check_senders(contract, [project]).findings

    assert str(finding) == ("link.py: warning[sender-unreadable] this is not a file; what it sends was not checked")


def test_a_send_of_another_object_is_reported_only_for_a_declared_event_type(found: Find) -> None:
    for event in ("{'id': 1}", "{'type': 'order'}", "{'type': 5}"):
        assert found(f"producer.send('jobs', {event})") == []
        assert len(found(f"layer.send('jobs', {event})")) == 1
    assert len(found("producer.send('jobs', {'type': 'job'})")) == 1


def test_a_link_to_itself_is_ignored(contract: Contract, project: Path) -> None:
    (project / "self.py").symlink_to("self.py")
    (project / "up").symlink_to(".")

    (finding,) = check_senders(contract, [project]).findings

    assert str(finding) == "self.py: warning[sender-unreadable] this is not a file; what it sends was not checked"


def test_an_unreadable_directory_is_a_warning(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody, user = 65534, os.geteuid()
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        Path(name, "locked").mkdir(mode=0)
        monkeypatch.chdir(name)
        # The superuser can read every directory.
        os.seteuid(nobody if user == 0 else user)
        try:
            (finding,) = check_senders(contract, ["."]).findings
        finally:
            os.seteuid(user)
        monkeypatch.undo()

    assert str(finding) == (
        "locked: warning[sender-unreadable] the directory cannot be read; what it sends was not checked"
    )


def test_a_file_without_sends_is_not_parsed(contract: Contract, project: Path) -> None:
    (project / "old.py").write_text("print 'hello'\n")

    assert check_senders(contract, [project]).findings == ()


def test_a_long_sum_and_a_deep_event_are_checked(found: Find) -> None:
    long_sum = " + ".join(["x"] * 500)
    deep = "[" * 60 + "1" + "]" * 60

    assert found(f"y = {long_sum}\nlayer.send('jobs', {{'type': 'job', 'id': x, 'note': {deep}}})") == []


TOKENS = [b"layer.send(", b"'jobs'", b"{", b"}", b"'type'", b":", b",", b"'job'", b")", b"\n", b"**", b"*", b"x", b"=",
          b"# coding: ", b"utf-7", b"utf-16", b"\xef\xbb\xbf", b"+2AA-", b"lambda ", b"event", b"\x0c", b"\r",
          b"'\\ud800'",
          b"1e999", b"9" * 30, b"-", b"[", b"]", b"(" * 120, b"-" * 3000, b".x" * 3000]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join))
def test_no_content_of_a_file_raises(contract: Contract, project: Path, code: bytes) -> None:
    (project / "app.py").write_bytes(code)

    for finding in check_senders(contract, ["app.py"]).findings:
        str(finding).encode()
