"""Tests whose program is missing are skipped at home, and fail in CI. These need no program, and always run."""

import subprocess
import sys

import pytest

from tests.full import programs


def test_a_test_without_its_program_is_skipped_at_home_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.PROGRAMS, "nothing", programs.Program("no-package", ("no-such-command",)))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"nothing is not installed \(Debian's package no-package\)"):
        programs.find("nothing")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nothing is not installed"):
        programs.find("nothing")


@pytest.mark.parametrize(("variables", "then"), [({}, "are skipped"), ({"CI": "true"}, "fail")])
def test_where_nothing_can_be_installed_missing_programs_are_named(variables: dict[str, str], then: str) -> None:
    command = [sys.executable, programs.__file__]
    done = subprocess.run(command, env={"PATH": "/nowhere", **variables}, capture_output=True, text=True, check=True)
    assert f"promtool is missing (Debian's package prometheus): tests that need it {then}\n" in done.stdout
