"""Draw what a command prints on a terminal, as an SVG for the documentation."""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from xml.etree import ElementTree as ET

DOCS = Path(__file__).parents[1] / "docs"
#: Pixels: the width of a character, the height of a line, the margin, the size of the font.
CELL, LINE, MARGIN, SIZE = 8.4, 20, 20, 14

_COLOURS = {
    "": "#d8dee9", "1": "#ffffff", "31": "#ff6b6b", "33": "#f2c94c",
    "1;31": "#ff6b6b", "1;33": "#f2c94c", "1;34": "#6ea8fe", "1;36": "#56c8d8",
}  # fmt: skip
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_TEXT, _SPAN = "{http://www.w3.org/2000/svg}text", "{http://www.w3.org/2000/svg}tspan"
_STYLED = re.compile(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m")


def characters(text: str) -> dict[tuple[int, int], str]:
    """Return the characters that a terminal shows, by line and column; no spaces."""
    lines = _STYLED.sub(r"\2", text).splitlines()
    return {
        (number, column): character
        for number, line in enumerate(lines)
        for column, character in enumerate(line)
        if character != " "
    }


def characters_of(picture: str) -> dict[tuple[int, int], str]:
    """Return the characters that a picture shows, by line and column.

    Raises:
        AssertionError: a character has no position of its own, or a space could collapse.

    """
    shown: dict[tuple[int, int], str] = {}
    for line in ET.fromstring(picture).iter(_TEXT):
        assert not line.text
        row = round((float(line.attrib["y"]) - MARGIN - SIZE) / LINE)
        for span in line.iter(_SPAN):
            assert not span.tail
            assert span.text
            columns = [(float(x) - MARGIN) / CELL for x in span.attrib["x"].split(" ")]
            shown |= {(row, round(column)): letter for column, letter in zip(columns, span.text, strict=True)}
            assert max(abs(column - round(column)) for column in columns) < 0.05
    return shown


def drawn(text: str, title: str) -> str:
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
        f"<title>{escape(title)}</title>\n"
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
