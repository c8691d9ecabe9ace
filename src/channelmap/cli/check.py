"""`channelmap check`: prove that file, schemas, examples and consumers agree."""

import click

from channelmap.checks import check
from channelmap.cli.exits import Exit
from channelmap.cli.options import CONFIG, prepare_imports
from channelmap.diagnostics import Severity
from channelmap.loader import load


@click.command("check")
@CONFIG
def command(config: str) -> int:
    """Check the contract file, its schemas, their examples and the consumers; exit 1 when something is wrong."""
    contract = load(config)
    prepare_imports(config)
    findings = check(contract)
    for diagnostic in findings:
        click.echo(diagnostic)
    errors = sum(diagnostic.severity is Severity.ERROR for diagnostic in findings)
    event_types = sum(len(channel.events) for channel in contract.channels.values())
    click.echo(
        f"{config}: {len(contract.channels)} channels, {event_types} event types, "
        f"{errors} errors, {len(findings) - errors} warnings",
        err=True,
    )
    return Exit.FINDINGS if errors else Exit.FINE
