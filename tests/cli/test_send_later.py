"""`channelmap send --delay`, `--at` and `--verbose`, as real processes on a real SQLite file."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from channelmap import get_channel_layer
from channelmap.layer import Delivery
from tests.cli.commands import Run, result

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs: {consumer: work.Jobs, capacity: 600, events: {job: {schema: {required: [n]}}}}
"""

NO_ZONE = (
    "--at: the time has no time zone: expected one, such as 2026-12-01T08:00:00+01:00, got '2026-12-01T08:00:00'; "
    "hint: append the offset from UTC, such as +01:00, or Z for UTC\n"
)
JOB = '{"type": "job", "n": 1}'


@pytest.fixture
def contract(project: Path) -> Path:
    path = project / "channels.yaml"
    path.write_text(CHANNELS)
    return path


def kept(contract: Path) -> list[Delivery]:
    """Return the events of the channel: scheduled ones in the order in which they are due, then others."""

    async def look() -> list[Delivery]:
        return [delivery async for delivery in get_channel_layer(contract).peek("jobs")]

    return asyncio.run(look())


def write(count: int) -> None:
    Path("events.jsonl").write_text("".join(f'{{"type": "job", "n": {n}}}\n' for n in range(count)))


def test_a_delayed_event_is_due_after_its_delay(contract: Path, run: Run) -> None:
    begun = time.time()
    assert result(run("send", "jobs", JOB, "--delay", "3600.5")) == (0, "", "sent 1 of 1 events to 'jobs'\n")
    ended = time.time()

    (delivery,) = kept(contract)
    assert delivery.due is not None
    assert begun <= delivery.due - 3600.5 <= ended


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-9, minutes=-30))], ids=["UTC", "another"])
def test_an_event_is_due_at_the_given_time_in_any_time_zone(contract: Path, run: Run, zone: timezone) -> None:
    at = (datetime.now(zone) + timedelta(days=30)).replace(microsecond=0)

    assert result(run("send", "jobs", JOB, "--at", at.isoformat()))[0] == 0

    (delivery,) = kept(contract)
    assert delivery.due is not None
    # The clock is read twice: by the command, and by the layer.
    assert 0 <= delivery.due - at.timestamp() < 10


@pytest.mark.parametrize("option", [["--delay", "0"], ["--at", "2001-01-01T00:00:00Z"]])
def test_no_delay_and_a_time_in_the_past_mean_now(contract: Path, run: Run, option: list[str]) -> None:
    assert result(run("send", "jobs", JOB, *option))[0] == 0

    assert [delivery.due for delivery in kept(contract)] == [None]


@pytest.mark.parametrize("option", ["--delay", "--at"])
def test_delayed_events_of_a_file_are_due_in_their_order(contract: Path, run: Run, option: str) -> None:
    write(600)
    later = datetime.now(UTC) + timedelta(hours=1)

    assert (
        result(run("send", "jobs", "events.jsonl", option, later.isoformat() if option == "--at" else "3600"))[0] == 0
    )

    assert [delivery.event["n"] for delivery in kept(contract) if delivery.event] == [*range(600)]
    assert all(delivery.due for delivery in kept(contract))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--at", "2026-12-01T08:00:00"],
            NO_ZONE,
        ),
        (
            ["--at", "tomorrow"],
            "--at: not a time: expected ISO 8601 with a time zone, such as 2026-12-01T08:00:00+01:00, got 'tomorrow'\n",
        ),
        (["--at", "9000-01-01T00:00Z"], "--at: expected 0 to 31622400 seconds from now (366 days), got "),
        (["--delay", "-1"], "--delay: expected 0 to 31622400 seconds from now (366 days), got -1\n"),
        (["--delay", "nan"], "--delay: expected 0 to 31622400 seconds from now (366 days), got nan\n"),
        (["--delay", "31622401"], "(366 days), got 3.16224e+07\n"),
        (["--delay", "soon"], "Invalid value for '--delay': 'soon' is not a valid float.\n"),
        (
            ["--delay", "1", "--at", "2001-01-01T00:00Z"],
            "--delay and --at: expected one of them, got both; hint: leave one of them out\n",
        ),
    ],
)
def test_an_invalid_time_is_a_usage_error_and_nothing_is_sent(
    contract: Path, run: Run, options: list[str], message: str
) -> None:
    code, output, errors = result(run("send", "jobs", JOB, *options))

    assert (code, output) == (2, "")
    assert message in errors
    assert not contract.with_name("channels.db").exists()


def test_a_delay_on_a_channels_layer_is_an_error(contract: Path, run: Run) -> None:
    layer = "{backend: channels_redis.core.RedisChannelLayer, config: {hosts: ['redis://127.0.0.1:1/0']}}"
    contract.write_text(CHANNELS.replace("sqlite:///channels.db", layer))

    message = (
        "channelmap: channels_redis.core.RedisChannelLayer: a Channels layer cannot delay events; "
        "name sqlite:///… or redis://… as the layer\n"
    )
    assert result(run("send", "jobs", JOB, "--delay", "5")) == (2, "", message)


@pytest.mark.parametrize("options", [[], ["--delay", "60"]])
def test_with_verbose_the_id_of_each_sent_event_is_printed_in_order(
    contract: Path, run: Run, options: list[str]
) -> None:
    write(700)

    code, output, errors = result(run("send", "jobs", "events.jsonl", "--verbose", *options))

    assert code == 1
    assert errors.endswith("sent 600 of 700 events to 'jobs'\n")
    assert output.splitlines() == [delivery.id for delivery in kept(contract)]
    assert len(set(output.splitlines())) == 600
    assert re.fullmatch(r"([0-9a-f]{16}\n){600}", output)


BACKEND = """
class Layer:
    capacity = 100
    async def send(self, channel, message):
        with open("sent.txt", "a") as file:
            file.write(message["type"] + "\\n")
    async def receive(self, channel):
        raise NotImplementedError
"""


def test_with_verbose_a_layer_without_ids_is_reported_once(contract: Path, run: Run) -> None:
    write(600)
    (contract.parent / "layers.py").write_text(BACKEND)
    contract.write_text(CHANNELS.replace("sqlite:///channels.db", "{backend: layers.Layer}"))

    assert result(run("send", "jobs", "events.jsonl", "--verbose")) == (
        0, "", "layers.Layer: the layer gives events no ids\nsent 600 of 600 events to 'jobs'\n",
    )  # fmt: skip
    assert (contract.parent / "sent.txt").read_text() == "job\n" * 600


def test_a_rejected_event_has_no_id(contract: Path, run: Run) -> None:
    Path("events.jsonl").write_text(f'{JOB}\n{{"type": "job"}}\n')

    code, output, _ = result(run("send", "jobs", "events.jsonl", "--verbose", "--skip-refused"))

    (delivery,) = kept(contract)
    complaint, id_ = output.splitlines()
    assert (code, id_) == (1, delivery.id)
    assert complaint.startswith("events.jsonl:2: ")
    assert json.loads(JOB) == delivery.event
