"""`channelmap schema`: print the JSON Schema of channels.yaml, for editors and other tools."""

from importlib.resources import files

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of channels.yaml itself (draft-07).

    Editors complete and check the file with it: `channelmap schema > channels.schema.json`.
    """
    click.echo(own_schema(), nl=False)


def own_schema() -> str:
    """Read the schema that is shipped with the package."""
    return files("channelmap").joinpath("channels.schema.json").read_text(encoding="utf-8")
