"""A lock stores releases, each schema once, and detects that it was edited."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from channelmap.check.compare import LockUnusable, Release, ReleasedChannel, ReleasedType, read_lock, write_lock

DAY = date(2026, 1, 31)
ANYTHING, NOTHING = True, False


def release(name: str, *schemas: Any, **settings: Any) -> Release:
    events = {f"e{index}": ReleasedType(schema, ({"type": "é"},)) for index, schema in enumerate(schemas)}
    return Release(name, {"jobs": ReleasedChannel(events=events, **settings)})


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "channelmap.lock.json"


def test_a_written_lock_is_read_back(lock: Path) -> None:
    one = release("1.0", {"type": "object"}, ANYTHING, validate="warn", expiry=60.0)
    two = release("1.1", {"type": "object", "required": ["a"]}, NOTHING)
    assert write_lock(lock, one, DAY)
    assert write_lock(lock, two, DAY)
    assert read_lock(lock) == (one, two)


def test_the_text_of_a_lock_does_not_depend_on_the_order_of_keys(lock: Path, tmp_path: Path) -> None:
    write_lock(lock, release("1.0", {"a": 1, "b": 2}), DAY)
    other = tmp_path / "other.lock.json"
    write_lock(other, release("1.0", {"b": 2, "a": 1}), DAY)
    assert lock.read_bytes() == other.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_equal_schemas_are_stored_once(lock: Path) -> None:
    write_lock(lock, release("1.0", {"type": "object"}, {"type": "object"}), DAY)
    write_lock(lock, release("1.1", {"type": "object"}), DAY)
    assert list(json.loads(lock.read_text())["schemas"].values()) == [{"type": "object"}]


def test_a_release_with_equal_channels_is_not_added(lock: Path) -> None:
    assert write_lock(lock, release("1.0", ANYTHING), DAY)
    before = lock.read_bytes()
    assert not write_lock(lock, release("1.1", ANYTHING), DAY)
    assert not write_lock(lock, release("1.0", ANYTHING), DAY)
    assert lock.read_bytes() == before


def test_a_name_cannot_be_given_to_two_releases(lock: Path) -> None:
    write_lock(lock, release("1.0", ANYTHING), DAY)
    with pytest.raises(LockUnusable, match=r"there is a release '1\.0' already, and it differs; give this one another"):
        write_lock(lock, release("1.0", NOTHING), DAY)
    assert len(read_lock(lock)) == 1


@pytest.mark.parametrize(
    ("wrong", "right"),
    [('"object"', '"array"'), ('"enforce"', '"maybe"'), ('"2026-01-31"', '"yesterday"'), ('"1.0"', "1.0"),
     ('"expiry": null', '"expiry": "x"'), ('"accepts": [', '"accepts": 5, "x": [')],
)  # fmt: skip
def test_a_lock_that_was_edited_is_damaged(lock: Path, wrong: str, right: str) -> None:
    write_lock(lock, release("1.0", {"type": "object"}), DAY)
    text = lock.read_text()
    assert wrong in text
    lock.write_text(text.replace(wrong, right, 1))
    with pytest.raises(LockUnusable, match="is damaged"):
        read_lock(lock)


def test_a_missing_directory_of_a_lock_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LockUnusable, match="cannot be written: No such file or directory"):
        write_lock(tmp_path / "nowhere" / "channelmap.lock.json", release("1.0", ANYTHING), DAY)


def test_a_damaged_lock_is_not_added_to(lock: Path) -> None:
    lock.write_text("{")
    with pytest.raises(LockUnusable):
        write_lock(lock, release("1.0", ANYTHING), DAY)
    assert lock.read_text() == "{"
