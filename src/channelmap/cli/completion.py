"""What the shell completes: channel names and event types of the contract.

A contract that cannot be read completes nothing and prints nothing: the user is in the middle of a command line.
"""

import re
from collections.abc import Iterable, Mapping

import click
from click.shell_completion import CompletionItem

from channelmap.contract import Channel
from channelmap.environment import Filled

#: The shell would split or expand other characters.
_SAFE = re.compile(r"[\w.:/-]+", re.ASCII)
_START_OF_EVENT = re.compile(r"""(\{\s*"type"\s*:\s*")[^"]*""")


def channel_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a channel of the contract that is not named yet."""
    named = ctx.params.get(param.name or "") or ()
    return _safe([channel.name for channel in _channels(ctx).values() if channel.name not in named], incomplete)


def events(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem[str]]":
    """Complete the type of an event that begins with a brace, otherwise the name of a file."""
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
    except Exception:  # noqa: BLE001  (the shell would show any error amid the command line)
        return {}


def _safe(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that may be completed; those with a value of the environment are never shown."""
    return sorted(
        name for name in names if name.startswith(incomplete) and _SAFE.fullmatch(name) and not isinstance(name, Filled)
    )
