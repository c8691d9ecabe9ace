"""`channelmap send`, `dead`, `schema`, `init` and `check`, as real processes."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer, load

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    capacity: 1000
    events:
      job: {schema: {type: object, properties: {id: {type: integer}}, required: [id]}}
      fail: true
"""

WORK = """\
from channelmap import SyncConsumer

class Jobs(SyncConsumer):
    def job(self, event):
        print("handled", event["id"], flush=True)

    def fail(self, event):
        raise ValueError("boom")
"""


@pytest.fixture
def served(project: Path) -> Path:
    (project / "channels.yaml").write_text(CHANNELS)
    (project / "work.py").write_text(WORK)
    return project


Run = Callable[..., Any]


def ends(process: Any) -> tuple[int, str, str]:
    assert "Traceback" not in process.errors
    return process.popen.returncode, process.output, process.errors


def test_one_event_is_sent_and_served(served: Path, run: Run) -> None:
    assert ends(run("send", "jobs", '{"type": "job", "id": 1}')) == (0, "", "sent 1 of 1 events to 'jobs'\n")
    assert run("runworker", "--burst").output == "handled 1\n"


def test_the_events_of_a_file_are_sent_in_its_order(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text("".join(f'{{"type": "job", "id": {n}}}\n' for n in range(600)))

    assert ends(run("send", "jobs", "events.jsonl"))[0] == 0

    assert run("runworker", "--burst").lines == [f"handled {n}\n" for n in range(600)]


def test_when_one_event_of_a_file_is_refused_none_is_sent(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text(
        '{"type": "job", "id": 1}\n\n{"type": "job", "id": "one"}\n{"type": "jb"}\n[]\nnot json\n'
    )

    code, output, errors = ends(run("send", "jobs", "events.jsonl"))

    assert code == 1
    assert [line.partition(": ")[0] for line in output.splitlines()] == [
        "events.jsonl:3", "events.jsonl:4", "events.jsonl:5", "events.jsonl:6",
    ]  # fmt: skip
    assert "did you mean 'job'?" in output
    assert errors == "nothing was sent: 4 refused\n"
    assert run("runworker", "--burst").output == ""


def test_the_good_events_of_a_file_can_be_sent_all_the_same(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text('{"type": "job", "id": 1}\n{"type": "job"}\n{"type": "job", "id": 2}\n')

    code, _, errors = ends(run("send", "jobs", "events.jsonl", "--skip-refused"))

    assert (code, errors) == (1, "sent 2 of 3 events to 'jobs'\n")
    assert run("runworker", "--burst").output == "handled 1\nhandled 2\n"


def test_a_full_channel_says_what_was_not_sent(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text('{"type": "job", "id": 1}\n' * 1_100)

    code, _, errors = ends(run("send", "jobs", "events.jsonl"))

    assert code == 1
    assert "channel 'jobs' is full (1000 events waiting); event 769 and those after it were not sent" in errors
    assert "sent 768 of 1100 events" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["jobs", "nowhere.jsonl"], 2, "cannot read 'nowhere.jsonl': No such file or directory"),
        (["job", "{}"], 2, "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"),
        (["jobs", "{}"], 1, "rejected an event without a type [missing-type]"),
        (["jobs", "{nonsense"], 1, "event: not JSON"),
        (["jobs"], 2, "Missing argument"),
        (["jobs", "{}", "--config", "x.yaml"], 2, "x.yaml: error[file-missing]"),
        (["jobs", '{"type": "fail", "n": 123456789012345678901234567890}'], 1, "[unsupported-value]"),
    ],
)
def test_what_cannot_be_sent_gets_a_sentence(
    served: Path, run: Run, arguments: list[str], code: int, message: str
) -> None:
    exit_code, output, errors = ends(run("send", *arguments))

    assert message in output + errors
    assert exit_code == code


def put(project: Path, event: dict[str, Any]) -> None:
    """Send as a plain Channels sender would: without the contract."""
    get_channel_layer(project / "channels.yaml").layer.send_sync("jobs", event)


def test_dead_letters_are_listed_shown_replayed_and_dropped(served: Path, run: Run) -> None:
    put(served, {"type": "job", "id": "one"})
    put(served, {"type": "fail", "blob": b"\x00"})
    put(served, {"type": "jb"})
    run("runworker", "--burst")

    listed = [line.split("\t") for line in run("dead", "list").lines]
    ids = [fields[0] for fields in listed]
    assert [(fields[2], fields[3], fields[4]) for fields in listed] == [
        ("jobs", "invalid", "job"), ("jobs", "failed", "fail"), ("jobs", "unroutable", "jb"),
    ]  # fmt: skip
    assert listed[1][5] == "ValueError: boom\n"

    shown = json.loads(run("dead", "show", ids[1]).output)
    assert (shown["event"], shown["code"]) == ({"type": "fail", "blob": "AA=="}, "failed")
    assert shown["traceback"].startswith("Traceback")

    code, output, errors = ends(run("dead", "replay", "--all"))
    assert code == 1
    assert [line.split(":")[0] for line in output.splitlines()] == [ids[0], ids[2]]
    assert errors == "replayed 1 of 3 dead letters\n"

    (served / "channels.yaml").write_text(CHANNELS.replace("integer", "string"))
    assert ends(run("dead", "replay", ids[0]))[0] == 0
    assert run("runworker", "--burst").output == "handled one\n"

    assert ends(run("dead", "drop", ids[2]))[0] == 0
    assert [line.split("\t")[4] for line in run("dead", "list").lines] == ["fail"]
    assert ends(run("dead", "drop", "--all"))[0] == 0
    assert run("dead", "list").output == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "99"], "there is no dead letter 99"),
        (["replay"], "name the dead letters by their ids, or say --all"),
        (["drop", "1", "--all"], "name the dead letters by their ids, or say --all"),
        (["list", "--channel", "nope"], "no channel 'nope'"),
    ],
)
def test_dead_letters_that_are_not_there_are_a_wrong_usage(
    served: Path, run: Run, arguments: list[str], message: str
) -> None:
    code, output, errors = ends(run("dead", *arguments))

    assert message in output + errors
    assert code == 2


def test_a_file_that_is_no_database_is_said_in_a_sentence(served: Path, run: Run) -> None:
    (served / "channels.db").write_text("I am not a database, and long enough to be taken for none at all.\n" * 40)

    code, output, errors = ends(run("dead", "list"))

    assert code == 2
    assert "channels.db" in output + errors


def test_check_is_content_with_a_good_contract(served: Path, run: Run) -> None:
    assert ends(run("check")) == (0, "", "channels.yaml: 1 channels, 2 event types, 0 errors, 0 warnings\n")


def test_check_finds_every_mistake_in_one_go(served: Path, run: Run) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("fail: true", "fall: {schema: {type: object}}"))

    code, output, _ = ends(run("check"))

    assert code == 1
    assert output.startswith("channels.yaml:9:7: error[handler-missing]")
    assert "'fall'" in output


def test_schema_prints_the_json_schema_of_channels_yaml(served: Path, run: Run) -> None:
    code, output, _ = ends(run("schema"))

    assert code == 0
    assert json.loads(output)["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_what_init_writes_works_at_once(project: Path, run: Run) -> None:
    assert ends(run("init"))[0] == 0

    load(project / "channels.yaml")
    assert ends(run("check"))[0] == 0
    assert ends(run("send", "greetings", '{"type": "greet", "name": "Ada"}'))[0] == 0
    assert run("runworker", "--burst").output == "Hello, Ada!\n"


def test_init_overwrites_nothing(project: Path, run: Run) -> None:
    (project / "channels.yaml").write_text("mine")

    code, output, errors = ends(run("init"))

    assert (code, output) == (2, "")
    assert "channels.yaml exists already; nothing was written" in errors
    assert [path.name for path in project.iterdir()] == ["channels.yaml"]


def test_the_database_is_an_ordinary_sqlite_file(served: Path, run: Run) -> None:
    run("send", "jobs", '{"type": "job", "id": 1}')

    database = sqlite3.connect(served / "channels.db")
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
