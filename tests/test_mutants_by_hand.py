"""The mutations of SQL and Lua, which `make mutants` applies, fit the code and the tests as they are."""

import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MUTATIONS = tomllib.loads((TESTS / "mutants_by_hand.toml").read_text())["mutations"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation["what"])
def test_a_mutation_by_hand_changes_one_place_and_names_tests(mutation: dict[str, str]) -> None:
    code = (TESTS.parent / "src/channelmap" / mutation["file"]).read_text()
    assert code.count(mutation["text"]) == 1
    assert mutation["instead"] != mutation["text"]
    assert all((TESTS.parent / test.split("::")[0]).exists() for test in mutation["tests"])
