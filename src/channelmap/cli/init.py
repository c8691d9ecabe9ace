"""`channelmap init`: write a first contract, schema and consumer that work at once."""

import os
from collections.abc import Iterable
from pathlib import Path

import click

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


@click.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
def command(directory: Path) -> None:
    """Write a first channels.yaml, a schema and a consumer into DIRECTORY (here, when it is not given).

    Nothing that exists is overwritten.
    """
    contents = {**_FILES, "channels.schema.json": own_schema()}
    existing = [name for name in contents if (directory / name).exists()]
    if existing:
        raise click.UsageError(f"{directory / existing[0]} exists already; nothing was written")
    _require_writable(directory / name for name in contents)
    for name, text in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    click.echo(
        "\nNow send an event and serve it:\n\n"
        """  channelmap send greetings '{"type": "greet", "name": "Ada"}'\n"""
        "  runworker --burst",
    )


def _require_writable(paths: Iterable[Path]) -> None:
    """Refuse before anything is written: half of a first contract helps nobody."""
    for path in paths:
        nearest = next(parent for parent in path.parents if parent.exists())
        if not nearest.is_dir():
            raise click.UsageError(f"{nearest} is not a directory; nothing was written")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise click.UsageError(f"nothing may be written to {nearest}; nothing was written")
