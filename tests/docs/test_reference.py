"""The reference pages name every key, every default and every code of a rejected event, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "channelmap"
SCHEMA = json.loads((SOURCE / "channels.schema.json").read_text(encoding="utf-8"))
KEYS_PAGE = (ROOT / "docs" / "channels-yaml.md").read_text(encoding="utf-8")
CODES_PAGE = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")


def keys_of(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every key of channels.yaml with its schema, references resolved."""
    if not isinstance(schema, dict):
        return
    for name, rule in schema.get("properties", {}).items():
        reference = rule.get("$ref", "").removeprefix("#/definitions/")
        yield name, SCHEMA["definitions"][reference] if reference else rule
        yield from keys_of(rule)
    for definition in schema.get("definitions", {}).values():
        yield from keys_of(definition)


def rows_of(page: str) -> list[list[str]]:
    """Return the rows of all tables, as cells."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]


def documented_keys() -> dict[str, list[str]]:
    """Return the default of each key in the tables, once for each row about it."""
    found: dict[str, list[str]] = {}
    for row in rows_of(KEYS_PAGE):
        if len(row) == 4 and row[0] != "key" and row[0].startswith("`"):
            found.setdefault(row[0].strip("`"), []).append(row[3])
    return found


def test_every_key_of_channels_yaml_is_documented_and_no_other() -> None:
    assert set(documented_keys()) == {name for name, _ in keys_of(SCHEMA)}


def test_every_default_of_channels_yaml_is_documented_correctly() -> None:
    documented = documented_keys()
    for name, rule in keys_of(SCHEMA):
        default = rule.get("default")
        if default in ("", [], {}) or "default" not in rule:
            continue
        written = default if isinstance(default, str) else json.dumps(default)
        assert f"`{written}`" in documented[name], f"the default of '{name}' is {written}"


def test_every_code_of_a_rejected_event_is_documented_and_no_other() -> None:
    section = CODES_PAGE.partition("\n## Rejected events\n")[2].partition("\n## ")[0]
    documented = {code for row in rows_of(section) for code in re.findall(r"`([^`]+)`", row[0])}
    assert documented == {"missing-type", "unknown-type", "schema-mismatch", "unsupported-value"}
