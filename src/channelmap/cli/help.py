"""Help texts with examples and exit codes."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from channelmap.cli.exits import Exit

_EVERY_COMMAND = {
    str(int(Exit.INTERNAL)): "An internal error of channelmap.",
    str(int(Exit.READER_GONE)): "Stdout or stderr no longer has a reader.",
    "128 + N": "Ended by signal N.",
}


class Command(click.Command):
    """A command whose help text has examples and exit codes.

    Args:
        args: as for click.
        examples: command lines as a user types them.
        exits: meaning of the exit codes of this command, except those that all commands have.
        attributes: as for click.

    """

    def __init__(
        self, *args: Any, examples: Sequence[str], exits: Mapping[Exit, str] | None = None, **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.examples = examples
        self.exits = {str(int(code)): meaning for code, meaning in (exits or {}).items()} | _EVERY_COMMAND

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write both sections."""
        with formatter.section("Examples"):
            for example in self.examples:
                # Not `write_text`: a wrapped command line cannot be copied.
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl(list(self.exits.items()))


class Group(Command, click.Group):
    """A group of commands; its help text has the same sections."""
