"""`channelmap dead`: show dead letters, replay them, or drop them."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command, Group
from channelmap.cli.layers import open_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.cli.stored_values import as_json, utc
from channelmap.contract import Contract
from channelmap.errors import UnknownChannel, one_line, printable, shortened
from channelmap.layer import ChannelLayer, DeadLetter
from channelmap.loader import load
from channelmap.trace_key import trace_id_of, without_trace

T = TypeVar("T")

#: Version of the output of `dead list --json`.
VERSION = 1

IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
ALL = click.option("--all", "everything", is_flag=True, help="Choose all dead letters, or all of --channel.")
_WRONG_CONTRACT = "The contract is wrong."
_USAGE = "Wrong arguments, an unknown id or channel, or a missing file or layer."
CHANNEL = click.option(
    "--channel", metavar="NAME", shell_complete=channel_names, help="Choose only the dead letters of this channel."
)


@click.group(
    "dead",
    cls=Group,
    examples=[
        "channelmap dead list",
        "channelmap dead replay --all --channel greetings",
        "channelmap dead show 17",
    ],
    exits={
        Exit.FINE: "The command did what it was asked.",
        Exit.FINDINGS: "A dead letter cannot be sent again, or the contract is wrong.",
        Exit.USAGE: _USAGE,
    },
)
def command() -> None:
    """List, replay or delete dead letters.

    A dead letter is an event that was rejected when a worker took it, or whose handler failed.
    """


@command.command(
    "list",
    cls=Command,
    examples=[
        "channelmap dead list",
        "channelmap dead list --channel greetings",
        "channelmap dead list --limit 100 --json",
    ],
    exits={Exit.FINE: "The dead letters were listed.", Exit.FINDINGS: _WRONG_CONTRACT, Exit.USAGE: _USAGE},
)
@CONFIG
@LAYER
@CHANNEL
@click.option("--limit", type=click.IntRange(min=1), metavar="NUMBER", help="List at most this many, the oldest ones.")
@click.option("--json", "in_json", is_flag=True, help="Write one JSON object; docs/cli.md describes it.")
def list_(config: str, layer: str | None, channel: str | None, limit: int | None, in_json: bool) -> None:  # noqa: FBT001
    """List dead letters, oldest first.

    Each line has, separated by tabs: id, time (UTC), channel, code, event type, reason and, where it is known, the
    event's id.
    """
    contract = load(config)
    letters = _with_layer(contract, layer, lambda opened: _letters(contract, opened, None, channel))
    shown = letters[:limit]
    if in_json:
        click.echo(as_json({"version": VERSION, "dead_letters": [summary(letter) for letter in shown]}))
    else:
        for letter in shown:
            click.echo(line(letter))
    if len(shown) < len(letters):
        click.echo(f"listed the {len(shown)} oldest of {len(letters)} dead letters", err=True)


def line(letter: DeadLetter) -> str:
    """Return the line of `dead list` for a dead letter."""
    event_id = [letter.event_id] if letter.event_id else []
    fields = [letter.id, utc(letter.died), letter.channel, letter.code, _type_of(letter) or "-"]
    return "\t".join(map(printable, [*fields, one_line(shortened(letter.reason)), *event_id]))


def summary(letter: DeadLetter) -> dict[str, Any]:
    """Return the object of `dead list --json` for a dead letter, without its payload."""
    return {
        "id": letter.id,
        "event_id": letter.event_id or None,
        "channel": letter.channel,
        "type": _type_of(letter),
        "code": letter.code,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "sent": utc(letter.sent),
        "died": utc(letter.died),
    }


def _type_of(letter: DeadLetter) -> str | None:
    event_type = letter.event.get("type") if letter.event else None
    return shortened(event_type) if isinstance(event_type, str) else None


@command.command(
    "show",
    cls=Command,
    examples=["channelmap dead show 17"],
    exits={Exit.FINE: "The dead letter was printed.", Exit.FINDINGS: _WRONG_CONTRACT, Exit.USAGE: _USAGE},
)
@click.argument("id_", metavar="ID")
@CONFIG
@LAYER
def show(id_: str, config: str, layer: str | None) -> None:
    """Print one dead letter as JSON.

    ID is one that `channelmap dead list` shows. Bytes are written as base64, other values that JSON lacks as Python's
    repr. The event is shown without its trace context; a traced one has its `trace_id`.
    """
    contract = load(config)
    (letter,) = _with_layer(contract, layer, lambda opened: _letters(contract, opened, (id_,), None))
    shown = {field.name: getattr(letter, field.name) for field in dataclasses.fields(letter)}
    times = {"sent": utc(letter.sent), "died": utc(letter.died)}
    shown |= times | {"event_id": letter.event_id or None}
    if letter.event is not None:
        shown["event"] = without_trace(letter.event)
    if trace_id := trace_id_of(letter.event):
        shown["trace_id"] = trace_id
    click.echo(as_json(shown))


@command.command(
    "replay",
    cls=Command,
    examples=["channelmap dead replay 17 18", "channelmap dead replay --all --channel greetings"],
    exits={
        Exit.FINE: "The dead letters were sent again.",
        Exit.FINDINGS: "A dead letter is still rejected and was kept, or the contract is wrong.",
        Exit.USAGE: _USAGE,
    },
)
@IDS
@ALL
@CHANNEL
@CONFIG
@LAYER
def replay(ids: tuple[str, ...], everything: bool, channel: str | None, config: str, layer: str | None) -> int:  # noqa: FBT001
    """Send dead letters again.

    ID is one that `channelmap dead list` shows. The events go to the end of their channels. An event that is still
    rejected stays a dead letter.
    """
    contract = load(config)

    async def do(opened: ChannelLayer) -> list[str]:
        problems = []
        letters = await _letters(contract, opened, _chosen(ids, everything), channel)
        for letter in letters:
            problem = _rejection(contract, letter)
            if problem:
                problems.append(f"{letter.id}: {problem}")
            else:
                await opened.replay(letter.id)
        click.echo(f"replayed {len(letters) - len(problems)} of {len(letters)} dead letters", err=True)
        return problems

    problems = _with_layer(contract, layer, do)
    for problem in problems:
        click.echo(problem)
    return Exit.FINDINGS if problems else Exit.FINE


@command.command(
    "drop",
    cls=Command,
    examples=["channelmap dead drop 17 18", "channelmap dead drop --all --channel greetings"],
    exits={Exit.FINE: "The dead letters were deleted.", Exit.FINDINGS: _WRONG_CONTRACT, Exit.USAGE: _USAGE},
)
@IDS
@ALL
@CHANNEL
@CONFIG
@LAYER
def drop(ids: tuple[str, ...], everything: bool, channel: str | None, config: str, layer: str | None) -> None:  # noqa: FBT001
    """Delete dead letters.

    ID is one that `channelmap dead list` shows. A deleted dead letter cannot be restored.
    """
    contract = load(config)

    async def do(opened: ChannelLayer) -> None:
        letters = await _letters(contract, opened, _chosen(ids, everything), channel)
        for letter in letters:
            await opened.drop(letter.id)
        click.echo(f"dropped {len(letters)} dead letters", err=True)

    _with_layer(contract, layer, do)


def _chosen(ids: tuple[str, ...], everything: bool) -> tuple[str, ...] | None:  # noqa: FBT001
    if bool(ids) == everything:
        raise click.UsageError("name the dead letters by their ids, or say --all")
    return None if everything else ids


async def _letters(
    contract: Contract, layer: ChannelLayer, ids: tuple[str, ...] | None, channel: str | None
) -> list[DeadLetter]:
    """Return the dead letters with these ids, or all for `None`."""
    letters = {letter.id: letter for letter in await layer.dead_letters(channel)}
    if channel is not None and not letters:
        # An undeclared channel may still have dead letters; without any, the name is probably misspelt.
        contract.channel(channel)
    if ids is None:
        return list(letters.values())
    unknown = [id_ for id_ in ids if id_ not in letters]
    if unknown:
        raise click.UsageError(f"there is no dead letter {', '.join(unknown)}; `channelmap dead list` shows them")
    return [letters[id_] for id_ in ids]


def _rejection(contract: Contract, letter: DeadLetter) -> str:
    """Return the reason why a dead letter must not be sent again, or an empty text."""
    if letter.event is None:
        return f"cannot be read: {letter.reason}"
    try:
        channel = contract.channel(letter.channel)
    except UnknownChannel as error:
        return str(error)
    rejected = channel.judge(without_trace(letter.event)) if channel.validate == "enforce" else None
    return str(rejected) if rejected else ""


def _with_layer(contract: Contract, url: str | None, do: Callable[[ChannelLayer], Awaitable[T]]) -> T:
    opened = open_layer(contract, url)

    async def main() -> T:
        try:
            return await do(opened)
        finally:
            await opened.close()

    return asyncio.run(main())
