"""The screen of `channelmap status`, on terminals of several widths and in the pictures of the documentation.

The pictures are what it prints about two states of a site. After a change of the output, `make renew` draws them anew.
"""

import io
import json
import os
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from channelmap.cli.status import screen
from tests.terminal_picture import DOCS, characters, characters_of, drawn

SCHEMA = json.loads((DOCS / "status.schema.json").read_text(encoding="utf-8"))


def channel(handled: int, **fields: Any) -> dict[str, Any]:
    totals = {"handled": handled, "failed": 0, "retried": 0, "redelivered": 0, "rejected": {}, "dead": {}}
    counts = {"waiting": 0, "scheduled": 0, "leased": 0, "in_flight": 0, "dead": {}, "oldest_seconds": None}
    return {**counts, "paused": False, "totals": totals | fields.pop("totals", {}), **fields}


def worker(number: int, started: str, seen: float, in_flight: int, contract: str) -> dict[str, Any]:
    return {
        "id": f"worker-{number}",
        "host": f"worker-{number}",
        "pid": 7,
        "started": started,
        "seen_seconds": seen,
        "version": "0.2.0",
        "contract": contract,
        "channels": ["invoices", "mail", "thumbnails"],
        "in_flight": in_flight,
    }


#: Workers keep up with their channels.
WELL: dict[str, Any] = {
    "channels": {
        "invoices": channel(18_204, in_flight=1, leased=1),
        "mail": channel(90_551, waiting=12, oldest_seconds=0.4, scheduled=3, in_flight=8, leased=20),
        "thumbnails": channel(2_371, waiting=2, oldest_seconds=1.8, in_flight=4, leased=4),
    },
    "workers": [
        worker(1, "2027-03-31T06:12:00+00:00", 1.2, 7, "8c1f2f0a9b6d4e73"),
        worker(2, "2027-03-31T06:12:02+00:00", 4.0, 6, "8c1f2f0a9b6d4e73"),
    ],
    "layer": "redis://cache.internal:6379/0",
    "foreign_readers": 0,
    "time": "2027-03-31T09:30:00+00:00",
}
#: Later: a worker is gone, a channel is paused, letters are dead, and a forgotten reader takes events.
TROUBLED = deepcopy(WELL)
TROUBLED["channels"] = {
    "invoices": channel(18_207, waiting=340, oldest_seconds=1_900.0, paused=True),
    "mail": channel(
        90_570, waiting=4_118, oldest_seconds=312.0, scheduled=61, in_flight=8, leased=20, dead={"failed": 17},
        totals={"failed": 78, "retried": 61, "dead": {"failed": 17}},
    ),
    "thumbnails": channel(
        2_371, waiting=55, oldest_seconds=402.0, dead={"invalid": 3},
        totals={"rejected": {"schema-mismatch": 3}, "dead": {"invalid": 3}},
    ),
}  # fmt: skip
TROUBLED["workers"] = [
    worker(1, "2027-03-31T06:12:00+00:00", 2.1, 8, "8c1f2f0a9b6d4e73") | {"channels": ["invoices", "mail"]}
]
TROUBLED |= {"foreign_readers": 1, "time": "2027-03-31T10:04:00+00:00"}

PICTURES = {
    "status.svg": ("channelmap status, while workers keep up", "channelmap status", WELL),
    "status-watch.svg": ("channelmap status --watch, while something is wrong", "channelmap status --watch", TROUBLED),
}


def printed(status: dict[str, Any], width: int) -> str:
    """Return what is printed on a terminal, with its colours."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=width, highlight=False)
    console.print(screen(status))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_what_is_printed_about_a_status(name: str) -> None:
    title, command, status = PICTURES[name]
    jsonschema.Draft7Validator(SCHEMA).validate(status)
    text, path = f"\x1b[1m$ {command}\x1b[0m\n{printed(status, 120)}", DOCS / name
    if os.environ.get("RENEW"):
        path.write_text(drawn(text, title), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == drawn(text, title), "draw it anew: see the top of this test"
    assert characters_of(path.read_text(encoding="utf-8")) == characters(text)


def lines_of(status: dict[str, Any], width: int) -> list[list[str]]:
    text = printed(status, width)
    assert all(column < width for _, column in characters(text))
    return [line.split("  ") for line in re.sub(r"\x1b\[[\d;]+m", "", text).splitlines()]


def test_a_wide_terminal_shows_all_about_a_channel_in_one_line() -> None:
    lines = [" ".join(filter(None, map(str.strip, line))) for line in lines_of(TROUBLED, 120)]
    assert lines[0] == "CHANNEL WAITING OLDEST SCHEDULED IN FLIGHT DEAD HANDLED FAILED REJECTED WORKERS"
    assert lines[1:4] == [
        "invoices 340 32 m 0 0 0 18,207 0 0 1 paused",
        "mail 4,118 5 m 61 8 17 90,570 78 0 1",
        "thumbnails 55 7 m 0 0 3 2,371 0 3 0",
    ]


def test_a_terminal_of_80_characters_cuts_nothing_off_and_shows_totals_in_a_table_of_their_own() -> None:
    lines = [" ".join(filter(None, map(str.strip, line))) for line in lines_of(TROUBLED, 80)]
    assert lines[0] == "CHANNEL WAITING OLDEST SCHEDULED IN FLIGHT DEAD WORKERS"
    assert lines[1] == "invoices 340 32 m 0 0 0 1 paused"
    assert lines[5:7] == ["CHANNEL HANDLED FAILED REJECTED", "invoices 18,207 0 0"]


def test_long_names_of_hosts_leave_room_for_the_contract() -> None:
    status = deepcopy(WELL)
    status["workers"][0]["host"] = "worker-7d9f8b6c5d-x2x8z"
    lines = [" ".join(filter(None, map(str.strip, line))) for line in lines_of(status, 80)]
    assert lines[-3] == "WORKER IN FLIGHT SEEN CONTRACT"
    assert lines[-2] == "worker-7d9f8b6c5d-x2x8z:7 7 1.2 s ago 8c1f2f0a9b6d4e73"


def test_what_is_not_printed_on_a_terminal_is_never_cut_off(project: Path, run: Callable[..., Any]) -> None:
    name = "a" * 99
    channels = f"{{{name}: {{consumer: a.B, events: {{job: true}}}}}}"
    (project / "channels.yaml").write_text(f"version: 1\nchannels: {channels}\n")
    lines = run("status").output.splitlines()
    assert lines[0].split() == [
        "CHANNEL", "WAITING", "OLDEST", "SCHEDULED", "IN", "FLIGHT", "DEAD", "HANDLED", "FAILED", "REJECTED", "WORKERS",
    ]  # fmt: skip
    assert lines[1].split()[0] == name


@pytest.mark.parametrize(("readers", "said"), [(None, ""), (0, ""), (1, "1 reader of"), (2, "2 readers of")])
def test_readers_of_channels_redis_are_named(readers: int | None, said: str) -> None:
    text = printed(WELL | {"foreign_readers": readers}, 120)
    assert said in text
    assert ("channels_redis" in text) is bool(said)
