"""`channelmap pause` and `resume`, and what workers do with a paused channel: real processes on a real SQLite file."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import Run, result, write_site

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs: {consumer: work.Jobs, capacity: 2, events: {job: true}}
  other: {consumer: work.Jobs, delivery: at-least-once, events: {job: true}}
"""

WORK = """\
from channelmap import AsyncConsumer

class Jobs(AsyncConsumer):
    async def job(self, event):
        print("handled", self.delivery.channel, event["n"], flush=True)
"""


@pytest.fixture
def served(project: Path) -> Path:
    write_site(project, CHANNELS, WORK)
    return project


def send(run: Run, channel: str, number: int) -> int:
    code: int = run("send", channel, json.dumps({"type": "job", "n": number})).popen.returncode
    return code


def test_no_event_of_a_paused_channel_is_handled_until_it_is_resumed(served: Path, run: Run) -> None:
    told = "channel 'jobs': paused; sends go on until its capacity of 2 events\n"
    assert result(run("pause", "jobs")) == (0, told, "")
    assert [send(run, "jobs", number) for number in range(3)] == [0, 0, 1]
    assert send(run, "other", 9) == 0
    burst = run("runworker", "--burst")
    assert (burst.popen.returncode, burst.output) == (0, "handled other 9\n")
    (warning,) = [line for line in burst.error_lines if " INFO " not in line]
    assert warning.endswith(" WARNING channelmap.worker: channel 'jobs': paused; 2 events wait\n")

    assert result(run("resume", "jobs")) == (0, "channel 'jobs': resumed\n", "")
    assert run("runworker", "--burst").output == "handled jobs 0\nhandled jobs 1\n"


def test_pausing_twice_and_resuming_without_a_pause_are_not_errors(served: Path, run: Run) -> None:
    run("pause", "jobs")

    told = "channel 'jobs': already paused; sends go on until its capacity of 2 events\n"
    assert result(run("pause", "jobs")) == (0, told, "")
    assert result(run("resume", "other")) == (0, "channel 'other': was not paused\n", "")
    assert result(run("resume", "jobs")) == (0, "channel 'jobs': resumed\n", "")


def test_several_channels_are_paused_and_resumed_with_a_line_for_each(served: Path, run: Run) -> None:
    code, output, errors = result(run("pause", "other", "jobs", "other"))
    assert (code, errors) == (0, "")
    assert [line.partition(";")[0] for line in output.splitlines()] == [
        "channel 'other': paused", "channel 'jobs': paused",
    ]  # fmt: skip
    assert run("resume", "jobs", "other").lines == ["channel 'jobs': resumed\n", "channel 'other': resumed\n"]


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_if_one_channel_is_not_declared_no_channel_is_paused(served: Path, run: Run, command: str) -> None:
    run("pause", "jobs")

    message = "channelmap: no channel 'othr'; the contract declares 'jobs', 'other'; did you mean 'other'?\n"
    assert result(run(command, "jobs", "othr")) == (2, "", message)
    assert run("pause", "jobs").output.startswith("channel 'jobs': already paused")


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_pause_on_a_channels_layer_is_an_error(served: Path, run: Run, command: str) -> None:
    layer = "{backend: channels_redis.core.RedisChannelLayer, config: {hosts: ['redis://127.0.0.1:1/0']}}"
    (served / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", layer))

    message = (
        "channelmap: channels_redis.core.RedisChannelLayer: a Channels layer cannot pause a channel; "
        "name sqlite:///… or redis://… as the layer\n"
    )
    assert result(run(command, "jobs", "other")) == (2, "", message)


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_pause_on_a_layer_in_memory_is_an_error(served: Path, run: Run, command: str) -> None:
    code, output, errors = result(run(command, "jobs", "--layer", "memory://"))

    assert (code, output) == (2, "")
    assert "memory://: no channel was paused or resumed: a pause in memory belongs to this process" in errors


def test_a_pause_applies_to_the_layer_of_the_command_line(served: Path, run: Run) -> None:
    run("pause", "jobs", "--layer", "sqlite:///elsewhere.db")

    assert run("resume", "jobs").output == "channel 'jobs': was not paused\n"
    assert run("resume", "jobs", "--layer", "sqlite:///elsewhere.db").output == "channel 'jobs': resumed\n"


def test_a_channel_name_from_the_environment_is_printed_as_written(served: Path, run: Run) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("jobs:", '"${SECRET}-jobs":'))

    _, output, errors = result(run("pause", "hush-jobs", SECRET="hush"))

    assert output.startswith("channel '${SECRET}-jobs': paused;")
    assert errors == ""


def test_an_idle_worker_obeys_pause_and_resume_and_logs_nothing_meanwhile(
    served: Path, run: Run, start: Run, wait_until: Callable[..., None]
) -> None:
    run("pause", "jobs")
    worker = start("runworker")
    wait_until(lambda: "; ready" in worker.errors, "the worker")
    send(run, "jobs", 1)
    send(run, "other", 2)
    wait_until(lambda: worker.lines, "the event of the other channel")
    assert worker.lines == ["handled other 2\n"]
    run("resume", "jobs")
    wait_until(lambda: len(worker.lines) == 2, "the event of the resumed channel")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert worker.lines[1:] == ["handled jobs 1\n"]
    assert len(worker.error_lines) == 3, worker.errors
