"""docs/architecture.md lists every package, and no file that does not exist."""

import re
from pathlib import Path

import channelmap

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
SOURCE = Path(channelmap.__file__).parent


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def packages(directory: Path) -> set[str]:
    """Return the names of the modules and packages in a directory, except `check`, whose parts are listed instead."""
    found = {path.stem for path in directory.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    return found - {"__init__", "__main__", "check"}


def test_the_table_of_packages_has_each_package_once() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \|", section("Packages"), re.MULTILINE)
    expected = packages(SOURCE) | {f"check/{name}" for name in packages(SOURCE / "check")}
    assert sorted(rows) == sorted(expected)


def test_every_file_that_the_page_names_exists() -> None:
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+(?:\.py)?)`", PAGE)
    missing = [name for name in named if not list(SOURCE.glob(f"{name}*"))]
    assert missing == []
