"""Equivalence of event types of two releases, including the files that they refer to."""

import json
from pathlib import Path

import pytest

from channelmap.check.compare.comparison import compare
from channelmap.check.compare.releases import Release, release_of
from channelmap.loader import load

CONTRACT = """\
version: 1
channels:
  jobs:
    consumer: work.Jobs
    events:
      far: schemas/far.json
      inline: {schema: {properties: {size: {$ref: "schemas/size.json#/$defs/size"}}}}
      alone: {schema: {properties: {size: {type: integer}}}}
"""
FAR = {"properties": {"size": {"$ref": "steps/step.json"}}}
STEP = {"$ref": "../size.json#/$defs/size"}


def release(directory: Path, size: object, *, contract: str = CONTRACT, title: str = "") -> Release:
    (directory / "schemas/steps").mkdir(parents=True)
    (directory / "channels.yaml").write_text(contract)
    (directory / "schemas/far.json").write_text(json.dumps({**FAR, "title": title}))
    (directory / "schemas/steps/step.json").write_text(json.dumps(STEP))
    (directory / "schemas/size.json").write_text(json.dumps({"$defs": {"size": size}}))
    return release_of(load(directory / "channels.yaml"), directory.name)


def verdicts(old: Release, new: Release) -> dict[str, str]:
    return {found.event_type: found.senders.verdict for found in compare(old, new).types}


def test_event_types_with_the_same_text_are_equivalent(tmp_path: Path) -> None:
    size = {"minimum": 1}
    old, new = release(tmp_path / "old", size), release(tmp_path / "new", size)
    assert verdicts(old, new) == {"far": "same", "inline": "same", "alone": "same"}


def test_a_change_in_a_referenced_file_is_a_change(tmp_path: Path) -> None:
    old, new = release(tmp_path / "old", {"minimum": 1}), release(tmp_path / "new", {"minimum": 2})
    assert verdicts(old, new) == {"far": "breaking", "inline": "breaking", "alone": "same"}


@pytest.mark.parametrize("title", ["", "Another one."])
def test_event_types_with_different_text_may_be_equivalent(tmp_path: Path, title: str) -> None:
    other = CONTRACT.replace("schemas/size.json#/", "schemas/./size.json#/")
    old = release(tmp_path / "old", {"minimum": 1, "maximum": 9})
    new = release(tmp_path / "new", {"maximum": 9, "minimum": 1}, contract=other, title=title)
    assert verdicts(old, new) == {"far": "same", "inline": "same", "alone": "same"}
