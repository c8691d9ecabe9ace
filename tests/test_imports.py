"""Dotted paths: what is missing, what is broken, and what was probably meant."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.imports import AttributeMissing, ModuleBroken, ModuleMissing, import_dotted


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module that is forgotten after the test; its name is `imported`, in the package `pack`."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()

    def write(code: str) -> str:
        (package / "imported.py").write_text(code)
        return str(package / "imported.py")

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]


def problem(path: str, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        import_dotted(path)
    assert type(caught.value) is kind
    return str(caught.value)


def test_a_dotted_path_names_an_object(module: Callable[[str], str]) -> None:
    module("class Consumer: ...\n")
    assert import_dotted("pack.imported.Consumer").__name__ == "Consumer"


def test_a_missing_module_is_missing() -> None:
    hint = "is the directory that holds 'nowhere' on the Python path?"
    assert problem("nowhere.consumers.A", ModuleMissing) == f"there is no module 'nowhere'; {hint}"


def test_a_missing_module_of_a_package_is_missing(module: Callable[[str], str]) -> None:
    assert problem("pack.nowhere.A", ModuleMissing) == "there is no module 'pack.nowhere'"


def test_a_module_below_one_that_is_no_package_is_missing(module: Callable[[str], str]) -> None:
    module("class Consumer: ...\n")
    assert problem("pack.imported.Consumer.A", ModuleMissing) == "there is no module 'pack.imported.Consumer'"


@pytest.mark.parametrize("path", ["A", "a..b", ".a.b", "a.b.", "a b.c", "", "a.1"])
def test_what_is_no_dotted_path_is_refused(path: str) -> None:
    hint = "expected module and name, such as 'app.consumers.Consumer'"
    assert problem(path, ModuleMissing) == f"'{path}' is not a dotted path; {hint}"


def test_a_colon_is_refused_with_the_right_spelling() -> None:
    assert problem("a.b:C", ModuleMissing) == "'a.b:C' is not a dotted path; write 'a.b.C'"


def test_a_missing_name_is_told_with_the_nearest_one(module: Callable[[str], str]) -> None:
    module("class Consumer: ...\n")
    expected = "'pack.imported' has no 'Consumr'; did you mean 'Consumer'?"
    assert problem("pack.imported.Consumr", AttributeMissing) == expected


@pytest.mark.parametrize(
    ("code", "line", "reason"),
    [
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("\nimport no_such_library\n", 2, "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import pack.nowhere\n", 1, "ModuleNotFoundError: No module named 'pack.nowhere'"),
        ("import pack.imported.nowhere\n", 1, None),
        ("raise RuntimeError\n", 1, "RuntimeError"),
        (
            "class Mute(Exception):\n    def __str__(self): raise self\nraise Mute\n",
            3,
            "Mute: its text is not available",
        ),
        ("x = (\n", 1, "SyntaxError: '(' was never closed (imported.py, line 1)"),
    ],
)
def test_a_module_that_raises_is_broken_and_its_line_is_told(
    module: Callable[[str], str], code: str, line: int, reason: Any
) -> None:
    path = module(code)
    told = problem("pack.imported.A", ModuleBroken)
    assert told.endswith(f" at {path}:{line}")
    assert reason is None or told == f"importing 'pack.imported' raised {reason} at {path}:{line}"


def test_an_interrupt_is_not_a_broken_module(module: Callable[[str], str]) -> None:
    module("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        import_dotted("pack.imported.A")
