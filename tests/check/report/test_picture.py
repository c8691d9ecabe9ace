"""The picture of `channelmap check` in the documentation is what it prints about a small broken project.

After a change of the output, `make renew` draws it anew. tests/full looks at it in browsers.
"""

import os
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.check.report.picture import CELL, LINE, MARGIN, PICTURE, SIZE, characters, drawn, printed

_TEXT, _SPAN = "{http://www.w3.org/2000/svg}text", "{http://www.w3.org/2000/svg}tspan"


def test_the_picture_shows_the_printed_report(project: Path) -> None:
    text = printed(project)
    if os.environ.get("RENEW"):
        PICTURE.write_text(drawn(text), encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == drawn(text), "draw it anew: see the top of this test"


def test_every_character_of_the_picture_has_its_own_position_and_no_space_can_collapse(project: Path) -> None:
    shown: dict[tuple[int, int], str] = {}
    for line in ET.parse(PICTURE).iter(_TEXT):
        assert not line.text
        row = round((float(line.attrib["y"]) - MARGIN - SIZE) / LINE)
        for span in line.iter(_SPAN):
            assert not span.tail
            assert span.text
            columns = [(float(x) - MARGIN) / CELL for x in span.attrib["x"].split(" ")]
            shown |= {(row, round(column)): letter for column, letter in zip(columns, span.text, strict=True)}
            assert max(abs(column - round(column)) for column in columns) < 0.05

    assert shown == characters(printed(project))
