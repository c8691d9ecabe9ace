"""The picture of `channelmap check` in the documentation is what it prints about a small broken project.

After a change of the output, `make renew` draws it anew. tests/full looks at it in browsers.
"""

import os
from pathlib import Path

from tests.check.report.picture import PICTURE, TITLE, printed
from tests.terminal_picture import characters, characters_of, drawn


def test_the_picture_shows_the_printed_report(project: Path) -> None:
    text = printed(project)
    if os.environ.get("RENEW"):
        PICTURE.write_text(drawn(text, TITLE), encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == drawn(text, TITLE), "draw it anew: see the top of this test"


def test_every_character_of_the_picture_has_its_own_position_and_no_space_can_collapse(project: Path) -> None:
    assert characters_of(PICTURE.read_text(encoding="utf-8")) == characters(printed(project))
