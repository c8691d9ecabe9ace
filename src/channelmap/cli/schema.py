"""`channelmap schema`: print the JSON Schema of channels.yaml, or of a report, for editors and other tools."""

from importlib.resources import files

import click

_SCHEMAS = {"contract": "channels.schema.json", "report": "report/report.schema.json"}


@click.command("schema")
@click.argument("which", type=click.Choice(list(_SCHEMAS)), default="contract")
def command(which: str) -> None:
    """Print the JSON Schema of channels.yaml itself (draft-07), or of `check --output json` (draft 2020-12).

    Editors complete and check the file with it: `channelmap schema > channels.schema.json`.
    """
    click.echo(own_schema(which), nl=False)


def own_schema(which: str = "contract") -> str:
    """Read a schema that is shipped with the package."""
    return files("channelmap").joinpath(_SCHEMAS[which]).read_text(encoding="utf-8")
