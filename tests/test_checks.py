"""Every diagnostic, word for word: pairs of a contract and what is found in it, below `check/`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelmap.checks import check
from channelmap.cli import channelmap
from channelmap.cli.exits import run
from channelmap.diagnostics import Diagnostic
from channelmap.errors import ContractError
from channelmap.loader import load
from channelmap.validation import Validator

CHECK = Path(__file__).parent / "check"
MODULES = CHECK / "modules"


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(MODULES)
    yield
    for path in MODULES.glob("*.py"):
        sys.modules.pop(path.stem, None)


def findings(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Diagnostic, ...]:
    monkeypatch.chdir(directory)
    try:
        return check(load())
    except ContractError as error:
        return error.diagnostics


@pytest.mark.parametrize("expected", sorted(CHECK.glob("err/*.out")), ids=lambda path: path.stem)
def test_a_bad_contract_is_told_what_is_wrong(expected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(expected.with_suffix(""), monkeypatch)
    assert "".join(f"{line}\n" for line in found).replace(str(MODULES), "MODULES") == expected.read_text()
    assert expected.stem in {diagnostic.code for diagnostic in found}


@pytest.mark.parametrize("directory", sorted(CHECK.glob("ok/*")), ids=lambda path: path.name)
def test_a_good_contract_is_met_with_silence(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(directory, monkeypatch) == ()


def test_a_second_opinion_is_asked_for_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECK / "err" / "engines-disagree")
    found = check(load())
    assert {diagnostic.code for diagnostic in found} == {"engines-disagree"}
    monkeypatch.setattr(Validator, "second_opinion", None)
    assert check(load(), second_opinion=False) == ()


def test_every_bad_contract_has_its_expectation() -> None:
    bad = {path.name for path in CHECK.glob("err/*") if path.is_dir()}
    assert bad == {path.stem for path in CHECK.glob("err/*.out")}


@pytest.mark.parametrize(
    "directory",
    sorted(path for kind in ("err", "ok") for path in CHECK.glob(f"{kind}/*") if path.is_dir()),
    ids=lambda p: p.name,
)
def test_the_command_prints_what_is_found_and_says_so_by_its_exit_code(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = directory.with_suffix(".out") if directory.with_suffix(".out").exists() else None
    monkeypatch.chdir(directory)
    monkeypatch.delenv("CHANNELMAP_CONFIG", raising=False)

    code = run(channelmap, "channelmap", ["check"])

    printed = capsys.readouterr()
    said = printed.out.replace(str(MODULES), "MODULES")
    assert said == (expected.read_text() if expected else "")
    assert "Traceback" not in printed.err
    assert code == (2 if directory.name == "file-missing" else 1 if ": error[" in said else 0)
