"""`channelmap explain`: explain a code and its remedy."""

import sys

import click

from channelmap.check.pages import CODES, page, pages
from channelmap.cli.colours import is_colourful
from channelmap.cli.exits import Exit
from channelmap.cli.help import Command
from channelmap.errors import did_you_mean, quoted


def _codes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [code for code in CODES if code.startswith(incomplete)]


@click.command(
    "explain",
    cls=Command,
    examples=["channelmap explain", "channelmap explain schema-mismatch"],
    exits={Exit.FINE: "The code was explained.", Exit.USAGE: "Wrong arguments, or an unknown code."},
)
@click.argument("code", required=False, shell_complete=_codes)
def command(code: str | None) -> None:
    """Explain a code that a message shows.

    CODE is the code of a finding, a rejection or a dead letter. The page says why it matters, shows an example and
    tells what to do. Without CODE, list all codes.
    """
    if code is None:
        _list()
        return
    if code not in CODES:
        hint = did_you_mean(code, CODES) or "'channelmap explain' lists all codes"
        raise click.UsageError(f"there is no code {quoted(code)}; {hint}")
    text = page(code).text
    if is_colourful(sys.stdout) or (sys.stdout and sys.stdout.isatty()):
        _render(text)
    else:
        click.echo(text, nl=False)


def _list() -> None:
    listed = pages()
    width = max(len(known.code) for known in listed)
    kinds = max(len(known.kind) for known in listed)
    for known in listed:
        click.echo(f"{known.code:{width}}  {known.kind:{kinds}}  {known.summary}")


def _render(text: str) -> None:
    """Render a page for a terminal; rich is imported here because that is slow."""
    from rich.console import Console
    from rich.markdown import Markdown

    # NO_COLOR alone leaves rich its bold text.
    Console(color_system="auto" if is_colourful(sys.stdout) else None).print(Markdown(text, code_theme="ansi_dark"))
