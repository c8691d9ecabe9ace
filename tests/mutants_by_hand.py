"""Mutations of SQL and Lua, which no tool makes: each is put into a copy of the code, and a test must notice it.

They stand in `mutants_by_hand.toml`, with the tests that are to notice them. Exit code 1: one went unnoticed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def is_noticed(source: Path, tests: list[str]) -> bool:
    """Whether a test fails with the code in that directory."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", *tests]
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    code = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode
    if code not in (0, 1):
        raise SystemExit(f"the tests {tests} do not run: exit code {code}")
    return code == 1


def judge(mutation: dict[str, Any]) -> bool:
    """Make a mutation in a copy of the code, and return whether a test notices it."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        path = source / "channelmap" / mutation["file"]
        text = path.read_text()
        if text.count(mutation["text"]) != 1:
            raise SystemExit(f"{mutation['file']} has this {text.count(mutation['text'])} times: {mutation['text']}")
        path.write_text(text.replace(mutation["text"], mutation["instead"]))
        return is_noticed(source, mutation["tests"])


def main() -> int:
    mutations = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text())["mutations"]
    unnoticed = 0
    with ThreadPoolExecutor(4) as executor:
        for mutation, noticed in zip(mutations, executor.map(judge, mutations), strict=True):
            unnoticed += not noticed
            sys.stdout.write(f"{'killed  ' if noticed else 'SURVIVED'} {mutation['file']}: {mutation['what']}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(mutations)} mutations by hand: {len(mutations) - unnoticed} killed, {unnoticed} survived\n")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
