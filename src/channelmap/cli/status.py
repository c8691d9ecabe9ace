"""`channelmap status`: show what waits on channels, and which workers serve them."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, NamedTuple

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from channelmap.cli.completion import channel_names
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.cli.layers import open_shared_layer
from channelmap.cli.options import CONFIG, LAYER
from channelmap.environment import shown
from channelmap.errors import LayerUnavailable, did_you_mean, printable, quoted
from channelmap.layer import ChannelLayer
from channelmap.loader import load
from channelmap.monitor.status import status

#: Seconds between two readings of `--watch`.
_INTERVAL_SECS = 1.0
#: Characters in a line of a file or a pipe, which nothing exceeds.
_PIPE_WIDTH = 10_000
_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|==|<|>)\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_OPERATORS = {
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "==": lambda value, limit: value == limit,
}
#: What a condition may name. `workers` are those that serve the channel.
_QUANTITIES = ("waiting", "scheduled", "leased", "in_flight", "dead", "oldest", "paused", "workers")


class Condition(NamedTuple):
    """A condition of `--fail-on`."""

    text: str
    quantity: str
    operator: str
    limit: float

    def is_met(self, quantities: Mapping[str, float]) -> bool:
        """Return whether the condition is met by the quantities of a channel."""
        return bool(_OPERATORS[self.operator](quantities[self.quantity], self.limit))


class ConditionType(click.ParamType[Condition]):
    """Parameter type of `--fail-on`."""

    name = "CONDITION"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Condition:
        """Return a condition; fail if the text is not one."""
        found = _CONDITION.fullmatch(value)
        if not found:
            self.fail(f"{quoted(value)}: expected a quantity, an operator and a number, as in 'oldest>60s'", param, ctx)
        quantity, operator, number, unit = found.groups()
        if quantity not in _QUANTITIES:
            hint = did_you_mean(quantity, _QUANTITIES) or f"expected one of {', '.join(_QUANTITIES)}"
            self.fail(f"{quoted(value)}: {quoted(quantity)} is not a quantity; {hint}", param, ctx)
        if unit and quantity != "oldest":
            self.fail(f"{quoted(value)}: {quantity} is a number without a unit", param, ctx)
        return Condition(value.strip(), quantity, operator, float(number) * _UNITS[unit or "s"])


@click.command(
    "status",
    cls=Command,
    examples=[
        "channelmap status",
        "channelmap status greetings --json",
        "channelmap status --fail-on 'waiting>1000' --fail-on 'oldest>60s'",
    ],
    exits={
        Exit.FINE: "The status was shown, and no condition of --fail-on is met.",
        Exit.FINDINGS: "A condition of --fail-on is met, or the contract is wrong.",
        Exit.USAGE: "Wrong arguments, an unknown channel, a missing file, or a layer that is missing or has no status.",
    },
)
@click.argument("channels", nargs=-1, metavar="[CHANNEL]...", shell_complete=channel_names)
@CONFIG
@LAYER
@click.option("--watch", is_flag=True, help="Show the status again every second, until Ctrl-C.")
@click.option("--json", "in_json", is_flag=True, help="Write one JSON object; docs/status.schema.json describes it.")
@click.option("--keys", is_flag=True, help="Show the keys of the channels in Redis, for autoscalers.")
@click.option(
    "--fail-on",
    "conditions",
    type=ConditionType(),
    multiple=True,
    metavar="CONDITION",
    help=f"Exit with 1 if a channel meets this: QUANTITY, <, <=, ==, >= or >, and a number. Quantities: "
    f"{', '.join(_QUANTITIES)}; oldest may have a unit: ms, s, m, h, d.",
)
def command(  # noqa: PLR0913  (its options)
    channels: tuple[str, ...],
    config: str,
    layer: str | None,
    *,
    watch: bool,
    in_json: bool,
    keys: bool,
    conditions: tuple[Condition, ...],
) -> int:
    """Show channels and the workers on them.

    CHANNEL is a channel of the contract; without one, all channels are shown. The numbers of handled, failed and
    rejected events count from the first worker on; workers add to them every five seconds.
    """
    if watch and (in_json or keys or conditions):
        raise click.UsageError("--watch: expected no other option that changes the output, such as --json")
    contract = load(config)
    names = [channel.name for channel in contract.chosen(channels)]
    opened = open_shared_layer(contract, layer, "there is no status: a layer")
    if keys:
        click.echo("\n".join(_keys(opened, names)))
        return Exit.FINE
    if watch:
        asyncio.run(_watch(opened, names))
        return Exit.FINE
    found = asyncio.run(_read(opened, names))
    if in_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _console().print(screen(found))
    return _report_conditions(found, conditions)


def _console() -> Console:
    console = Console(highlight=False)
    # Without a terminal, rich would cut lines off after 80 characters.
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


async def _read(layer: ChannelLayer, names: Sequence[str]) -> dict[str, Any]:
    try:
        return await status(layer, names)
    finally:
        await layer.close()


async def _watch(layer: ChannelLayer, names: Sequence[str]) -> None:
    console = _console()
    live = Live(console=console, auto_refresh=False, screen=True) if console.is_terminal else None
    try:
        with live or nullcontext():
            while True:
                try:
                    shown_now = screen(await status(layer, names))
                except LayerUnavailable as error:
                    shown_now = Text(f"{error}; trying again", style="red")
                if live is None:
                    console.print(shown_now)
                else:
                    live.update(shown_now, refresh=True)
                await asyncio.sleep(_INTERVAL_SECS)
    finally:
        await layer.close()


def _keys(layer: ChannelLayer, names: Sequence[str]) -> list[str]:
    keys_of = getattr(layer, "keys_of", None)
    if keys_of is None:
        raise click.UsageError(f"--keys: {shown(layer.url)} has no keys; only a layer in Redis has")
    return [f"{name}\t{kind}\t{key}" for name in names for kind, key in keys_of(name)]


def _report_conditions(found: Mapping[str, Any], conditions: Sequence[Condition]) -> Exit:
    code = Exit.FINE
    for name, channel in found["channels"].items():
        quantities = _quantities(name, channel, found["workers"])
        for condition in conditions:
            if condition.is_met(quantities):
                value = quantities[condition.quantity]
                click.echo(f"channel {quoted(name)}: {condition.quantity} is {value:g} ({condition.text})", err=True)
                code = Exit.FINDINGS
    return code


def _quantities(name: str, channel: Mapping[str, Any], workers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    numbers = {key: float(channel[key]) for key in ("waiting", "scheduled", "leased", "in_flight", "paused")}
    return numbers | {
        "dead": sum(channel["dead"].values()),
        "oldest": channel["oldest_seconds"] or 0.0,
        "workers": sum(name in worker["channels"] for worker in workers),
    }


# The screen.


class _FirstThatFits:
    """Shows the first of several renderables that is not wider than the screen; the last one if none fits."""

    def __init__(self, *renderables: RenderableType) -> None:
        self._renderables = renderables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        *wide, narrowest = self._renderables
        unlimited = options.update(width=_PIPE_WIDTH)
        fitting = (one for one in wide if Measurement.get(console, unlimited, one).maximum <= options.max_width)
        yield next(fitting, narrowest)


def screen(found: Mapping[str, Any]) -> RenderableType:
    """Return the tables of channels and workers."""
    parts: list[RenderableType] = [_channel_tables(found), Text(), _worker_tables(found)]
    if readers := found["foreign_readers"]:
        what = "reader of channels_redis takes" if readers == 1 else "readers of channels_redis take"
        parts += [Text(), Text(f"{readers} {what} events from this Redis server", style="yellow")]
    return Group(*parts)


def _channel_tables(found: Mapping[str, Any]) -> RenderableType:
    totals = ("HANDLED", "FAILED", "REJECTED")
    counts = ("CHANNEL", "WAITING", "OLDEST", "SCHEDULED", "IN FLIGHT", "DEAD")
    rows = [_channel_row(name, channel, found["workers"]) for name, channel in found["channels"].items()]
    return _FirstThatFits(
        _table(rows, (*counts, *totals, "WORKERS", "")),
        Group(_table(rows, (*counts, "WORKERS", "")), Text(), _table(rows, ("CHANNEL", *totals))),
    )


def _channel_row(name: str, channel: Mapping[str, Any], workers: Sequence[Mapping[str, Any]]) -> dict[str, Text]:
    quantities, totals = _quantities(name, channel, workers), channel["totals"]
    dead, serving = int(quantities["dead"]), int(quantities["workers"])
    return {
        "CHANNEL": Text(printable(name)),
        "WAITING": Text(f"{channel['waiting']:,}"),
        "OLDEST": Text(_age(channel["oldest_seconds"])),
        "SCHEDULED": Text(f"{channel['scheduled']:,}"),
        "IN FLIGHT": Text(f"{channel['in_flight']:,}"),
        "DEAD": Text(f"{dead:,}", style="red" if dead else ""),
        "HANDLED": Text(f"{totals['handled']:,}"),
        "FAILED": Text(f"{totals['failed']:,}"),
        "REJECTED": Text(f"{sum(totals['rejected'].values()):,}"),
        "WORKERS": Text(f"{serving:,}", style="" if serving else "yellow"),
        "": Text("paused", style="yellow") if channel["paused"] else Text(),
    }


def _worker_tables(found: Mapping[str, Any]) -> RenderableType:
    if not found["workers"]:
        return Text("no worker runs", style="yellow")
    now = datetime.fromisoformat(found["time"])
    rows = [_worker_row(worker, now) for worker in found["workers"]]
    return _FirstThatFits(
        _table(rows, ("WORKER", "CHANNELS", "IN FLIGHT", "UP FOR", "SEEN", "VERSION", "CONTRACT")),
        _table(rows, ("WORKER", "IN FLIGHT", "SEEN", "CONTRACT")),
    )


def _worker_row(worker: Mapping[str, Any], now: datetime) -> dict[str, Text]:
    return {
        "WORKER": Text(printable(f"{worker['host']}:{worker['pid']}")),
        "CHANNELS": Text(f"{len(worker['channels']):,}"),
        "IN FLIGHT": Text(f"{worker['in_flight']:,}"),
        "UP FOR": Text(_age((now - datetime.fromisoformat(worker["started"])).total_seconds())),
        "SEEN": Text(f"{_age(worker['seen_seconds'])} ago"),
        "VERSION": Text(printable(worker["version"])),
        "CONTRACT": Text(printable(worker["contract"])),
    }


def _table(rows: Sequence[Mapping[str, Text]], headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    first, *others = headings
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*[row[heading] for heading in headings])
    return table


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
