"""The repository's own contract and example work."""

import os
import subprocess
import sys
from pathlib import Path

import channelmap

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CHANNELMAP")}
    variables["PYTHONPATH"] = str(Path(channelmap.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=variables | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_repository_s_own_contract_passes_its_check_silently() -> None:
    done = run("channelmap", "check")
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_the_demo_tells_its_story_to_the_end_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        done = run("examples.thumbnails.demo", THUMBNAILS_DEMO=str(tmp_path / "demo"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All as expected" in done.stdout
    assert len(list((tmp_path / "demo" / "media" / "thumbnails").iterdir())) == 4


def test_the_demo_fails_loudly_when_its_layer_cannot_be_made(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run("examples.thumbnails.demo", THUMBNAILS_DEMO=str(blocked / "demo"))
    assert done.returncode != 0
    assert "All as expected" not in done.stdout
