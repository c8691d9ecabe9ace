"""`channelmap resume`: end the pause of channels."""

import click

from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.options import CONFIG, LAYER
from channelmap.cli.pause import CHANNELS, USAGE, WRONG_CONTRACT, change_each
from channelmap.layer import ChannelLayer
from channelmap.loader import load


@click.command(
    "resume",
    cls=Command,
    examples=["channelmap resume greetings", "channelmap resume greetings receipts --config jobs.yaml"],
    exits={Exit.FINE: "The channels are not paused.", Exit.FINDINGS: WRONG_CONTRACT, Exit.USAGE: USAGE},
)
@CHANNELS
@CONFIG
@LAYER
def command(channels: tuple[str, ...], config: str, layer: str | None) -> None:
    """Let workers take events from paused channels.

    CHANNEL is a channel of the contract. Workers take its waiting events again, oldest first.
    """
    contract = load(config)

    async def resume(opened: ChannelLayer, channel: str) -> str:
        state = "resumed" if await opened.is_paused(channel) else "was not paused"
        await opened.resume(channel)
        return state

    change_each(contract, layer, channels, resume)
