"""The command line: arguments, streams, signals and exit codes."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from channelmap.cli.exits import Exit, run
from channelmap.cli.help import Group
from channelmap.cli.options import VERSION

#: Modules of the commands; imported on demand, so that a worker does not import the others.
_COMMANDS = {
    "runworker": "channelmap.cli.runworker",
    "check": "channelmap.cli.check",
    "explain": "channelmap.cli.explain",
    "lock": "channelmap.cli.lock",
    "send": "channelmap.cli.send",
    "status": "channelmap.cli.status",
    "peek": "channelmap.cli.peek",
    "dead": "channelmap.cli.dead",
    "pause": "channelmap.cli.pause",
    "resume": "channelmap.cli.resume",
    "purge": "channelmap.cli.purge",
    "schema": "channelmap.cli.schema",
    "init": "channelmap.cli.init",
}


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            # click would suggest only commands that are already imported.
            raise click.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=["channelmap init", "channelmap check", "channelmap send greetings events.jsonl"],
    exits={
        Exit.FINE: "The command did what it was asked.",
        Exit.FINDINGS: "A contract is wrong, or an event was rejected.",
        Exit.USAGE: "Wrong arguments, or a missing file or layer.",
    },
)
@VERSION
def channelmap() -> None:
    """Map channels to consumers and schemas.

    Everything starts from one file, channels.yaml. `channelmap init` creates a first one.
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the `channelmap` command and exit."""
    sys.exit(run(channelmap, "channelmap", argv))


def runworker(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the `runworker` command and exit."""
    command: click.Command = import_module(_COMMANDS["runworker"]).command
    sys.exit(run(command, "runworker", argv))
