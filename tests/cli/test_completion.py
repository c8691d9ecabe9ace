"""Completion in bash: the script that users source, and its completions of command lines."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap.codes import Code

CHANNELS = """\
version: 1
channels:
  jobs-mail: {consumer: work.Jobs, events: {send: true, send.later: true, resize: true}}
  jobs-images: {consumer: work.Jobs, events: {resize: true, "it's": true, "a*": true}}
  other: {consumer: work.Jobs, events: {ping: true}}
  "${SECRET}-hidden": {consumer: work.Jobs, events: {ping: true}}
"""

#: Calls the function that the sourced script installs, as bash does when the Tab key is pressed.
SCRIPT = """\
eval "$(_{upper}_COMPLETE=bash_source {command})"
compopt() {{ echo "compopt:" "$@"; }}
COMP_CWORD=$(( $# - 1 ))
COMP_WORDS=("$@")
complete -p {command} > /dev/null || exit 1
_{command}_completion {command}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def complete(project: Path) -> Callable[..., list[str]]:
    """Return the completions of the last word of a command line; nothing else may be printed."""
    (project / "channels.yaml").write_text(CHANNELS)

    def call(*words: str, **environment: str) -> list[str]:
        script = SCRIPT.format(command=words[0], upper=words[0].upper())
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash-completion", *words],
            env=os.environ | {"PATH": path, "SECRET": "jobs-hush"} | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if line]

    return call


def test_commands_and_options_are_completed(complete: Callable[..., list[str]]) -> None:
    assert complete("channelmap", "s") == ["send", "status", "schema"]
    assert complete("channelmap", "dead", "re") == ["replay"]
    assert complete("channelmap", "send", "--c") == ["--config"]


@pytest.mark.parametrize(
    "words",
    [
        ("channelmap", "send"),
        ("channelmap", "runworker"),
        ("runworker",),
        ("channelmap", "dead", "list", "--channel"),
        ("channelmap", "pause"),
        ("channelmap", "resume"),
    ],
)
def test_channels_are_completed(complete: Callable[..., list[str]], words: tuple[str, ...]) -> None:
    assert complete(*words, "jobs-") == ["jobs-images", "jobs-mail"]
    assert complete(*words, "") == ["jobs-images", "jobs-mail", "other"]


def test_a_channel_is_not_completed_twice(complete: Callable[..., list[str]]) -> None:
    assert complete("runworker", "other", "jobs-mail", "") == ["jobs-images"]
    assert complete("channelmap", "pause", "other", "jobs-mail", "") == ["jobs-images"]


def test_channels_are_those_of_the_named_contract(complete: Callable[..., list[str]], project: Path) -> None:
    (project / "more.yaml").write_text(CHANNELS.replace("other", "others-of-more"))

    assert complete("runworker", "--config", "more.yaml", "o") == ["others-of-more"]
    assert complete("runworker", "o", CHANNELMAP_CONFIG="more.yaml") == ["others-of-more"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("'{", ['{"type": "resize"}', '{"type": "send"}', '{"type": "send.later"}']),
        ("""'{"type": "se""", ['{"type": "send"}', '{"type": "send.later"}']),
        ("""'{"type":"re""", ['{"type":"resize"}']),
        ("""'{"other": 1""", []),
    ],
)
def test_the_event_types_of_the_channel_are_completed(
    complete: Callable[..., list[str]], typed: str, offered: list[str]
) -> None:
    assert complete("channelmap", "send", "jobs-mail", typed) == offered


def test_a_name_that_the_shell_would_expand_is_not_completed(complete: Callable[..., list[str]]) -> None:
    assert complete("channelmap", "send", "jobs-images", "'{") == ['{"type": "resize"}']


def test_codes_are_completed(complete: Callable[..., list[str]]) -> None:
    assert complete("channelmap", "explain", "unknown-t") == ["unknown-type"]
    assert complete("channelmap", "check", "--ignore", "too-deep,handler-mi") == ["too-deep,handler-missing"]
    assert len(complete("channelmap", "check", "--select", "")) == len([*Code])
    assert complete("channelmap", "check", "--output", "j") == ["json", "junit"]


@pytest.mark.parametrize(
    "words",
    [
        ("check",), ("send", "--config"), ("runworker", "--config"), ("send", "other"),
        ("check", "--senders"), ("check", "--against"),
    ],
)  # fmt: skip
def test_files_are_completed_by_the_shell(complete: Callable[..., list[str]], words: tuple[str, ...]) -> None:
    assert complete("channelmap", *words, "chan") == ["compopt: -o default"]


@pytest.mark.parametrize("text", ["channels: [", "version: 1\nchannels: {a: {}}\n", None])
def test_a_contract_that_cannot_be_read_completes_and_prints_nothing(
    run: Callable[..., Any], project: Path, text: str | None
) -> None:
    if text is not None:
        (project / "channels.yaml").write_text(text)

    for words in ("channelmap send ", "channelmap send jobs-mail '{", "channelmap runworker "):
        process = run(_CHANNELMAP_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))

        assert (process.popen.returncode, process.output.strip(), process.errors) == (0, "", "")
