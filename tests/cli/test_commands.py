"""`channelmap send`, `dead`, `schema`, `init` and `check`, as real processes."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # msgpack ships no types
import pytest

from channelmap import get_channel_layer, load
from channelmap.cli import channelmap
from channelmap.cli.dead import line, summary
from channelmap.cli.exits import Exit
from channelmap.cli.exits import run as cli_run
from channelmap.cli.stored_values import as_json
from channelmap.layer import DeadLetter, Delivery
from channelmap.validation import Validator
from tests.cli.commands import Run, result, write_site

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
    write_site(project, CHANNELS, WORK)
    return project


def test_one_event_is_sent_and_served(served: Path, run: Run) -> None:
    assert result(run("send", "jobs", '{"type": "job", "id": 1}')) == (0, "", "sent 1 of 1 events to 'jobs'\n")
    assert run("runworker", "--burst").output == "handled 1\n"


def test_the_events_of_a_file_are_sent_in_order(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text("".join(f'{{"type": "job", "id": {n}}}\n' for n in range(600)))

    assert result(run("send", "jobs", "events.jsonl"))[0] == 0

    assert run("runworker", "--burst").lines == [f"handled {n}\n" for n in range(600)]


def test_if_one_event_of_a_file_is_rejected_none_is_sent(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text(
        '{"type": "job", "id": 1}\n\n{"type": "job", "id": "one"}\n{"type": "jb"}\n[]\nnot json\n'
    )

    code, output, errors = result(run("send", "jobs", "events.jsonl"))

    assert code == 1
    assert [line.partition(": ")[0] for line in output.splitlines()] == [
        "events.jsonl:3", "events.jsonl:4", "events.jsonl:5", "events.jsonl:6",
    ]  # fmt: skip
    assert "did you mean 'job'?" in output
    assert errors == "nothing was sent: 4 refused\n"
    assert run("runworker", "--burst").output == ""


def test_skip_refused_sends_the_valid_events_of_a_file(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text('{"type": "job", "id": 1}\n{"type": "job"}\n{"type": "job", "id": 2}\n')

    code, _, errors = result(run("send", "jobs", "events.jsonl", "--skip-refused"))

    assert (code, errors) == (1, "sent 2 of 3 events to 'jobs'\n")
    assert run("runworker", "--burst").output == "handled 1\nhandled 2\n"


def test_events_are_sent_up_to_the_capacity_and_the_first_unsent_one_is_named(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text("".join(f'{{"type": "job", "id": {n}}}\n' for n in range(1_100)))

    code, _, errors = result(run("send", "jobs", "events.jsonl"))

    assert code == 1
    assert "channel 'jobs' is full (capacity 1000); event 1001 and those after it were not sent" in errors
    assert "sent 1000 of 1100 events" in errors
    assert run("runworker", "--burst").lines == [f"handled {n}\n" for n in range(1_000)]


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
def test_an_event_that_cannot_be_sent_gets_an_error_message(
    served: Path, run: Run, arguments: list[str], code: int, message: str
) -> None:
    exit_code, output, errors = result(run("send", *arguments))

    assert message in output + errors
    assert exit_code == code


def test_a_file_with_an_integer_that_no_layer_can_carry_is_not_sent(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text('{"type": "fail"}\n' * 600 + f'{{"type": "fail", "n": {2**70}}}\n')

    for text in (CHANNELS, CHANNELS.replace("    capacity", "    validate: warn\n    capacity")):
        (served / "channels.yaml").write_text(text)
        code, output, errors = result(run("send", "jobs", "events.jsonl"))

        assert (code, errors) == (1, "nothing was sent: 1 refused\n")
        assert output.startswith("events.jsonl:601: channel 'jobs' rejected 'fail' [unsupported-value]: $")
        assert "64 bits" in output
    assert not (served / "channels.db").exists()


def test_a_value_that_is_not_an_event_is_rejected_even_with_validate_warn(served: Path, run: Run) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("    capacity", "    validate: warn\n    capacity"))
    (served / "events.jsonl").write_text('[1,2]\n{"type": "fail", "__asgi_channel__": "a"}\n{"type": "job"}\n')

    code, output, errors = result(run("send", "jobs", "events.jsonl"))

    assert (code, errors) == (1, "nothing was sent: 2 refused\n")
    assert output.startswith("events.jsonl:1: not an event: expected a JSON object\nevents.jsonl:2: ")
    assert "reserved" in output


@pytest.mark.parametrize("layer", ["memory://", "{backend: channels.layers.InMemoryChannelLayer}"])
def test_sending_to_a_layer_in_memory_is_an_error(served: Path, run: Run, layer: str) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", layer))

    code, output, errors = result(run("send", "jobs", '{"type": "job", "id": 1}'))

    assert (code, output) == (2, "")
    assert "nothing was sent: an event in memory belongs to this process, and would end with it; use a layer" in errors
    assert "sqlite:///channels.db" in errors


def test_input_that_is_not_utf_8_gets_an_error_message(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_bytes(b'{"type": "\xff"}')

    code, output, errors = result(run("send", "jobs", "events.jsonl"))

    assert (code, output) == (2, "")
    assert "'events.jsonl' is not UTF-8 text (byte 10)" in errors


def put(project: Path, event: dict[str, Any]) -> None:
    """Send like a plain Channels sender, without the contract."""
    get_channel_layer(project / "channels.yaml").layer.send_sync("jobs", event)


def test_dead_letters_are_listed_shown_replayed_and_dropped(served: Path, run: Run) -> None:
    put(served, {"type": "job", "id": "one"})
    put(served, {"type": "fail", "blob": b"\x00"})
    put(served, {"type": "jb"})
    run("runworker", "--burst")

    listed = [line.rstrip().split("\t") for line in run("dead", "list").lines]
    ids = [fields[0] for fields in listed]
    assert [(fields[2], fields[3], fields[4]) for fields in listed] == [
        ("jobs", "invalid", "job"), ("jobs", "failed", "fail"), ("jobs", "unroutable", "jb"),
    ]  # fmt: skip
    assert listed[1][5] == "ValueError: boom"

    shown = json.loads(run("dead", "show", ids[1]).output)
    assert (shown["event"], shown["code"]) == ({"type": "fail", "blob": "AA=="}, "failed")
    assert shown["traceback"].startswith("Traceback")
    assert shown["event_id"] == listed[1][-1]
    assert len(shown["event_id"]) == 16

    code, output, errors = result(run("dead", "replay", "--all"))
    assert code == 1
    assert [line.split(":")[0] for line in output.splitlines()] == [ids[0], ids[2]]
    assert errors == "replayed 1 of 3 dead letters\n"

    (served / "channels.yaml").write_text(CHANNELS.replace("integer", "string"))
    assert result(run("dead", "replay", ids[0]))[0] == 0
    assert run("runworker", "--burst").output == "handled one\n"

    assert result(run("dead", "drop", ids[2]))[0] == 0
    assert [line.split("\t")[4] for line in run("dead", "list").lines] == ["fail"]
    assert result(run("dead", "drop", "--all"))[0] == 0
    assert run("dead", "list").output == ""


def test_an_event_that_its_handler_rejected_is_listed_shown_replayed_and_dropped_like_any_other(
    served: Path, run: Run
) -> None:
    reject = WORK.replace("SyncConsumer\n", "Reject, SyncConsumer\n").replace('ValueError("boom")', 'Reject("gone")')
    (served / "work.py").write_text(reject)
    put(served, {"type": "fail"})
    run("runworker", "--burst")

    ((id_, _, *fields),) = [line.rstrip().split("\t") for line in run("dead", "list").lines]
    assert fields[:4] == ["jobs", "rejected-by-handler", "fail", "gone"]
    shown = json.loads(run("dead", "show", id_).output)
    assert (shown["code"], shown["reason"], shown["traceback"]) == ("rejected-by-handler", "gone", "")
    assert result(run("dead", "replay", id_))[0] == 0
    run("runworker", "--burst")
    ((id_, *_),) = [line.split("\t") for line in run("dead", "list").lines]
    assert result(run("dead", "drop", id_))[0] == 0
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
def test_an_unknown_dead_letter_is_a_usage_error(served: Path, run: Run, arguments: list[str], message: str) -> None:
    code, output, errors = result(run("dead", *arguments))

    assert message in output + errors
    assert code == 2


def bury(project: Path, event: Any, reason: str = "") -> None:
    async def main() -> None:
        layer = get_channel_layer(project / "channels.yaml").layer
        await layer.send("jobs", event)
        (delivery,) = await layer.take("jobs", 1)
        await layer.bury(delivery, DeadLetter("jobs", "failed", reason, delivery.event, delivery.body))
        await layer.close()

    asyncio.run(main())


def test_a_listed_dead_letter_contains_only_printable_text(served: Path, run: Run) -> None:
    bury(served, {"type": "a\n\x1b[31mb"}, "ValueError: \x1b[2J")
    bury(served, {"type": ["no", "text"]})

    code, output, _ = result(run("dead", "list"))

    first, second = output.splitlines()
    assert code == 0
    assert first.split("\t")[4:6] == [r"a\n\x1b[31mb", r"ValueError: \x1b[2J"]
    assert second.split("\t")[4] == "-"


TEN_THOUSAND = CHANNELS.replace("capacity: 1000", "dead_letters: 10000")


def bury_ten_thousand(project: Path) -> None:
    """Store 10,000 dead letters, numbered by their types."""
    (project / "channels.yaml").write_text(TEN_THOUSAND)

    async def main() -> None:
        layer = get_channel_layer(project / "channels.yaml").layer
        buried = []
        for number in range(10_000):
            event = {"type": f"t{number}", "secret": "hunter2"}
            delivery = Delivery("jobs", event, msgpack.packb(event), 0.0)
            letter = DeadLetter(
                "jobs", "failed", "boom", event, delivery.body, attempts=3, sent=1_800_000_000.0, died=1_800_000_060.5
            )
            buried.append((delivery, letter))
        await layer.bury_many(buried)
        await layer.close()

    asyncio.run(main())


def test_ten_thousand_dead_letters_are_listed_as_json_without_their_events(served: Path, run: Run) -> None:
    bury_ten_thousand(served)

    code, output, errors = result(run("dead", "list", "--json"))

    listed = json.loads(output)
    assert (code, errors, listed["version"], len(listed["dead_letters"])) == (0, "", 1, 10_000)
    assert [letter["type"] for letter in listed["dead_letters"]] == [f"t{number}" for number in range(10_000)]
    first = listed["dead_letters"][0]
    assert len(first.pop("event_id") or "0" * 24) == 24
    assert first == {
        "id": "1", "channel": "jobs", "type": "t0", "code": "failed", "reason": "boom", "attempts": 3,
        "sent": "2027-01-15T08:00:00Z", "died": "2027-01-15T08:01:00Z",
    }  # fmt: skip
    assert "hunter2" not in output


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_limit_lists_the_oldest_dead_letters_and_says_that_there_are_more(
    served: Path, run: Run, form: list[str]
) -> None:
    bury_ten_thousand(served)

    code, output, errors = result(run("dead", "list", "--limit", "3", "--channel", "jobs", *form))

    assert re.findall(r"\bt\d+", output) == ["t0", "t1", "t2"]
    assert (code, errors) == (0, "listed the 3 oldest of 10000 dead letters\n")
    assert result(run("dead", "list", "--limit", "10000", *form))[::2] == (0, "")


def test_without_dead_letters_the_json_list_is_empty(served: Path, run: Run) -> None:
    assert json.loads(run("dead", "list", "--json").output) == {"version": 1, "dead_letters": []}


def test_limit_must_be_at_least_1(served: Path, run: Run) -> None:
    code, _, errors = result(run("dead", "list", "--limit", "0"))
    assert (code, "'--limit'" in errors) == (2, True)


@pytest.mark.parametrize("event_id", ["", "0123456789abcdef01234567"])
def test_the_last_column_of_the_list_is_the_event_id_if_it_is_known(event_id: str) -> None:
    letter = DeadLetter("jobs", "failed", "bo\nom", {"type": 5}, b"", died=1_800_000_000.0, id="17", event_id=event_id)
    columns = ["17", "2027-01-15T08:00:00Z", "jobs", "failed", "-", "bo om"]
    assert line(letter).split("\t") == [*columns, *[event_id] * bool(event_id)]
    assert summary(letter)["event_id"] == (event_id or None)
    assert summary(letter)["type"] is None


def test_a_dead_letter_with_any_content_is_shown(served: Path, run: Run) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    bury(served, {
        "type": "x", "deep": deep, "nan": float("nan"), "when": msgpack.Timestamp(1), "ext": msgpack.ExtType(5, b"a"),
        "keys": {b"\xff": 1, 5: 2, None: 3}, "esc": "\x1b\x9b\x7f", "pair": (1, "ü"),
    })  # fmt: skip

    code, output, _ = result(run("dead", "show", "1"))

    event = json.loads(output)["event"]
    assert code == 0
    assert str(event.pop("deep")).count("'a'") == 108
    assert event == {
        "type": "x", "nan": "nan", "when": "Timestamp(seconds=1, nanoseconds=0)", "ext": "ExtType(code=5, data=b'a')",
        "keys": {r"b'\xff'": 1, "5": 2, "None": 3}, "esc": "\x1b\x9b\x7f", "pair": [1, "ü"],
    }  # fmt: skip
    assert "\x9b" not in output
    assert "ü" in output


def test_a_dead_letter_of_any_depth_can_be_shown() -> None:
    value: Any = "\ud800"
    for depth in range(5_000):
        value = [value] if depth % 2 else {depth: value}

    assert "more than 110 levels deep" in as_json(value)
    assert json.loads(as_json({"a": "\ud800", "b": {1}})) == {"a": "\ud800", "b": "{1}"}


def test_a_file_that_is_not_a_database_gets_an_error_message(served: Path, run: Run) -> None:
    (served / "channels.db").write_text("I am not a database, and long enough to be taken for none at all.\n" * 40)

    code, output, errors = result(run("dead", "list"))

    assert code == 2
    assert "channels.db" in output + errors


def test_check_passes_a_correct_contract(served: Path, run: Run) -> None:
    assert result(run("check")) == (0, "", "channels.yaml: 1 channel, 2 event types; everything is fine\n")


def test_check_reports_every_error_at_once(served: Path, run: Run) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("fail: true", "fall: {schema: {type: object}}"))

    code, output, _ = result(run("check"))

    assert code == 1
    assert "channels.yaml:9:7: error[handler-missing] Jobs has no method 'fall' for event type 'fall'" in output


def test_schema_prints_the_json_schema_of_channels_yaml(served: Path, run: Run) -> None:
    code, output, _ = result(run("schema"))

    assert code == 0
    assert json.loads(output)["$schema"] == "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize("command", ["schema", "explain too-deep", "explain", "dead list", "check", "lock 1.0"])
def test_a_command_with_closed_stdout_works_without_output(served: Path, command: str) -> None:
    shell = f"{sys.executable} -m channelmap {command} >&-"
    done = subprocess.run(["sh", "-c", shell], cwd=served, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_characters_that_an_encoding_lacks_are_escaped(served: Path, run: Run) -> None:
    process = run("explain", "compatibility-undecided", PYTHONIOENCODING="ascii")
    assert result(process)[0] == 0
    (served / "channels.yaml").write_text(CHANNELS.replace("jobs:", "jöbs:"), encoding="utf-8")
    code, output, _ = result(run("check", PYTHONIOENCODING="ascii"))
    assert code == 1
    assert r"j\xf6bs" in output


def test_a_json_report_is_valid_by_its_printed_schema(served: Path, run: Run) -> None:
    (served / "report.schema.json").write_text(run("schema", "report").output)
    (served / "channels.yaml").write_text(CHANNELS.replace("fail: true", "fall: true"))

    code, output, _ = result(run("check", "--output", "json"))

    assert code == 1
    validator = Validator(json.loads((served / "report.schema.json").read_text()))
    assert validator.is_valid(json.loads(output))
    assert not validator.is_valid({"version": 1})


def test_the_files_of_init_work_at_once(project: Path, run: Run) -> None:
    assert result(run("init"))[0] == 0

    load(project / "channels.yaml")
    assert result(run("check"))[0] == 0
    assert result(run("send", "greetings", '{"type": "greet", "name": "Ada"}'))[0] == 0
    assert run("runworker", "--burst").output == "Hello, Ada!\n"


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        (["channels.yaml"], "channels.yaml exists already; nothing was written"),
        (["channels.yaml", "consumers.py"], "channels.yaml, consumers.py exist already; nothing was written"),
        (
            ["schemas/greetings/greet.json", "consumers.py", "channels.schema.json"],
            "schemas/greetings/greet.json, consumers.py, channels.schema.json exist already; nothing was written",
        ),
    ],
)
def test_init_overwrites_nothing_and_lists_existing_files(
    project: Path, run: Run, existing: list[str], message: str
) -> None:
    for name in existing:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("mine")

    code, output, errors = result(run("init"))

    assert (code, output) == (2, "")
    assert message in errors
    files = [path for path in project.rglob("*") if path.is_file()]
    assert {str(path.relative_to(project)) for path in files} == set(existing)
    assert {path.read_text() for path in files} == {"mine"}


def test_init_follows_no_link_out_of_the_directory(project: Path, run: Run) -> None:
    (project / "consumers.py").symlink_to("elsewhere.py")

    code, _, errors = result(run("init"))

    assert code == 2
    assert "consumers.py exists already; nothing was written" in errors
    assert not (project / "elsewhere.py").exists()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, "channels.db*\n", "wrote .gitignore"),
        ("", "channels.db*\n", "added channels.db* to .gitignore"),
        ("*.pyc\n", "*.pyc\nchannels.db*\n", "added channels.db* to .gitignore"),
        ("*.pyc", "*.pyc\nchannels.db*\n", "added channels.db* to .gitignore"),
        ("*.db\n", "*.db\nchannels.db*\n", "added channels.db* to .gitignore"),
        ("# channels.db*\n", "# channels.db*\nchannels.db*\n", "added channels.db* to .gitignore"),
        ("*.db*\n!channels.db\n", "*.db*\n!channels.db\nchannels.db*\n", "added channels.db* to .gitignore"),
        ("/channels.db*\n", None, "left .gitignore as it is: it ignores channels.db* already"),
        ("*.pyc\n*.db\n*.db-*\n", None, "left .gitignore as it is: it ignores channels.db* already"),
    ],
)
def test_init_keeps_the_database_out_of_git(
    project: Path, run: Run, before: str | None, after: str | None, said: str
) -> None:
    if before is not None:
        (project / ".gitignore").write_text(before)

    code, output, _ = result(run("init"))

    assert code == 0
    assert said in output.splitlines()
    assert (project / ".gitignore").read_text() == (after or before)
    for name in ("channels.db", "channels.db-wal", "channels.db-shm"):
        (project / name).touch()
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    untracked = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=project,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "?? channels.yaml\n" in untracked
    assert "channels.db" not in untracked


def test_init_writes_nothing_if_gitignore_cannot_be_read(project: Path, run: Run) -> None:
    (project / ".gitignore").mkdir()

    code, output, errors = result(run("init"))

    assert (code, output) == (2, "")
    assert errors == "channelmap: '.gitignore': Is a directory\n"
    assert [path.name for path in project.iterdir()] == [".gitignore"]


@pytest.mark.parametrize("directory", [".", "schemas/deeper"])
def test_init_writes_nothing_if_one_file_cannot_be_written(project: Path, run: Run, directory: str) -> None:
    (project / "schemas").write_text("mine")

    code, output, errors = result(run("init", directory))

    assert (code, output) == (2, "")
    assert "schemas is not a directory; nothing was written" in errors
    assert [path.name for path in project.iterdir()] == ["schemas"]


def test_init_checks_write_permission_before_it_writes(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    # Root may write anywhere, so this tests the call of `os.access`.
    monkeypatch.setattr("os.access", lambda path, mode, **_: not mode & os.W_OK)

    assert cli_run(channelmap, "channelmap", ["init"]) == 2

    assert "nothing may be written to ." in capsys.readouterr().err
    assert list(project.iterdir()) == []


def test_an_error_of_the_operating_system_gets_an_error_message(project: Path, run: Run) -> None:
    code, output, errors = result(run("init", "/proc/self/fdinfo"))

    assert (code, output) == (2, "")
    assert "'/proc/self/fdinfo/" in errors


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("no_such_settings", "raised ModuleNotFoundError: No module named 'no_such_settings'"),
        ("broken_settings", "raised ZeroDivisionError: division by zero at "),
        ("leaving_settings", "raised SystemExit: 5 at "),
    ],
)
@pytest.mark.parametrize("command", [["check"], ["runworker", "--burst"]])
def test_unusable_django_settings_get_an_error_message(
    served: Path, run: Run, command: list[str], module: str, message: str
) -> None:
    (served / "broken_settings.py").write_text("1 / 0\n")
    (served / "leaving_settings.py").write_text("import sys\nsys.exit(5)\n")

    code, output, errors = result(run(*command, DJANGO_SETTINGS_MODULE=module))

    assert (code, output) == (2, "")
    assert f"DJANGO_SETTINGS_MODULE is '{module}', and setting Django up {message}" in errors


@pytest.mark.parametrize(
    ("layer", "code", "message"),
    [
        ("x://[abc", 1, "2:8: error[wrong-shape] 'layer' expected a URL such as sqlite:///channels.db, "),
        ("reds:u:secret@host", 1, "2:8: error[wrong-shape] 'layer' expected a URL such as sqlite:///channels.db, "),
        ("{url: sqlite:///a.db, options: {prefix: a}}", 2, "sqlite:///"),
        ("{url: sqlite:///a.db, options: {capcity: 5}}", 1, "2:40: error[unknown-key] unknown key 'capcity'; did you"),
        ("{url: sqlite:///a.db, options: {limits: {}}}", 1, "2:40: error[unknown-key] unknown key 'limits'"),
        ("{url: sqlite:///a.db, options: {expiry: a}}", 1, "2:48: error[wrong-shape] 'expiry' expected a number"),
        ("{url: sqlite:///a.db, options: {capacity: 'a'}}", 1, "2:50: error[wrong-shape] 'capacity' expected an int"),
        ("{backend: channels.layers.InMemoryChannelLayer, config: {capacity: ten}}", 2, "expected a number as 'capa"),
    ],
)
def test_an_invalid_layer_url_gets_an_error_message(
    served: Path, run: Run, layer: str, code: int, message: str
) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", layer))

    exit_code, output, errors = result(run("send", "jobs", '{"type": "job", "id": 1}'))

    assert exit_code == code
    assert message in output + errors
    assert "secret" not in output + errors


def test_the_database_is_an_ordinary_sqlite_file(served: Path, run: Run) -> None:
    run("send", "jobs", '{"type": "job", "id": 1}')

    database = sqlite3.connect(served / "channels.db")
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


@pytest.mark.parametrize("event", ["{type: job}", "{'type': 'job'}", "{type:"])
def test_an_event_that_lost_its_quotes_to_the_shell_gets_a_hint(served: Path, run: Run, event: str) -> None:
    code, output, _ = result(run("send", "jobs", event))

    assert code == 1
    assert """hint: write the event as JSON in single quotes, such as '{"type": """ in output


def test_lines_of_a_file_get_no_hint_about_the_shell(served: Path, run: Run) -> None:
    (served / "events.jsonl").write_text("{type: job}\n")

    code, output, _ = result(run("send", "jobs", "events.jsonl"))

    assert code == 1
    assert "not JSON" in output
    assert "hint" not in output


@pytest.mark.parametrize("event", ["", " "])
def test_an_empty_event_gets_an_error_message(served: Path, run: Run, event: str) -> None:
    code, output, errors = result(run("send", "jobs", event))

    assert (code, output) == (2, "")
    assert "the event is empty: expected a JSON object, a file or -; hint: " in errors


@pytest.mark.parametrize("name", [None, 42, b"jobs"])
def test_a_dead_letter_with_a_channel_that_is_not_a_string_is_listed(served: Path, name: Any) -> None:
    expected = f"channel: expected the name of a channel \\(str\\), got {type(name).__name__}"

    with pytest.raises(TypeError, match=expected):
        get_channel_layer(served / "channels.yaml").send_sync(name, {"type": "job", "id": 1})


@pytest.mark.parametrize("arguments", [["check"], ["runworker"], ["dead", "list"], ["init"]])
def test_a_deleted_working_directory_gets_an_error_message(project: Path, arguments: list[str]) -> None:
    (project / "release").mkdir()
    command = f"cd release; rmdir ../release; exec {sys.executable} -m channelmap {' '.join(arguments)}"
    process = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert process.returncode == Exit.USAGE
    assert "the working directory no longer exists" in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
