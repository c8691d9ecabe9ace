"""A misspelt command, option, code or channel gets a suggestion."""

from collections.abc import Callable
from pathlib import Path

import pytest

from channelmap.cli import channelmap
from channelmap.cli.exits import run


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        ("chek", "No such command 'chek'. Did you mean 'check'?"),
        ("sned jobs {}", "No such command 'sned'. Did you mean 'send'?"),
        ("runworkr", "No such command 'runworkr'. Did you mean 'runworker'?"),
        ("dead lst", "No such command 'lst'. Did you mean 'list'?"),
        ("--vrsion", "No such option '--vrsion'. Did you mean '--version'?"),
        ("send --confg x.yaml jobs {}", "No such option '--confg'. Did you mean '--config'?"),
        ("dead list --chanel jobs", "No such option '--chanel'. Did you mean '--channel'?"),
        ("check --select handler-mising", "there is no code 'handler-mising'; did you mean 'handler-missing'?"),
        ("check --output jsn", "there is no format 'jsn'; did you mean 'json'?"),
        ("explain unknwon-type", "there is no code 'unknwon-type'; did you mean 'unknown-type'?"),
        ("runworker job", "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"),
        ("send job {}", "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"),
        ("pase jobs", "No such command 'pase'. Did you mean 'pause'?"),
        ("dead list --channel job", "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"),
        ("dead replay --all --channel job", "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"),
        ("dead drop --all --channel job", "no channel 'job'; the contract declares 'jobs'; did you mean 'jobs'?"),
    ],
)
def test_a_misspelt_name_gets_the_most_similar_one_as_a_suggestion(
    command: str, suggestion: str, contract_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    contract_file(layer="sqlite:///channels.db")

    assert run(channelmap, "channelmap", command.split()) == 2
    assert suggestion in capsys.readouterr().err


def test_a_command_without_a_similar_name_gets_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(channelmap, "channelmap", ["frobnicate"]) == 2
    assert "mean" not in capsys.readouterr().err
