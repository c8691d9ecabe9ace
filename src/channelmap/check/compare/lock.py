"""`channelmap.lock.json`: the event types and schemas of each release, in a file beside the contract.

It allows a comparison without git, and with all earlier releases. Each schema is stored once, sorted, in normal form
and under its digest, so that a diff shows only what has changed. A name can be given to one release only.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_args

from channelmap.check.compare.normal_form import digest
from channelmap.check.compare.releases import Release, ReleasedChannel, ReleasedType
from channelmap.contract import Validate
from channelmap.errors import ChannelMapError, quoted

_VERSION = 1


def lock_of(contract: Path) -> Path:
    """Return the path of the lock of a contract file, beside it; each contract of a directory has its own."""
    name = "channelmap" if contract.stem == "channels" else contract.stem
    return contract.with_name(f"{name}.lock.json")


class LockUnusable(ChannelMapError):
    """A lock cannot be read or added to.

    Args:
        path: the lock.
        reason: what is wrong with it.
        hint: the likely remedy.

    """

    def __init__(self, path: Path, reason: str, hint: str = "") -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(path, reason, hint)

    def __str__(self) -> str:
        text = f"{self.path}: {self.reason}"
        return f"{text}; {self.hint}" if self.hint else text


def read_lock(path: Path) -> tuple[Release, ...]:
    """Read the releases of a lock, oldest first; at least one.

    Raises:
        LockUnusable: the lock is missing, damaged, empty or of a newer version.

    """
    data = _read(path)
    try:
        releases = tuple(_release(entry, data["schemas"]) for entry in data["releases"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path) from error
    if not releases:
        raise _damaged(path)
    return releases


def write_lock(path: Path, release: Release, day: date) -> bool:
    """Add a release to a lock, which is created if it does not exist.

    Args:
        path: the lock.
        release: the newest release.
        day: its date.

    Returns:
        Whether it was added; False if its channels are those of the newest release in the lock.

    Raises:
        LockUnusable: the lock cannot be read or written, or has another release of that name.

    """
    data: dict[str, Any] = {"version": _VERSION, "releases": [], "schemas": {}}
    if path.exists():
        releases = read_lock(path)
        if releases[-1].channels == release.channels:
            return False
        if release.name in {known.name for known in releases}:
            hint = "give this one another name"
            raise LockUnusable(path, f"there is a release {quoted(release.name)} already, and it differs", hint)
        data = _read(path)
    data["releases"].append({"name": release.name, "date": day.isoformat(), "channels": _channels(release)})
    data["schemas"].update(_schemas(release))
    try:
        _replace(path, json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    except OSError as error:
        raise LockUnusable(path, f"cannot be written: {error.strerror}") from None
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LockUnusable(path, "there is no such file", "'channelmap lock' makes one") from None
    except OSError as error:
        raise LockUnusable(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    version = data.get("version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > _VERSION:
        reason = f"is of version {version}, and this channelmap knows {_VERSION}"
        raise LockUnusable(path, reason, "update channelmap")
    if version != _VERSION:
        raise _damaged(path)
    return dict(data)


def _damaged(path: Path) -> LockUnusable:
    return LockUnusable(path, "is damaged: it is not what 'channelmap lock' wrote", "restore it from version control")


def _release(entry: Mapping[str, Any], schemas: Mapping[str, Any]) -> Release:
    date.fromisoformat(entry["date"])
    return Release(_text(entry["name"]), {name: _channel(each, schemas) for name, each in entry["channels"].items()})


def _channel(entry: Mapping[str, Any], schemas: Mapping[str, Any]) -> ReleasedChannel:
    expiry = entry["expiry"]
    if entry["validate"] not in get_args(Validate) or not isinstance(expiry, (int, float, type(None))):
        raise ValueError(entry)
    events = {name: _event_type(each, schemas) for name, each in entry["events"].items()}
    return ReleasedChannel(entry["validate"], expiry, events)


def _event_type(entry: Mapping[str, Any], schemas: Mapping[str, Any]) -> ReleasedType:
    schema = schemas[entry["schema"]]
    if not isinstance(schema, (dict, bool)) or digest(schema) != entry["schema"]:
        raise ValueError(entry["schema"])
    return ReleasedType(schema, tuple(entry["accepts"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _channels(release: Release) -> dict[str, Any]:
    return {
        name: {
            "validate": channel.validate,
            "expiry": channel.expiry,
            "events": {
                each: {"schema": event_type.digest, "accepts": list(event_type.accepts)}
                for each, event_type in channel.events.items()
            },
        }
        for name, channel in release.channels.items()
    }


def _schemas(release: Release) -> dict[str, Any]:
    return {
        event_type.digest: event_type.schema
        for channel in release.channels.values()
        for event_type in channel.events.values()
    }


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, "utf-8")
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
