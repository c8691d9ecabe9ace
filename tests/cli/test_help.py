"""`--help` of every command: a short summary, text for every option, examples that parse, and exit codes."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from channelmap.cli import channelmap
from channelmap.cli.exits import run
from channelmap.cli.runworker import command as runworker


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield the contexts of a command and of all its subcommands."""
    context = click.Context(command, parent, name, terminal_width=80, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from contexts(found, below, context)


CONTEXTS = [*contexts(channelmap, "channelmap"), *contexts(runworker, "runworker")]
every_command = pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)


def section(help_text: str, title: str) -> list[str]:
    """Return the lines of a section of a help text."""
    lines = re.search(rf"^{title}:\n((?:  .*\n?)+)", help_text, re.MULTILINE)
    assert lines, f"there is no section '{title}'"
    return [line.strip() for line in lines[1].splitlines()]


def is_sentence(text: str) -> bool:
    return re.fullmatch(r"[A-Z].*\.", text, re.DOTALL) is not None


def test_all_commands_are_found() -> None:
    assert {context.command_path for context in CONTEXTS} >= {
        "channelmap", "channelmap check", "channelmap dead", "channelmap dead replay", "channelmap runworker",
        "runworker",
    }  # fmt: skip


@every_command
def test_the_summary_of_a_command_is_a_short_sentence_on_its_own_line(context: click.Context) -> None:
    summary, _, _ = (context.command.help or "").partition("\n\n")

    assert is_sentence(summary)
    assert len(summary) <= 45
    assert context.command.get_short_help_str() == summary.removesuffix(".") + "."


@every_command
def test_a_list_of_commands_is_not_cut_off(context: click.Context) -> None:
    help_text = context.get_help()

    assert "..." not in help_text.replace("]...", "").replace("ARGS...", "").replace("CHANNEL...", "").replace(
        ",...", ""
    )
    assert max(map(len, help_text.splitlines())) <= 80


@every_command
def test_every_option_has_a_sentence(context: click.Context) -> None:
    for option in context.command.get_params(context):
        if isinstance(option, click.Option):
            assert is_sentence(option.help or ""), f"{context.command_path} {option.opts[0]}: {option.help}"


@every_command
def test_every_argument_is_explained(context: click.Context) -> None:
    for argument in context.command.get_params(context):
        if isinstance(argument, click.Argument):
            for name in re.findall("[a-z]+", argument.make_metavar(context), re.IGNORECASE):
                assert re.search(rf"\b{name}\b", context.command.help or ""), f"{context.command_path} {name}"


@every_command
def test_the_help_of_a_command_lists_its_exit_codes(context: click.Context) -> None:
    codes = [line.partition("  ") for line in section(context.get_help(), "Exit codes")]

    assert {"0", "2", "3", "128 + N"} <= {code for code, _, _ in codes}


@every_command
def test_every_example_of_a_command_can_be_parsed(context: click.Context) -> None:
    examples = section(context.get_help(), "Examples")

    # `runworker` is also a separate command.
    path = context.command_path.replace("channelmap runworker", "runworker")
    assert any(example.startswith(path) for example in examples)
    for example in examples:
        parse(example)


def parse(example: str) -> None:
    """Parse a command line as the shell and click do, without running it."""
    name, *arguments = shlex.split(re.split(" [<>] ", example)[0])
    command: click.Command = {"channelmap": channelmap, "runworker": runworker}[name]
    parent = None
    while isinstance(command, click.Group):
        parent = click.Context(command, parent, **command.context_settings)
        _, found, arguments = command.resolve_command(parent, arguments)
        assert found is not None
        command = found
    command.make_context(name, arguments, parent)


def test_choices_of_options_are_not_case_sensitive() -> None:
    for context in CONTEXTS:
        for param in context.command.get_params(context):
            if isinstance(param.type, click.Choice):
                choice = param.type.choices[-1]
                assert param.type.convert(choice.upper(), param, context) == choice


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("channelmap", ["--version"], "channelmap"),
        ("channelmap", ["runworker", "--version"], "channelmap"),
        ("runworker", ["--version"], "runworker"),
    ],
)
def test_both_console_scripts_print_the_version(name: str, arguments: list[str], shown: str) -> None:
    script = Path(sys.executable).with_name(name)
    done = subprocess.run([script, *arguments], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == (f"{shown} {version('channelmap')}\n", "")


def test_h_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["-h"], ["dead", "list", "-h"]):
        assert run(channelmap, "channelmap", arguments) == 0
        assert "Exit codes:" in capsys.readouterr().out
