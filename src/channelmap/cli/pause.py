"""`channelmap pause`: stop workers from taking events of channels until they are resumed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import click

from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.layers import open_shared_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.contract import Contract
from channelmap.errors import quoted
from channelmap.layer import ChannelLayer
from channelmap.loader import load

CHANNELS = click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...", shell_complete=channel_names)
WRONG_CONTRACT = "The contract is wrong."
USAGE = "Wrong arguments, an unknown channel, a missing file, or a layer that is missing or cannot pause channels."


@click.command(
    "pause",
    cls=Command,
    examples=["channelmap pause greetings", "channelmap pause greetings receipts --config jobs.yaml"],
    exits={Exit.FINE: "The channels are paused.", Exit.FINDINGS: WRONG_CONTRACT, Exit.USAGE: USAGE},
)
@CHANNELS
@CONFIG
@LAYER
def command(channels: tuple[str, ...], config: str, layer: str | None) -> None:
    """Let workers take no events from channels.

    CHANNEL is a channel of the contract. Workers obey within two seconds and finish the events that they have begun.
    Sends go on until the channel is at its capacity. The pause is kept in the layer until `channelmap resume` ends it.
    """
    contract = load(config)

    async def pause(opened: ChannelLayer, channel: str) -> str:
        state = "already paused" if await opened.is_paused(channel) else "paused"
        await opened.pause(channel)
        return f"{state}; sends go on until its capacity of {opened.limits_of(channel).capacity} events"

    change_each(contract, layer, channels, pause)


def change_each(
    contract: Contract,
    url: str | None,
    channels: Sequence[str],
    change: Callable[[ChannelLayer, str], Awaitable[str]],
) -> None:
    """Change each channel, and write what `change` returns: the channel's state.

    Raises:
        UnknownChannel: the contract does not declare a channel; none is changed.

    """
    names = [contract.channel(channel).name for channel in dict.fromkeys(channels)]
    opened = open_shared_layer(contract, url, "no channel was paused or resumed: a pause")

    async def main() -> None:
        try:
            for name in names:
                click.echo(f"channel {quoted(name)}: {await change(opened, name)}")
        finally:
            await opened.close()

    asyncio.run(main())
