"""A page for each code: why it matters, an example, and what to do, for a reader who does not know the code.

A page is a markdown file: `<code>.md` for a finding, `events/<code>.md` for a rejection or a dead letter. Its heading
and title come from the table of codes. The tests run its examples.
"""

from dataclasses import dataclass
from importlib.resources import files

from channelmap.codes import Code, EventCode, Group

CODES: dict[str, Code | EventCode] = {code: code for code in (*Code, *EventCode)}
"""All codes that have a page: those of findings, of rejections and of dead letters."""

_KINDS = {Group.REJECTION: "rejection", Group.DEAD_LETTER: "dead letter"}


@dataclass(frozen=True, slots=True)
class Page:
    """The explanation of one code.

    Attributes:
        code: the code.
        kind: the default severity of a finding; `rejection` or `dead letter` for a code of one event.
        summary: the fault, in one line of plain text.
        text: the whole page, as markdown: the title, why it matters, an example with its output, and the remedy.

    """

    code: str
    kind: str
    summary: str
    text: str


def page(code: str) -> Page:
    """Read the page of a code.

    Raises:
        KeyError: there is no such code.

    """
    known = CODES[code]
    if isinstance(known, Code):
        path, kind = f"{code}.md", str(known.severity)
    else:
        path, kind = f"events/{code}.md", _KINDS[known.group]
    text = files(__name__).joinpath(path).read_text(encoding="utf-8")
    return Page(code, kind, known.summary, f"# {code}\n\n**{kind}** {known.summary}\n\n{text}")


def pages() -> tuple[Page, ...]:
    """Read all pages, in the order of the codes."""
    return tuple(map(page, CODES))
