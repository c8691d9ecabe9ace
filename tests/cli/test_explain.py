"""`channelmap explain`: pages by code, and the list of codes."""

from pathlib import Path
from typing import get_args

import pytest

from channelmap.check.pages import page
from channelmap.cli import channelmap
from channelmap.cli.exits import run as run_command
from channelmap.codes import Code
from channelmap.errors import Rejection
from channelmap.layer import Cause
from tests.cli.commands import Run, result
from tests.cli.terminals import on_a_terminal


def test_a_page_is_printed_unchanged(run: Run) -> None:
    assert result(run("explain", "handler-missing")) == (0, page("handler-missing").text, "")


def test_without_a_code_all_codes_are_listed_with_severity_and_summary(run: Run) -> None:
    code, output, _ = result(run("explain"))

    assert code == 0
    rows = [line.split(maxsplit=2) for line in output.splitlines()]
    assert [row[0] for row in rows] == [*[*Code], *get_args(Rejection), *get_args(Cause)]
    assert ["schema-mismatch", "rejection", page("schema-mismatch").summary] in rows
    assert ["engines-disagree", "warning", page("engines-disagree").summary] in rows


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("handler-mising", "handler-missing"), ("schema-missmatch", "schema-mismatch"),
        ("schema_mismatch", "schema-mismatch"),
        ("unknown-typ", "unknown-type"), ("unsupported-values", "unsupported-value"), ("unroutabel", "unroutable"),
    ],
)  # fmt: skip
def test_a_misspelt_code_gets_the_most_similar_one_as_a_suggestion(
    misspelt: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(channelmap, "channelmap", ["explain", misspelt]) == 2
    assert f"there is no code '{misspelt}'; did you mean '{meant}'?" in capsys.readouterr().err


@pytest.mark.parametrize("code", [*get_args(Rejection), *get_args(Cause)])
def test_codes_of_rejections_and_dead_letters_are_explained_too(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(channelmap, "channelmap", ["explain", code]) == 0
    assert capsys.readouterr().out == page(code).text


def test_a_code_without_a_similar_one_gets_a_hint_to_the_list(run: Run) -> None:
    code, output, errors = result(run("explain", "E501"))

    assert (code, output) == (2, "")
    assert "there is no code 'E501'; 'channelmap explain' lists all codes" in errors


def test_on_a_terminal_a_page_is_rendered(tmp_path: Path) -> None:
    shown = on_a_terminal("explain", "handler-missing")

    assert "The consumer has no method for an event type." in shown
    assert "**" not in shown
    assert "```" not in shown
    assert "\x1b[" in shown
