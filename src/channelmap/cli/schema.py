"""`channelmap schema`: print the JSON Schema of channels.yaml, or of a report, for editors and other tools."""

from importlib.resources import files

import click

from channelmap.cli.exits import Exit
from channelmap.cli.help import Command

_SCHEMAS = {"contract": "channels.schema.json", "report": "check/report/report.schema.json"}


@click.command(
    "schema",
    cls=Command,
    examples=["channelmap schema > channels.schema.json", "channelmap schema report"],
    exits={Exit.FINE: "The schema was printed.", Exit.USAGE: "Wrong arguments."},
)
@click.argument("which", type=click.Choice(list(_SCHEMAS), case_sensitive=False), default="contract")
def command(which: str) -> None:
    """Print the JSON Schema of channels.yaml.

    Editors complete and check a contract with this schema (draft-07). `report` is the schema of the output of
    `channelmap check --output json` instead (draft 2020-12).
    """
    click.echo(own_schema(which), nl=False)


def own_schema(which: str = "contract") -> str:
    """Read a schema that is shipped with the package."""
    return files("channelmap").joinpath(_SCHEMAS[which]).read_text(encoding="utf-8")
