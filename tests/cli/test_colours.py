"""Colours and other escape codes: only on terminals, and not if $NO_COLOR or $TERM disables them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminals import environment, on_a_terminal

ESCAPE = "\x1b"

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    events: {job: {schema: {type: object, required: [id]}}, fail: true}
"""
WORK = """\
from channelmap import SyncConsumer

class Jobs(SyncConsumer):
    def job(self, event):
        print("handled", flush=True)

    def fail(self, event):
        raise ValueError("boom")
"""

#: Command lines that print something, with their exit codes; later ones depend on earlier ones.
OUTPUTS = [
    (["--version"], 0),
    (["--help"], 0),
    (["chek"], 2),
    (["explain", "handler-missing"], 0),
    (["check"], 0),
    (["check", "wrong.yaml"], 1),
    (["check", "--senders", "sender.py", "--verbose"], 1),
    (["send", "jobs", "events.jsonl"], 0),
    (["send", "jobs", '{"type": "job"}'], 1),
    (["send", "jobs", '{"type": "fail"}'], 0),
    (["runworker", "--burst"], 0),
    (["runworker", "--burst", "--log-format", "json", "--log-level", "debug"], 0),
    (["runworker", "nope"], 2),
    (["dead", "list"], 0),
    (["dead", "show", "1"], 0),
    (["dead", "replay", "--all"], 0),
    (["dead", "drop", "1"], 2),
    (["lock", "1.0"], 0),
    (["init", "new"], 0),
]  # fmt: skip


@pytest.fixture
def served(project: Path) -> Path:
    (project / "channels.yaml").write_text(CHANNELS)
    (project / "wrong.yaml").write_text(CHANNELS + "    consumr: work.Jobs\n")
    (project / "work.py").write_text(WORK)
    (project / "sender.py").write_text(
        'from channelmap import get_channel_layer\nget_channel_layer().send_sync("jobs", {"type": "jb"})\n'
    )
    (project / "events.jsonl").write_text('{"type": "job", "id": 1}\n' * 300)
    return project


@pytest.mark.parametrize(
    "variables",
    [{"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"TERM": "dumb"}],
    ids=["NO_COLOR", "dumb"],
)
def test_no_command_writes_an_escape_code_to_a_terminal_without_colours(
    served: Path, variables: dict[str, str]
) -> None:
    for arguments, code in OUTPUTS:
        shown = on_a_terminal(*arguments, code=code, **variables)

        assert shown, arguments
        assert ESCAPE not in shown, arguments


COLOURED = [(["check", "wrong.yaml"], 1), (["explain", "handler-missing"], 0), (["send", "jobs", "events.jsonl"], 0)]


def test_a_terminal_gets_colours_unless_they_are_switched_off(served: Path) -> None:
    for arguments, code in COLOURED:
        assert ESCAPE in on_a_terminal(*arguments, code=code), arguments


def test_an_empty_force_color_means_no_colours(served: Path) -> None:
    for arguments, code in COLOURED:
        assert ESCAPE not in on_a_terminal(*arguments, code=code, FORCE_COLOR=""), arguments


def through_a_pipe(*arguments: str, **variables: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "channelmap", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**variables), check=False)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "TERM": "dumb"}, False)],
)
def test_a_pipe_gets_colours_if_they_are_forced(
    served: Path,
    variables: dict[str, str],
    coloured: bool,  # noqa: FBT001
) -> None:
    for arguments in (["check", "wrong.yaml", "--output", "full"], ["explain", "handler-missing"]):
        assert (ESCAPE in through_a_pipe(*arguments, **variables)[0]) is coloured, arguments


def test_a_progress_bar_is_only_shown_on_terminals(served: Path) -> None:
    assert through_a_pipe("send", "jobs", "events.jsonl", FORCE_COLOR="1") == ("", "sent 300 of 300 events to 'jobs'\n")
