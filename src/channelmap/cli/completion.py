"""Shell completion of channel names and event types.

A contract that cannot be read completes nothing and prints nothing, because the user is typing a command line.
"""

import re
from collections.abc import Iterable, Mapping

import click
from click.shell_completion import CompletionItem

from channelmap.contract import Channel
from channelmap.environment import FilledText

#: The shell would split or expand other characters.
_SAFE = re.compile(r"[\w.:/-]+", re.ASCII)
_START_OF_EVENT = re.compile(r"""(\{\s*"type"\s*:\s*")[^"]*""")


def channel_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a channel of the contract that is not on the command line yet."""
    named = ctx.params.get(param.name or "") or ()
    return _safe([channel.name for channel in _channels(ctx).values() if channel.name not in named], incomplete)


def events(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem[str]]":
    """Complete the type of an event that starts with a brace, otherwise a file name."""
    if not incomplete.startswith("{"):
        return click.Path(allow_dash=True).shell_complete(ctx, param, incomplete)
    channel = _channels(ctx).get(ctx.params.get("channel") or "")
    typed = _START_OF_EVENT.fullmatch(incomplete)
    start = typed[1] if typed else '{"type": "'
    found = [f'{start}{name}"}}' for name in _safe(channel.events if channel else (), "")]
    return [CompletionItem(text) for text in found if text.startswith(incomplete)]


def _channels(ctx: click.Context) -> Mapping[str, Channel]:
    from channelmap.loader import load

    try:
        return load(ctx.params["config"]).channels
    except Exception:  # noqa: BLE001  (an error would appear in the middle of the command line)
        return {}


def _safe(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that may be completed, without those that contain a value of the environment."""
    return sorted(
        name
        for name in names
        if name.startswith(incomplete) and _SAFE.fullmatch(name) and not isinstance(name, FilledText)
    )
