"""`channelmap lock`: write down what a release lets through, for later checks."""

from datetime import UTC, datetime
from pathlib import Path

import click

from channelmap.cli.options import CONFIG
from channelmap.compare import lock_of, release_of, write_lock
from channelmap.errors import quoted
from channelmap.loader import load


@click.command("lock")
@click.argument("name", metavar="RELEASE")
@CONFIG
def command(name: str, config: str) -> None:
    """Add the contract as it is to its lock, as the release of that name.

    The lock stands beside the contract: channelmap.lock.json for channels.yaml, jobs.lock.json for jobs.yaml.
    `channelmap check --against channelmap.lock.json` compares with it, with --transitive with all releases in it.
    Nothing is added where nothing has changed since the last one.
    """
    if not name.strip() or not name.isprintable():
        raise click.UsageError(
            f"{quoted(name)} cannot be the name of a release; expected printable text, such as '1.0'"
        )
    path = lock_of(Path(config))
    added = write_lock(path, release_of(load(config), name), datetime.now(UTC).date())
    click.echo(
        f"{path}: {'added' if added else 'nothing has changed, so nothing was added for'} release {quoted(name)}"
    )
