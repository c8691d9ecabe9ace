"""Run a command of channelmap as a command of `manage.py`."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from channelmap.cli.exits import run
from channelmap.django.settings import contract_path
from channelmap.loader.files import absolute


class ChannelmapCommand(BaseCommand):
    """A command whose arguments, help text and exit codes are those of a command of channelmap.

    It uses the contract of the settings, unless `--config` or $CHANNELMAP_CONFIG names another one.
    """

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return a parser of Django's own options, which leaves all others to channelmap."""
        parser = super().create_parser(prog_name, subcommand, add_help=False, allow_abbrev=False, **kwargs)

        def parse_args(args: Sequence[str] | None = None, namespace: Any = None) -> Namespace:
            options, rest = ArgumentParser.parse_known_args(parser, args, namespace)
            options.args = rest
            return cast("Namespace", options)

        parser.parse_args = parse_args
        return parser

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Show the help text of channelmap."""
        run(self.command(), f"{prog_name} {subcommand}", ["--help"])

    def command(self) -> click.Command:
        """Return the command of channelmap."""
        raise NotImplementedError

    def handle(self, *args: str, **_: Any) -> None:
        """Run the command; exit if its code is not 0."""
        try:
            os.environ.setdefault("CHANNELMAP_CONFIG", str(absolute(contract_path())))
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        subcommand = type(self).__module__.rpartition(".")[2]
        code = run(self.command(), f"{Path(sys.argv[0]).name} {subcommand}", args, start=_start_command())
        if code:
            sys.exit(code)


def _start_command() -> list[str]:
    """Return the command line that starts `manage.py` again, for the processes of a worker."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":  # python -m django
        return [sys.executable, "-m", "django"]
    return [sys.executable, str(absolute(script))]
