"""What an URL or a dotted path opens, and what is said when it cannot be."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers import open_backend, open_layer
from channelmap.layers.foreign import ForeignChannelLayer
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.layers.sqlite import SQLiteChannelLayer

from .conformance import event


def complaint(url: str) -> str:
    """Use a layer that cannot be used; what it says."""
    with pytest.raises(LayerUnavailable) as caught:
        open_layer(url).send_sync("jobs", event(1))
    assert caught.value.url == url
    return caught.value.reason


def test_an_unknown_scheme_is_answered_with_those_there_are() -> None:
    with pytest.raises(LayerUnavailable) as caught:
        open_layer("sqlit://user:secret@host/1")
    assert str(caught.value) == (
        "sqlit://host/1: unknown scheme 'sqlit'; expected one of memory://, sqlite://, redis://, rediss://, unix://, "
        "redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://; did you mean 'sqlite'?"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("reds:u:secret@host", "reds:host"),
        ("reds://:pa/secret@host", "reds://host"),
        ("reds://u:secret@secret@host/1", "reds://host/1"),
        ("reds://host/1?password=secret", "reds://host/1"),
        ("user:secret@host", "user:host"),
        ("//:secret@host", "host"),
        ("x://[abc", "x://[abc"),
        ("channels.db", "channels.db"),
    ],
)
def test_what_is_no_layers_url_is_named_without_its_password(url: str, shown: str) -> None:
    with pytest.raises(LayerUnavailable) as caught:
        open_layer(url)
    assert caught.value.url == shown
    assert "secret" not in str(caught.value)
    assert caught.value.reason.startswith("unknown scheme")


@pytest.mark.parametrize("url", ["memory://", "sqlite:///x.db"])
def test_an_option_that_the_layer_does_not_take_is_said_in_a_sentence(url: str) -> None:
    with pytest.raises(LayerUnavailable, match=r"only a layer in Redis has the option 'prefix'"):
        open_layer(url, prefix="asgi")


@pytest.mark.parametrize("url", ["sqlite://events.db", "sqlite:///", "sqlite:events.db", "sqlite:///:memory:"])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    assert complaint(url) == "names no file; expected sqlite:///relative.db or sqlite:////absolute.db"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    reason = f"the directory '{tmp_path}/no' does not exist; create it"
    assert complaint(f"sqlite:///{tmp_path}/no/events.db") == reason


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert complaint(f"sqlite:///{tmp_path}") == "this is a directory; name a file"


def test_garbage_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_text("garbage " * 1_000)
    assert complaint(f"sqlite:///{tmp_path}/events.db").startswith("the file is not a SQLite database; ")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "events.db")
    db.execute("CREATE TABLE events (mine)")
    assert complaint(f"sqlite:///{tmp_path}/events.db").startswith("the file is a database of another program; ")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    db.close()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "events.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    reason = "the file was made by a newer channelmap (its schema is 99, ours 5)"
    assert complaint(f"sqlite:///{tmp_path}/events.db") == reason


@pytest.mark.parametrize(
    ("pragma", "reason"),
    [("query_only = 1", "the file or its directory is read-only; "), ("max_page_count = 1", "the disk is full; ")],
)
def test_a_file_that_cannot_be_written_is_said_to_be_so(tmp_path: Path, pragma: str, reason: str) -> None:
    layer = open_layer(f"sqlite:///{tmp_path}/events.db")
    assert isinstance(layer, SQLiteChannelLayer)
    layer.send_sync("jobs", event(1))
    layer._connections._idle[0].execute(f"PRAGMA {pragma}")
    with pytest.raises(LayerUnavailable) as caught:
        layer.send_sync("jobs", {"type": "x" * 1_000_000})
    assert caught.value.reason.startswith(reason)
    layer.send_sync("jobs", event(2))
    assert asyncio.run(layer.waiting("jobs")) == 2
    asyncio.run(layer.close())


def test_a_channels_backend_is_adapted_and_ours_is_itself() -> None:
    theirs = open_backend("channels.layers.InMemoryChannelLayer", {"capacity": 3})
    assert isinstance(theirs, ForeignChannelLayer)
    ours = open_backend("channelmap.layers.memory.MemoryChannelLayer", {"capacity": 3})
    assert isinstance(ours, MemoryChannelLayer)
    assert ours.capacity == 3


@pytest.mark.parametrize(
    ("path", "config"),
    [
        ("nowhere.Layer", {}),
        ("channels.layers.Nothing", {}),
        ("x", {}),
        ("channels.layers.InMemoryChannelLayer", {"a": 1}),
        ("channels.layers.InMemoryChannelLayer", {"capacity": "ten"}),
        ("channels.layers.InMemoryChannelLayer", {"expiry": "a"}),
        ("os.listdir", {"path": 1.5}),
        ("os.getenv", {"key": "HOME"}),
    ],
)
def test_a_backend_that_cannot_be_made_is_named(path: str, config: dict[str, Any]) -> None:
    with pytest.raises(LayerUnavailable, match=r"cannot be made: .") as caught:
        open_backend(path, config)
    assert caught.value.url == path


def test_only_the_layer_that_is_asked_for_is_imported() -> None:
    code = "import sys, channelmap.layers as l; l.open_layer('memory://'); print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
