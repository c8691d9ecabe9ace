"""`channelmap init`: create a working contract, schema and consumer."""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import click

from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.schema import own_schema

_FILES = {
    "channels.yaml": """\
# yaml-language-server: $schema=./channels.schema.json
version: 1
layer: ${CHANNELMAP_LAYER:-sqlite:///channels.db}

channels:
  greetings:
    description: Say hello to people.
    consumer: consumers.GreetingConsumer
    events:
      greet:
        schema: schemas/greetings/greet.json
        accepts: [{type: greet, name: Ada}]
        rejects: [{type: greet}, {type: greet, name: 42}]
""",
    "schemas/greetings/greet.json": """\
{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "description": "Somebody wants to be greeted.",
  "type": "object",
  "properties": {
    "name": {"type": "string", "minLength": 1}
  },
  "required": ["name"],
  "additionalProperties": false
}
""",
    "consumers.py": '''\
"""What is done with events: one class a channel, one method an event type."""

from channelmap import SyncConsumer


class GreetingConsumer(SyncConsumer):
    def greet(self, event):
        print(f"Hello, {event['name']}!", flush=True)
''',
}

#: The line of `.gitignore` that excludes the layer's database, and the files that it must exclude.
_DATABASE = "channels.db*"
_DATABASE_FILES = ("channels.db", "channels.db-wal", "channels.db-shm")


@click.command(
    "init",
    cls=Command,
    examples=["channelmap init", "channelmap init services/mail"],
    exits={Exit.FINE: "The files were written.", Exit.USAGE: "A file exists or cannot be written."},
)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
def command(directory: Path) -> None:
    """Create a first contract and consumer.

    DIRECTORY gets channels.yaml, a schema and a consumer; it is the working directory if it is not given. Existing
    files are never overwritten. `.gitignore` gets a line for the database, unless it has one.
    """
    contents = {**_FILES, "channels.schema.json": own_schema()}
    existing = [str(directory / name) for name in contents if os.path.lexists(directory / name)]
    if existing:
        verb = "exists" if len(existing) == 1 else "exist"
        raise click.UsageError(
            f"{', '.join(existing)} {verb} already; nothing was written; "
            f"move what exists away, or name another directory: channelmap init DIRECTORY"
        )
    gitignore = directory / ".gitignore"
    _require_writable(directory / name for name in (*contents, gitignore.name))
    if gitignore.exists() and not os.access(gitignore, os.W_OK):
        raise click.UsageError(f"nothing may be written to {gitignore}; nothing was written")
    ignored = gitignore.read_bytes() if gitignore.exists() else None
    for name, text in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    click.echo(_ignore_database(gitignore, ignored))
    click.echo(
        "\nNow send an event and serve it:\n\n"
        """  channelmap send greetings '{"type": "greet", "name": "Ada"}'\n"""
        "  runworker --burst",
    )


def _require_writable(paths: Iterable[Path]) -> None:
    """Raise UsageError before anything is written, if a file cannot be written."""
    for path in paths:
        nearest = next(parent for parent in path.parents if parent.exists())
        if not nearest.is_dir():
            raise click.UsageError(f"{nearest} is not a directory; nothing was written")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise click.UsageError(f"nothing may be written to {nearest}; nothing was written")


def _ignore_database(gitignore: Path, current: bytes | None) -> str:
    """Make git ignore the database; return a description.

    Args:
        gitignore: the file.
        current: its content; `None` if it does not exist.

    """
    if current is None:
        gitignore.write_text(f"{_DATABASE}\n", encoding="utf-8")
        return f"wrote {gitignore}"
    lines = current.decode("utf-8", errors="replace").splitlines()
    if all(_is_ignored(file, lines) for file in _DATABASE_FILES):
        return f"left {gitignore} as it is: it ignores {_DATABASE} already"
    with gitignore.open("a", encoding="utf-8") as file:
        file.write(("" if not current or current.endswith(b"\n") else "\n") + f"{_DATABASE}\n")
    return f"added {_DATABASE} to {gitignore}"


def _is_ignored(file: str, lines: Iterable[str]) -> bool:
    """Return whether lines of a `.gitignore` ignore a file beside it: the last matching pattern decides."""
    ignored = False
    for line in lines:
        pattern = line.rstrip().removeprefix("!").removeprefix("**/").removeprefix("/")
        if fnmatchcase(file, pattern):
            ignored = not line.startswith("!")
    return ignored
