"""The contract of this repository itself, and that of the example site: what its check lets pass."""

import subprocess
import sys
from pathlib import Path

import pytest

from channelmap.cli import channelmap
from channelmap.cli.exits import run

ROOT = Path(__file__).parents[1]
STRICTLY = ("--fail-on", "info", "--output", "concise")


def test_the_repositorys_own_contract_and_its_senders_are_met_with_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CHANNELMAP_CONFIG", raising=False)

    code = run(channelmap, "channelmap", ["check", "--senders", "examples/thumbnails", *STRICTLY])

    assert (code, capsys.readouterr().out) == (0, "")


def test_the_contract_of_the_example_site_its_senders_and_settings_are_met_with_silence() -> None:
    for arguments in (["check", "--fail-level", "INFO"], ["channelmap", "check", "--senders", ".", *STRICTLY]):
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT / "examples/site", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr
