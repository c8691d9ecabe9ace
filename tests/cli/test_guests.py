"""Consumers that print, read stdin or start threads when `channelmap check` imports them."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Run, write_site

CHANNELS = """\
version: 1
channels:
  jobs: {consumer: work.Jobs, events: {job: true}}
"""
JOBS = """\
from channelmap import SyncConsumer

class Jobs(SyncConsumer):
    def job(self, event): ...
"""
TALKATIVE = """\
import atexit, os, subprocess, sys, threading

print("one")
os.write(1, b"two\\n")
subprocess.run(["echo", "three"], check=True)
sys.__stdout__.write("four\\n")
atexit.register(print, "five")
atexit.register(os.write, 1, b"six\\n")

def last():
    threading.main_thread().join()
    print("seven", flush=True)

threading.Thread(target=last).start()
"""


@pytest.fixture
def checked(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    write_site(project, CHANNELS, JOBS)
    return project


@pytest.fixture
def open_stdin() -> Iterator[int]:
    """Return the reading end of a pipe that stays open and empty."""
    reading, writing = os.pipe()
    yield reading
    os.close(writing)
    os.close(reading)


def shell(checked: Path, redirections: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = f"{shlex.quote(sys.executable)} -m channelmap check {redirections}"
    variables = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELMAP")}
    return subprocess.run(
        ["sh", "-c", command], cwd=checked, env=variables | environment, capture_output=True, check=False, timeout=60
    )


def test_output_of_consumers_is_never_part_of_a_report(checked: Path, run: Run) -> None:
    (checked / "work.py").write_text(TALKATIVE + JOBS)
    process = run("check", "--output", "json")
    assert json.loads(process.output)["diagnostics"] == []
    for word in ("one", "two", "three", "four", "five", "six", "seven"):
        assert f"{word}\n" in process.errors


def test_a_consumer_that_reads_stdin_does_not_block_a_check(checked: Path, open_stdin: int) -> None:
    (checked / "work.py").write_text("input()\n" + JOBS)
    process = subprocess.run(
        [sys.executable, "-m", "channelmap", "check"],
        cwd=checked, stdin=open_stdin, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert process.returncode == 1
    assert "importing 'work' raised EOFError" in process.stdout


def test_contracts_of_one_run_may_have_modules_of_the_same_name(checked: Path, run: Run) -> None:
    for name in ("first", "second"):
        (checked / name).mkdir()
        (checked / name / "channels.yaml").write_text(CHANNELS.replace("work.Jobs", f"parts.of.{name.title()}"))
        (checked / name / "parts").mkdir()
        (checked / name / "parts" / "of.py").write_text(JOBS.replace("Jobs", name.title()))
    process = run("check", "first/channels.yaml", "second/channels.yaml")
    assert (process.popen.returncode, process.output) == (0, "")


def test_modules_of_the_working_directory_are_imported_once_for_all_contracts(checked: Path, run: Run) -> None:
    (checked / "work.py").write_text("print('imported')\n" + JOBS)
    for name in ("first", "second"):
        (checked / name).mkdir()
        (checked / name / "channels.yaml").write_text(CHANNELS)
    process = run("check", "first/channels.yaml", "second/channels.yaml")
    assert process.popen.returncode == 0
    assert process.errors.count("imported") == 1


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_closed_stream_does_not_affect_a_check(checked: Path, closed: str) -> None:
    process = shell(checked, f"--output json {closed}")
    assert process.returncode == 0
    assert json.loads(process.stdout)["summary"]["files"] == 1


def test_characters_that_stdout_cannot_encode_are_escaped(checked: Path) -> None:
    (checked / "channels.yaml").write_text(CHANNELS.replace("jobs", "日本"), encoding="utf-8")
    process = shell(checked, "", PYTHONIOENCODING="latin-1")
    assert process.returncode == 1
    assert rb"'\u65e5\u672c' cannot be the name of a channel" in process.stdout
