"""`channelmap lock`: record the contract of a release, for later checks."""

from datetime import UTC, datetime
from pathlib import Path

import click

from channelmap.check.compare import lock_of, release_of, write_lock
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.options import CONFIG
from channelmap.errors import quoted
from channelmap.loader import load


@click.command(
    "lock",
    cls=Command,
    examples=["channelmap lock 1.4.0", "channelmap check --against channelmap.lock.json"],
    exits={
        Exit.FINE: "The release was added, or nothing has changed.",
        Exit.FINDINGS: "The contract is wrong.",
        Exit.USAGE: "Wrong arguments, a missing contract, or an unusable lock.",
    },
)
@click.argument("name", metavar="RELEASE")
@CONFIG
def command(name: str, config: str) -> None:
    """Record the contract as a release.

    RELEASE is the name of the release, such as a version. It is added to the lock, a file beside the contract:
    channelmap.lock.json for channels.yaml, jobs.lock.json for jobs.yaml. Nothing is added if nothing has changed
    since the last release. `channelmap check --against LOCK` compares with the lock.
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
