"""Draw the picture of `channelmap check` in the documentation."""

import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from textwrap import dedent

from channelmap.check.report import Checked, Report, render
from channelmap.check.rules import check
from channelmap.loader import load

PICTURE = Path(__file__).parents[3] / "docs" / "check.svg"
#: Pixels: the width of a character, the height of a line, the margin, the size of the font.
CELL, LINE, MARGIN, SIZE = 8.4, 20, 20, 14

_CONTRACT = """\
    version: 1
    channels:
      thumbnails:
        consumer: consumers.ThumbnailConsumer
        events:
          image.uploaded:
            schema: {properties: {id: {type: integer}}, required: [id]}
            accepts: [{type: image.uploaded, id: "1"}]
          image.deletd: true
"""
_CONSUMER = """\
    from channelmap import AsyncConsumer


    class ThumbnailConsumer(AsyncConsumer):
        async def image_uploaded(self, event): ...

        async def image_deleted(self, event): ...
"""
_COLOURS = {"": "#d8dee9", "1": "#ffffff", "1;31": "#ff6b6b", "1;33": "#f2c94c", "1;34": "#6ea8fe", "1;36": "#56c8d8"}
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_STYLED = re.compile(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m")


def printed(project: Path) -> str:
    """Return what `channelmap check` prints about a small broken project, with the terminal's colours."""
    (project / "channels.yaml").write_text(dedent(_CONTRACT))
    (project / "consumers.py").write_text(dedent(_CONSUMER))
    sys.modules.pop("consumers", None)  # of another test
    contract = load()
    cases = tuple((channel.name, name) for channel in contract.channels.values() for name in channel.events)
    report = Report((Checked("channels.yaml", cases),), check(contract))
    assert {found.code for found in report.diagnostics} == {"accepts-refused", "handler-missing", "handler-unreached"}
    return "\x1b[1m$ channelmap check\x1b[0m\n" + render(report, "full", colour=True)


def characters(text: str) -> dict[tuple[int, int], str]:
    """Return the characters that a terminal shows, by line and column; no spaces."""
    lines = _STYLED.sub(r"\2", text).splitlines()
    return {
        (number, column): character
        for number, line in enumerate(lines)
        for column, character in enumerate(line)
        if character != " "
    }


def drawn(text: str) -> str:
    """Draw what a terminal shows.

    Each character has its own `x`, so columns do not depend on the font. No text contains a space: browsers differ in
    which ones they collapse.
    """
    lines = text.splitlines()
    width = max(len(_STYLED.sub(r"\2", line)) for line in lines) * CELL + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    rows = "\n".join(
        f'<text y="{MARGIN + SIZE + number * LINE}">'
        + "".join(
            f'<tspan fill="{_COLOURS[style]}" x="{_positions(column, len(word))}">{escape(word)}</tspan>'
            for column, style, word in _words(line)
        )
        + "</text>"
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">\n'
        f"<title>channelmap check, and what it says of two mistakes</title>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#1e222a"/>\n'
        f'<g font-family="{_FONT}" font-size="{SIZE}">\n{rows}\n</g>\n</svg>\n'
    )


def _words(line: str) -> Iterator[tuple[int, str, str]]:
    """Yield the column, the style and the text of each word of a line."""
    column = 0
    for style, text in _spans(line):
        for word in re.finditer(r"[^ ]+", text):
            yield column + word.start(), style, word[0]
        column += len(text)


def _spans(line: str) -> Iterator[tuple[str, str]]:
    """Split a line into styles and texts."""
    end = 0
    for styled in _STYLED.finditer(line):
        yield "", line[end : styled.start()]
        yield styled[1], styled[2]
        end = styled.end()
    yield "", line[end:]


def _positions(column: int, count: int) -> str:
    return " ".join(f"{MARGIN + (column + offset) * CELL:.4g}" for offset in range(count))
