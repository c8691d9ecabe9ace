"""The picture of `channelmap check` in the documentation is what it prints about a small broken project.

After a change of the output, `make renew` draws it anew.
"""

import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from textwrap import dedent

import pytest

from channelmap.checks import check
from channelmap.loader import load
from channelmap.report import Checked, Report, render

PICTURE = Path(__file__).parents[2] / "docs" / "check.svg"
CONTRACT = """\
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
CONSUMER = """\
    from channelmap import AsyncConsumer


    class ThumbnailConsumer(AsyncConsumer):
        async def image_uploaded(self, event): ...

        async def image_deleted(self, event): ...
"""
COLOURS = {"": "#d8dee9", "1": "#ffffff", "1;31": "#ff6b6b", "1;33": "#f2c94c", "1;34": "#6ea8fe", "1;36": "#56c8d8"}
CELL, LINE, MARGIN, SIZE = 8.4, 20, 20, 14
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
STYLED = re.compile(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m")


def spans(line: str) -> Iterator[tuple[str, str]]:
    """Split a line into colours and texts."""
    end = 0
    for styled in STYLED.finditer(line):
        yield "", line[end : styled.start()]
        yield styled[1], styled[2]
        end = styled.end()
    yield "", line[end:]


def drawn(text: str) -> str:
    """Draw what a terminal shows."""
    lines = text.splitlines()
    width = max(len(STYLED.sub(r"\2", line)) for line in lines) * CELL + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + SIZE + number * LINE}">'
        + "".join(f'<tspan fill="{COLOURS[style]}">{escape(part)}</tspan>' for style, part in spans(line) if part)
        + "</text>"
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">\n'
        f"<title>channelmap check, and what it says of two mistakes</title>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#1e222a"/>\n'
        f'<g font-family="{FONT}" font-size="{SIZE}" xml:space="preserve">\n{rows}\n</g>\n</svg>\n'
    )


def test_the_picture_shows_what_is_printed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "channels.yaml").write_text(dedent(CONTRACT))
    (project / "consumers.py").write_text(dedent(CONSUMER))
    contract = load()
    cases = tuple((channel.name, name) for channel in contract.channels.values() for name in channel.events)
    report = Report((Checked("channels.yaml", cases),), check(contract))
    assert {found.code for found in report.diagnostics} == {"accepts-refused", "handler-missing", "handler-unreached"}
    printed = "\x1b[1m$ channelmap check\x1b[0m\n" + render(report, "full", colour=True)
    if os.environ.get("RENEW"):
        PICTURE.write_text(drawn(printed), encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == drawn(printed), "draw it anew: see the top of this test"
