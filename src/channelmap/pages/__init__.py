"""What is wrong, explained: one page for each code of a diagnostic, for people who have just met it.

A page is a markdown file `<code>.md` beside this one. It is read when it is asked for; the files are the only
place where a code is explained, and their examples are run by the tests.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import get_args

from channelmap.diagnostics import Code, Severity


@dataclass(frozen=True, slots=True)
class Page:
    """What there is to know about one code.

    Attributes:
        code: of the diagnostics that the page explains.
        severity: how much such a diagnostic weighs where nothing else is said.
        summary: what is wrong, in one line of plain text.
        text: the whole page, as markdown: why it matters, an example with its output, and the remedy.

    """

    code: str
    severity: Severity
    summary: str
    text: str


def page(code: str) -> Page:
    """Read the page of a code; KeyError when there is no such code."""
    if code not in get_args(Code):
        raise KeyError(code)
    text = files(__name__).joinpath(f"{code}.md").read_text(encoding="utf-8")
    # Every page begins: title, blank line, "**severity** summary".
    severity, _, summary = text.splitlines()[2].partition(" ")
    return Page(code, Severity(severity.strip("*")), summary, text)


def pages() -> tuple[Page, ...]:
    """Read all pages, in the order of the codes."""
    return tuple(page(code) for code in get_args(Code))
