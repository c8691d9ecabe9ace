"""`channelmap send`: send events from the command line or a file."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
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
from channelmap.cli.layers import open_shared_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.contract import Channel
from channelmap.environment import shown
from channelmap.errors import ChannelFull, EventRejected, LayerError, quoted
from channelmap.layer import seconds_until
from channelmap.layers.naming import in_words
from channelmap.layers.packing import pack
from channelmap.loader import load
from channelmap.sending import ContractLayer
from channelmap.validation import RESERVED

#: Number of events sent in one step.
_BATCH = 256
#: Location of an event that is given on the command line.
_ARGUMENT = "event"
_A_TIME = "2026-12-01T08:00:00+01:00"
_SHELL_HINT = """hint: write the event as JSON in single quotes, such as '{"type": "greet", "name": "Ada"}'"""


@click.command(
    "send",
    cls=Command,
    examples=[
        """channelmap send greetings '{"type": "greet", "name": "Ada"}'""",
        "channelmap send greetings events.jsonl",
        "channelmap send --skip-refused greetings - < events.jsonl",
        "channelmap send --delay 60 --verbose greetings events.jsonl",
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
@click.option("--delay", type=float, metavar="SECONDS", help="Let workers take the events after this many seconds.")
@click.option(
    "--at",
    metavar="TIME",
    help="Let workers take the events from this time on: ISO 8601 with a time zone, as 2026-12-01T08:00:00+01:00.",
)
@click.option("--verbose", is_flag=True, help="Print the id of each event that was sent.")
def command(  # noqa: PLR0913  (its options)
    channel: str,
    events: str,
    config: str,
    layer: str | None,
    *,
    skip_refused: bool,
    delay: float | None,
    at: str | None,
    verbose: bool,
) -> int:
    """Send events to a channel.

    CHANNEL is a channel of the contract. EVENT is one event, a JSON object. FILE has one JSON object a line; - reads
    them from stdin. All events are checked before the first is sent: if one is rejected, none is sent.
    """
    seconds_left = _seconds_left(delay, at)
    contract = load(config)
    declared = contract.channel(channel)
    accepted, problems = _validated(declared, _lines(events))
    for problem in problems:
        click.echo(problem)
    if problems and not skip_refused:
        click.echo(f"nothing was sent: {len(problems)} refused", err=True)
        return Exit.FINDINGS
    opened = open_shared_layer(contract, layer, "nothing was sent: an event")
    sent = asyncio.run(
        _Sending(ContractLayer(contract, opened), channel, seconds_left(), verbose=verbose).send(accepted)
    )
    click.echo(f"sent {sent} of {len(accepted) + len(problems)} events to '{channel}'", err=True)
    return Exit.FINDINGS if problems or sent < len(accepted) else Exit.FINE


def _seconds_left(delay: float | None, at: str | None) -> Callable[[], float | None]:
    """Return a function that returns the seconds until events are due, or None; raise UsageError for a wrong option.

    The same delay for all batches of a file keeps their order; the time itself would not.
    """
    if delay is not None and at is not None:
        raise click.UsageError("--delay and --at: expected one of them, got both; hint: leave one of them out")
    seconds_left = partial(seconds_until, delay, None if at is None else _time(at))
    try:
        seconds_left()
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    return seconds_left


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(
            f"--at: not a time: expected ISO 8601 with a time zone, such as {_A_TIME}, got {quoted(text)}"
        ) from error
    if time.tzinfo is None:
        raise click.UsageError(
            f"--at: the time has no time zone: expected one, such as {_A_TIME}, got {quoted(text)}; "
            "hint: append the offset from UTC, such as +01:00, or Z for UTC"
        )
    return time


def _lines(events: str) -> list[tuple[str, str]]:
    """Return locations and texts of the events given on the command line."""
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
    # Not str.splitlines: a JSON string may contain U+2028, which is not a line break here.
    return [(f"{name}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _validated(channel: Channel, lines: Iterable[tuple[str, str]]) -> tuple[list[Event], list[str]]:
    accepted: list[Event] = []
    problems: list[str] = []
    for location, text in lines:
        try:
            event = json.loads(text)
        except (ValueError, RecursionError) as error:
            hint = f"; {_SHELL_HINT}" if location == _ARGUMENT else ""
            problems.append(f"{location}: not JSON: {error}{hint}")
            continue
        rejection = _rejection(channel, event)
        if rejection:
            problems.append(f"{location}: {rejection}")
        else:
            accepted.append(event)
    return accepted, problems


def _rejection(channel: Channel, event: Any) -> str:
    """Return the reason why an event cannot be sent, or an empty text; unsupported values always have one."""
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


class _Sending:
    """Send events in batches, until the channel is full.

    Args:
        layer: the layer; closed at the end.
        channel: the channel's name.
        delay: seconds until the events are due, None for now.
        verbose: print the ids of the events.

    """

    def __init__(self, layer: ContractLayer, channel: str, delay: float | None, *, verbose: bool) -> None:
        self._layer = layer
        self._channel = channel
        self._delay = delay
        self._verbose = verbose

    async def send(self, events: list[Event]) -> int:
        """Send events until the channel is full, and return the number of sent ones."""
        sent = 0
        batches = [events[start : start + _BATCH] for start in range(0, len(events), _BATCH)]
        console = Console(stderr=True)
        # No progress bar in a pipe, even if FORCE_COLOR is set.
        silent = len(batches) < 2 or self._verbose or not is_colourful(sys.stderr) or not sys.stderr.isatty()
        try:
            for batch in track(batches, "sending", console=console, disable=silent):
                fitting, error = await self._fill(batch)
                sent += fitting
                if error is not None:
                    click.echo(f"{error}; event {sent + 1} and those after it were not sent", err=True)
                    break
        finally:
            await self._layer.close()
        return sent

    async def _fill(self, batch: list[Event]) -> tuple[int, ChannelFull | None]:
        """Send a batch, or the first events of it that fit; return their number, and the error if not all fitted.

        A layer that has no room for all events of a step sends none, and does not tell how many would fit.
        """
        sent, step = 0, len(batch)
        full = None
        while step and sent < len(batch):
            try:
                ids = await self._layer.send_many(self._channel, batch[sent : sent + step], delay=self._delay)
                sent += step
                self._print(ids)
            except ChannelFull as error:
                full = error
                sent += error.sent
                step //= 2
            except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
                if not hasattr(self._layer.layer, "inner"):
                    raise
                # A third-party layer: name and events are valid by the contract, so it does not support the channel.
                said = in_words(error, quotes_errors=not self._layer.contract.layer.from_environment)
                reason = f"cannot send to channel {quoted(self._channel)}: {said}"
                raise LayerError(self._layer.url, reason) from error
        return sent, full if sent < len(batch) else None

    def _print(self, ids: list[str] | None) -> None:
        if self._verbose:
            if ids is None:
                self._verbose = False
                click.echo(f"{shown(self._layer.url)}: the layer gives events no ids", err=True)
            else:
                click.echo("\n".join(ids))
