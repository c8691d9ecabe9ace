"""Every code has a page with a working example, and docs/checks.md consists of the pages."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from channelmap.check import pages as package
from channelmap.check.pages import Page, page, pages
from channelmap.cli import channelmap
from channelmap.cli.exits import Exit
from channelmap.cli.exits import run as cli_run
from channelmap.codes import Code
from channelmap.errors import Rejection
from channelmap.layer import Cause

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "checks.md"
GOLDEN = ROOT / "tests" / "check" / "golden" / "err"
CODES: tuple[str, ...] = tuple(Code)
EVENT_CODES: tuple[str, ...] = (*get_args(Rejection), *get_args(Cause))

#: The line that ends the hand-written part of docs/checks.md.
MARK = "<!-- What follows is written by tests/docs/test_pages.py, from the pages of `channelmap explain`. -->\n"

GIT = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
}

#: The name of the directory of an example in pages.
PROJECT = "/srv/app"

_FENCE = re.compile(r"^```", re.MULTILINE)
_BLOCK = re.compile(r"^(?:`([^`\n]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STEP = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Return the environment of the commands: this Python, a committer, and no variables that change the format."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    # Other tests may have left modules of the same names.
    forget_modules(tmp_path.parent)
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    for name in ("GITHUB_ACTIONS", "CHANNELMAP_CONFIG", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)
    yield
    forget_modules(tmp_path)


def forget_modules(directory: Path) -> None:
    """Unload the modules that were imported from there."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(directory)):
            del sys.modules[name]


@pytest.mark.parametrize("code", CODES + EVENT_CODES)
@pytest.mark.usefixtures("environment")
def test_the_example_of_a_page_has_the_output_of_the_page(
    code: str, tmp_path: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*arguments: str) -> str:
        # In this process: there are nearly a hundred of them.
        assert cli_run(channelmap, "channelmap", ["check", *arguments]) != Exit.INTERNAL
        return capsys.readouterr().out

    shown = page(code)
    printed = ""
    for name, language, text in _BLOCK.findall(shown.text):
        assert name or language == "console", "this block is neither a file nor commands"
        if name:
            write(tmp_path / name, text)
        else:
            printed += "".join(perform(line, expected, run, check) for line, expected in _STEP.findall(text))
    told = f"{shown.kind}[{code}]" if code in CODES else f"[{code}]" if shown.kind == "rejection" else f"\t{code}\t"
    assert told in printed.replace("mail\t", "\t")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def perform(line: str, expected: str, run: Callable[..., Any], check: Callable[..., str]) -> str:
    """Run a command, compare its stdout with the expected text, and return it."""
    name, *arguments = shlex.split(line)
    if [name, *arguments[:1]] == ["channelmap", "check"]:
        printed = check(*arguments[1:])
    elif name == "channelmap":
        process = run(*arguments)
        assert process.popen.returncode != Exit.INTERNAL, process.errors
        printed = process.output
    else:
        printed = subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.PIPE, text=True).stdout
    printed = printed.replace(str(Path.cwd()), PROJECT)
    assert printed == expected, f"$ {line}\nprinted\n{printed}instead of\n{expected}"
    return printed


@pytest.mark.parametrize("code", CODES + EVENT_CODES)
def test_a_page_has_the_form_of_a_page(code: str) -> None:
    shown = page(code)
    title, _, summary, *rest = shown.text.splitlines()
    assert title == f"# {code}"
    assert summary == f"**{shown.kind}** {shown.summary}"
    assert shown.summary.endswith(".")
    assert len(rest) <= 45, "people who have just met a code read no more than that"
    assert len(_FENCE.findall(shown.text)) == 2 * len(_BLOCK.findall(shown.text))
    prose = _BLOCK.sub("", shown.text)
    assert max(map(len, prose.splitlines())) <= 120


def test_every_page_has_a_code() -> None:
    assert {path.stem for path in Path(package.__path__[0]).glob("*.md")} == set(CODES)
    assert {path.stem for path in Path(package.__path__[0]).glob("events/*.md")} == set(EVENT_CODES)
    assert [shown.code for shown in pages()] == [*CODES, *EVENT_CODES]


def test_an_unknown_code_has_no_page() -> None:
    with pytest.raises(KeyError):
        page("__init__")


def test_every_code_has_a_golden_project() -> None:
    met = {path.stem for path in GOLDEN.glob("*.out") if path.with_suffix("").is_dir()}
    assert met == set(CODES)


def test_the_reference_consists_of_the_pages() -> None:
    by_hand, mark, written = REFERENCE.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"docs/checks.md lacks the line {MARK}"
    expected = reference()
    if "RENEW" in os.environ:
        REFERENCE.write_text(by_hand + MARK + expected, encoding="utf-8")
    else:
        hint = "docs/checks.md is older than the pages; to write it anew, `make renew`"
        assert written == expected, hint


def reference() -> str:
    """Return the generated part of docs/checks.md: a table for each group, then the pages."""
    lines = ["", "## All codes"]
    group = ""
    for shown in pages():
        if package.CODES[shown.code].group != group:
            group = package.CODES[shown.code].group
            lines += ["", f"### {group}", "", "| code | kind | what is wrong |", "| --- | --- | --- |"]
        lines.append(f"| [`{shown.code}`](#{shown.code}) | {shown.kind} | {shown.summary} |")
    lines += ["", "## Each code"]
    return "\n".join(lines) + "\n" + "".join(f"\n{section(shown)}" for shown in pages())


def section(shown: Page) -> str:
    # Examples are tested with their pages; here their files would conflict.
    unrun = re.sub(r"^```(?=\w)", "<!-- not run: it is run as a page -->\n```", shown.text, flags=re.MULTILINE)
    return f"##{unrun}"
