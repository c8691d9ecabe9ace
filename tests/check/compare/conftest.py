"""Fixtures for tests of comparisons: event types made from schemas, and contract files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap.check.compare.normal_form import normalize
from channelmap.check.compare.releases import ReleasedType
from channelmap.validation import Validator, with_type
from channelmap.validation.structure import bundle


@pytest.fixture(scope="session")
def released() -> Callable[..., ReleasedType]:
    """Make the event type of a release from a schema as written."""

    def make(schema: Any, *accepts: Any) -> ReleasedType:
        return ReleasedType(normalize(bundle(Validator(with_type(schema)))), accepts)

    return make


@pytest.fixture
def contract_of(tmp_path: Path) -> Callable[..., Path]:
    """Write a contract as JSON, from schemas by channel and event type, and settings of channels."""

    def write(channels: dict[str, dict[str, Any]], directory: str = "new", **settings: Any) -> Path:
        path = tmp_path / directory / "channels.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        declared = {
            name: {"consumer": "nowhere.Consumer", "events": events, **settings} for name, events in channels.items()
        }
        path.write_text(json.dumps({"version": 1, "layer": "memory://", "channels": declared}, indent=1))
        return path

    return write
