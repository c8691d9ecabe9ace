"""The contract of this repository itself: the example that README shows is what its check lets pass."""

from pathlib import Path

import pytest

from channelmap.cli import channelmap
from channelmap.cli.exits import run

ROOT = Path(__file__).parents[1]


def test_the_repositorys_own_contract_and_its_senders_are_met_with_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CHANNELMAP_CONFIG", raising=False)

    code = run(channelmap, "channelmap", ["check", "--senders", "examples", "--fail-on", "info", "--output", "concise"])

    assert (code, capsys.readouterr().out) == (0, "")
