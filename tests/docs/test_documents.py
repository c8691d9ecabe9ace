"""Every command and snippet of the documentation works as documented.

A document's blocks are run from top to bottom in one empty directory:

- `console`: each line that begins with `$ ` is a command, `> ` continues it; its whole output follows,
  where `…` matches any text, and alone on a line any number of lines. A command must succeed unless
  `$ echo $?` follows it.
- `yaml`: a whole contract, or a part of one: then version, or a channel, is added. It must load.
- `json`: must be JSON.
- `python`: a program; it must run without an error.
- `promql`: an expression of Prometheus; its metrics and labels must exist.
- `text`: pictures and examples of output; not tested.

`<!-- file: NAME -->` above a block writes it to that file instead; `<!-- not run: REASON -->` suppresses one.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import channelmap
from channelmap import load
from tests.docs.promql import check as check_promql

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<order>file|not run): (?P<value>.+?) -->\n)?"
    r"^(?P<fence>```+)(?P<language>\S*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_STEP = re.compile(r"^\$ (.*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_A_CHANNEL = "channels: {{{name}: {{consumer: consumers.Consumer, events: {{ping: true}}}}}}\n"


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    text: str
    order: str | None
    value: str | None


def blocks_of(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("fence")) + 2
        yield Block(line, found["language"], found["text"], found["order"], found["value"])


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory, with the commands of this installation on the path and no other variables."""
    for name in list(os.environ):
        if name.startswith(("CHANNELMAP", "DJANGO", "GITHUB")):
            monkeypatch.delenv(name)
    commands = tmp_path / "bin"
    commands.mkdir()
    python = shlex.quote(sys.executable)
    for name, run in {
        "python": python,
        "channelmap": f"{python} -m channelmap",
        "runworker": f"{python} -c 'from channelmap.__main__ import runworker; runworker()'",
    }.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {run} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(channelmap.__file__).parents[1]))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_of_a_document_works(document: Path, directory: Path) -> None:
    for block in blocks_of(document.read_text(encoding="utf-8")):
        try:
            do(block, directory)
        except Exception as error:
            raise AssertionError(f"{document.relative_to(ROOT)}:{block.line}: {error}") from error


def test_every_fence_of_a_document_is_found() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        fences = len(re.findall(r"^\s*```", text, re.MULTILINE))
        assert fences == 2 * len(list(blocks_of(text))), f"{document.name} has a fence that no test sees"


def test_every_link_of_a_document_has_a_target() -> None:
    for document in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    text = _BLOCK.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_to_a_heading_has_a_target() -> None:
    for document in DOCUMENTS:
        text = _BLOCK.sub("", document.read_text(encoding="utf-8"))
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
            linked = document.parent / target if target else document
            assert anchor in anchors_of(linked), f"{document.name} links to {target}#{anchor}, which is not there"


def do(block: Block, directory: Path) -> None:
    if block.order == "not run":
        return
    if block.order == "file":
        assert block.value is not None
        path = directory / block.value
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    match block.language:
        case "console":
            run_console(block.text)
        case "yaml":
            load_part(block.text, directory)
        case "json":
            json.loads(block.text)
        case "python":
            subprocess.run([sys.executable, "-c", block.text], check=True)
        case "promql":
            check_promql(block.text)
        case "text":
            pass
        case other:
            raise AssertionError(f"no rule for blocks of the language '{other}'")


def load_part(text: str, directory: Path) -> None:
    if not re.search("^version:", text, re.MULTILINE):
        text = f"version: 1\n{text}"
    if not re.search("^channels:", text, re.MULTILINE):
        text += _A_CHANNEL.format(name="a-channel")
    path = directory / "part.yaml"
    path.write_text(text, encoding="utf-8")
    load(path)


def run_console(text: str) -> None:
    code = 0
    steps = _STEP.findall(text)
    assert text == "".join(f"$ {lines}\n{expected}" for lines, expected in steps), "this begins with no command"
    for index, (lines, expected) in enumerate(steps):
        command = lines.replace("\n> ", "\n")
        done = subprocess.run(
            ["bash", "-c", f"(exit {code}); {command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        assert matches(done.stdout, expected), f"$ {command}\nprinted\n{done.stdout}instead of\n{expected}"
        code = done.returncode
        follows = steps[index + 1][0] if index + 1 < len(steps) else ""
        assert code == 0 or follows == "echo $?", f"$ {command}\nended with exit code {code}\n{done.stdout}"


def matches(printed: str, expected: str) -> bool:
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…\n" else ".*?".join(map(re.escape, line.split("…")))
        for line in expected.splitlines(keepends=True)
    )
    return re.fullmatch(pattern, printed) is not None


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one\ntwo\n", "one\n", False),
        ("one\ntwo\n", "one\n…\n", True),
        ("12:30 ready\n", "… ready\n", True),
        ("12:30 ready!\n", "… ready\n", False),
    ],
)
def test_printed_output_is_compared_as_a_whole(printed: str, expected: str, same: bool) -> None:  # noqa: FBT001
    assert matches(printed, expected) is same


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, f"{document.name} names {named - targets}"
