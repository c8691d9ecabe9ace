"""`channelmap peek`: show the events of a channel without taking them."""

import asyncio

import click

from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.layers import open_shared_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.cli.stored_values import as_json, utc
from channelmap.errors import printable, shortened
from channelmap.layer import ChannelLayer, Delivery
from channelmap.loader import load
from channelmap.trace_key import without_trace


@click.command(
    "peek",
    cls=Command,
    examples=["channelmap peek greetings", "channelmap peek greetings --limit 3 --payload"],
    exits={
        Exit.FINE: "The events were shown.",
        Exit.FINDINGS: "The contract is wrong.",
        Exit.USAGE: "Wrong arguments, an unknown channel, a missing file, or a layer that is missing or cannot do it.",
    },
)
@click.argument("channel", shell_complete=channel_names)
@CONFIG
@LAYER
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="NUMBER",
    help="Show at most this many events.",
)  # fmt: skip
@click.option("--payload", is_flag=True, help="Write each event as a JSON object, with its payload.")
def command(channel: str, config: str, layer: str | None, *, limit: int, payload: bool) -> None:
    """Show a channel's events; take none.

    CHANNEL is a channel of the contract. Events that workers have leased come first, then scheduled and waiting ones,
    oldest first. Each line has, separated by tabs: id, time at which the event was sent (UTC), attempt, event type and,
    for a scheduled event, the time at which it is due.
    """
    contract = load(config)
    name = contract.channel(channel).name
    opened = open_shared_layer(contract, layer, "there is nothing to show: an event")
    # One more tells whether there are more.
    found = asyncio.run(_peek(opened, name, limit + 1))
    for delivery in found[:limit]:
        click.echo(_as_json(delivery) if payload else _line(delivery))
    if len(found) > limit:
        click.echo(f"showed the first {limit} events; --limit shows more", err=True)


async def _peek(layer: ChannelLayer, channel: str, limit: int) -> list[Delivery]:
    found: list[Delivery] = []
    try:
        async for delivery in layer.peek(channel):
            found.append(delivery)
            if len(found) == limit:
                break
    finally:
        await layer.close()
    return found


def _line(delivery: Delivery) -> str:
    fields = [delivery.id or "-", utc(delivery.sent), str(delivery.attempt), _type_of(delivery) or "-"]
    if delivery.due is not None:
        fields.append(utc(delivery.due))
    return "\t".join(map(printable, fields))


def _as_json(delivery: Delivery) -> str:
    return as_json(
        {
            "id": delivery.id or None,
            "sent": utc(delivery.sent),
            "attempt": delivery.attempt,
            "due": None if delivery.due is None else utc(delivery.due),
            "event": None if delivery.event is None else without_trace(delivery.event),
            "problem": delivery.problem or None,
        }
    )


def _type_of(delivery: Delivery) -> str | None:
    event_type = delivery.event.get("type") if delivery.event else None
    return shortened(event_type, 100) if isinstance(event_type, str) else None
