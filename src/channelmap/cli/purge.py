"""`channelmap purge`: delete the waiting events of a channel."""

import asyncio
import sys

import click

from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.layers import open_shared_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.environment import shown
from channelmap.errors import quoted
from channelmap.layer import ChannelLayer, Counts, Purged
from channelmap.loader import load


@click.command(
    "purge",
    cls=Command,
    examples=["channelmap purge greetings", "channelmap purge greetings --yes"],
    exits={
        Exit.FINE: "The events were deleted.",
        Exit.FINDINGS: "The answer was not yes, or the contract is wrong.",
        Exit.USAGE: "Wrong arguments, an unknown channel, a missing file, or a layer that is missing or cannot do it.",
    },
)
@click.argument("channel", shell_complete=channel_names)
@CONFIG
@LAYER
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(channel: str, config: str, layer: str | None, *, yes: bool) -> int:
    """Delete the waiting events of a channel.

    CHANNEL is a channel of the contract. Scheduled events are deleted too. Events that a worker has taken are not: the
    worker handles them, and those that it has leased are redelivered if it fails. Dead letters stay;
    `channelmap dead drop` deletes them.
    """
    contract = load(config)
    name = contract.channel(channel).name
    opened = open_shared_layer(contract, layer, "nothing was deleted: an event")
    counts = asyncio.run(_count(opened, name))
    click.echo(
        f"channel {quoted(name)} of {shown(opened.url)}: {counts.waiting} waiting and {counts.scheduled} scheduled "
        f"events would be deleted; {counts.leased} leased events and {sum(counts.dead.values())} dead letters stay",
        err=True,
    )
    if not (counts.waiting or counts.scheduled):
        return Exit.FINE
    if not yes and not _is_confirmed():
        click.echo("nothing was deleted", err=True)
        return Exit.FINDINGS
    purged = asyncio.run(_purge(opened, name))
    click.echo(
        f"channel {quoted(name)}: deleted {purged.waiting} waiting and {purged.scheduled} scheduled events", err=True
    )
    return Exit.FINE


def _is_confirmed() -> bool:
    try:
        return click.confirm("Delete them?", err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        # Standard input has ended without an answer.
        click.echo("\nno answer; --yes deletes without asking", err=True)
        return False


async def _count(layer: ChannelLayer, channel: str) -> Counts:
    try:
        return (await layer.counts([channel]))[channel]
    finally:
        await layer.close()


async def _purge(layer: ChannelLayer, channel: str) -> Purged:
    try:
        return await layer.purge(channel)
    finally:
        await layer.close()
