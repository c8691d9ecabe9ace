"""`channelmap send`: put events on a channel, by hand or from a file."""

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from channelmap.asgi import Event
from channelmap.cli import completion
from channelmap.cli.colours import is_colourful
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.layers import open_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.contract import Channel, Contract
from channelmap.environment import shown
from channelmap.errors import ChannelFull, EventRejected, LayerError, quoted
from channelmap.layer import ChannelLayer
from channelmap.layers.naming import in_words
from channelmap.layers.packing import pack
from channelmap.loader import load
from channelmap.sending import ContractLayer
from channelmap.validation import RESERVED

#: Events that go out in one step.
_BATCH = 256
#: The location of an event that is given on the command line itself.
_ARGUMENT = "event"
_SHELL_HINT = """hint: write the event as JSON in single quotes, such as '{"type": "greet", "name": "Ada"}'"""


@click.command(
    "send",
    cls=Command,
    examples=[
        """channelmap send greetings '{"type": "greet", "name": "Ada"}'""",
        "channelmap send greetings events.jsonl",
        "channelmap send --skip-refused greetings - < events.jsonl",
    ],
    exits={
        Exit.FINE: "Every event was sent.",
        Exit.FINDINGS: "An event was rejected, the channel is full, or the contract is wrong.",
        Exit.USAGE: "Wrong arguments, an unknown channel, or a missing file or layer.",
    },
)
@click.argument("channel", shell_complete=completion.channel_names)
@click.argument("events", metavar="EVENT|FILE|-", shell_complete=completion.events)
@CONFIG
@LAYER
@click.option("--skip-refused", is_flag=True, help="Send the valid events even if others are rejected.")
def command(channel: str, events: str, config: str, layer: str | None, skip_refused: bool) -> int:  # noqa: FBT001
    """Send events to a channel.

    CHANNEL is a channel of the contract. EVENT is one event, a JSON object. FILE has one JSON object a line; - reads
    them from stdin. All events are checked before the first is sent: if one is rejected, none is sent.
    """
    contract = load(config)
    declared = contract.channel(channel)
    good, complaints = _judged(declared, _lines(events))
    for complaint in complaints:
        click.echo(complaint)
    if complaints and not skip_refused:
        click.echo(f"nothing was sent: {len(complaints)} refused", err=True)
        return Exit.FINDINGS
    sent = asyncio.run(_send(ContractLayer(contract, _opened(contract, layer)), channel, good))
    click.echo(f"sent {sent} of {len(good) + len(complaints)} events to '{channel}'", err=True)
    return Exit.FINDINGS if complaints or sent < len(good) else Exit.FINE


def _lines(events: str) -> list[tuple[str, str]]:
    """Read places and texts of the events named on the command line."""
    if not events.strip():
        raise click.UsageError(f"the event is empty: expected a JSON object, a file or -; {_SHELL_HINT}")
    if events.lstrip().startswith("{"):
        return [(_ARGUMENT, events)]
    if events == "-":
        return _numbered("stdin", sys.stdin.buffer.read())
    try:
        return _numbered(events, Path(events).read_bytes())
    except OSError as error:
        raise click.UsageError(f"cannot read '{events}': {error.strerror}; an event starts with '{{'") from error


def _numbered(name: str, data: bytes) -> list[tuple[str, str]]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"'{name}' is not UTF-8 text (byte {error.start})") from error
    # Not str.splitlines: a JSON string may hold U+2028, which is no end of a line here.
    return [(f"{name}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _judged(channel: Channel, lines: Iterable[tuple[str, str]]) -> tuple[list[Event], list[str]]:
    good: list[Event] = []
    complaints: list[str] = []
    for place, text in lines:
        try:
            event = json.loads(text)
        except (ValueError, RecursionError) as error:
            hint = f"; {_SHELL_HINT}" if place == _ARGUMENT else ""
            complaints.append(f"{place}: not JSON: {error}{hint}")
            continue
        objection = _objection(channel, event)
        if objection:
            complaints.append(f"{place}: {objection}")
        else:
            good.append(event)
    return good, complaints


def _objection(channel: Channel, event: Any) -> str:
    """Say why an event cannot go out, or nothing; what no layer takes is refused whatever `validate` says."""
    if not isinstance(event, dict):
        return "not an event: expected a JSON object"
    rejected = channel.judge(event)
    if rejected is None:
        return ""
    if channel.validate == "enforce" or RESERVED in event:
        return str(rejected)
    try:
        pack(channel.name, event)
    except EventRejected as unpacked:
        return str(unpacked)
    return ""


def _opened(contract: Contract, url: str | None) -> ChannelLayer:
    layer = open_layer(contract, url)
    # By their names: to import Channels is for those who have it.
    kinds = {kind.__name__ for kind in type(getattr(layer, "inner", layer)).__mro__}
    if kinds & {"MemoryChannelLayer", "InMemoryChannelLayer"}:
        message = (
            f"{shown(layer.url)}: nothing was sent: events in memory are this process's own, and would end with it"
        )
        raise click.UsageError(f"{message}; send to a layer that a worker shares, such as sqlite:///channels.db")
    return layer


async def _send(layer: ContractLayer, channel: str, events: list[Event]) -> int:
    """Send as many of the events as the channel has room for, and return how many."""
    sent = 0
    batches = [events[start : start + _BATCH] for start in range(0, len(events), _BATCH)]
    console = Console(stderr=True)
    # A pipe gets no progress bar, even where FORCE_COLOR is set.
    silent = len(batches) < 2 or not is_colourful(sys.stderr) or not sys.stderr.isatty()
    try:
        for batch in track(batches, "sending", console=console, disable=silent):
            fitting, error = await _fill(layer, channel, batch)
            sent += fitting
            if error is not None:
                click.echo(f"{error}; event {sent + 1} and those after it were not sent", err=True)
                break
    finally:
        await layer.close()
    return sent


async def _fill(layer: ContractLayer, channel: str, batch: list[Event]) -> tuple[int, ChannelFull | None]:
    """Send a batch, or the first of it that there is room for; return how many, and why not all.

    A layer that has no room for all events of a step sends none, and does not say how many would fit.
    """
    sent, step = 0, len(batch)
    full = None
    while step and sent < len(batch):
        try:
            await layer.send_many(channel, batch[sent : sent + step])
            sent += step
        except ChannelFull as error:
            full = error
            sent += error.sent
            step //= 2
        except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
            if not hasattr(layer.layer, "inner"):
                raise
            # Another's layer: name and events are as the contract wants them, so it does not support the channel.
            said = in_words(error, quotes_errors=not layer.contract.layer.from_environment)
            raise LayerError(layer.url, f"cannot send to channel {quoted(channel)}: {said}") from error
    return sent, full if sent < len(batch) else None
