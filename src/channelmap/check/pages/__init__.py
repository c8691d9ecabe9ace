"""What is wrong, explained: one page for each code, for people who have just met it.

A page is a markdown file `<code>.md`: beside this one for what is wrong with a file, below `events` for what is wrong
with one event, be it rejected or kept as a dead letter. It is read when it is asked for; the files are the only place
where a code is explained, and their examples are run by the tests.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import get_args

from channelmap.diagnostics import Code
from channelmap.errors import Rejection
from channelmap.layer import Cause

FINDINGS: tuple[str, ...] = get_args(Code)
"""The codes of findings: what is wrong with a file."""

EVENTS: tuple[str, ...] = (*get_args(Rejection), *get_args(Cause))
"""The codes of rejections and of dead letters: what is wrong with one event."""


@dataclass(frozen=True, slots=True)
class Page:
    """What there is to know about one code.

    Attributes:
        code: what the page explains.
        kind: of a finding its severity where nothing else is said; of an event `rejection` or `dead letter`.
        summary: what is wrong, in one line of plain text.
        text: the whole page, as markdown: why it matters, an example with its output, and the remedy.

    """

    code: str
    kind: str
    summary: str
    text: str


def page(code: str) -> Page:
    """Read the page of a code; KeyError when there is no such code."""
    if code not in FINDINGS + EVENTS:
        raise KeyError(code)
    directory = files(__name__) if code in FINDINGS else files(__name__) / "events"
    text = directory.joinpath(f"{code}.md").read_text(encoding="utf-8")
    # Every page begins: title, blank line, "**kind** summary".
    _, kind, summary = text.splitlines()[2].split("**", 2)
    return Page(code, kind, summary.strip(), text)


def pages() -> tuple[Page, ...]:
    """Read all pages, in the order of the codes."""
    return tuple(page(code) for code in FINDINGS + EVENTS)
