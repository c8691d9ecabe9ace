"""For people at a terminal: each finding with an excerpt of its file, then a summary."""

from collections.abc import Callable, Iterator
from itertools import chain

from channelmap.check.report import Report
from channelmap.check.report.excerpt import Excerpt, Excerpts
from channelmap.check.report.wording import checked, event_text, one_line, summary
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic, Location, Related

_GUTTER = "1;34"
_BOLD = "1"
_COLOURS = {Severity.ERROR: "1;31", Severity.WARNING: "1;33", Severity.INFO: "1;36"}

_Paint = Callable[[str, str], str]


def render(report: Report, *, colour: bool) -> str:
    """Return a block for each finding and a summary, with ANSI colours if `colour` is set."""
    paint = _coloured if colour else _plain
    excerpts = Excerpts()
    blocks = ["\n".join(_Block(diagnostic, excerpts, paint).lines()) + "\n" for diagnostic in report.diagnostics]
    text = summary(report)
    return "\n".join([*blocks, f"checked {text}\n" if checked(report) else f"{text}\n"])


def _coloured(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def _plain(text: str, _style: str) -> str:
    return text


class _Block:
    """The lines of one finding; its line numbers share a gutter, as wide as the longest of them."""

    def __init__(self, diagnostic: Diagnostic, excerpts: Excerpts, paint: _Paint) -> None:
        self._diagnostic = diagnostic
        self._paint = paint
        self._related = _by_file(diagnostic)
        locations = [diagnostic.location, *(related.location for related in self._related)]
        self._excerpts = [excerpts.at(location) for location in locations]
        self._width = 1 + max(len(str(location.line)) for location in locations)

    def lines(self) -> Iterator[str]:
        diagnostic, colour = self._diagnostic, _COLOURS[self._diagnostic.severity]
        head = self._paint(f"{diagnostic.severity}[{diagnostic.code}]", colour)
        yield f"{head}{self._paint(f': {one_line(diagnostic.message)}', _BOLD)}"
        yield self._margin("-->", f" {_location(diagnostic.location)}")
        primary, *others = self._excerpts
        if primary:
            yield from self._excerpt(diagnostic.location.line, primary, colour, "^")
        for related, excerpt in zip(self._related, others, strict=True):
            yield self._margin(" |")
            yield from self._related_location(related, excerpt)
        if diagnostic.hint or diagnostic.witness:
            yield self._margin(" |")
        for name, text in (("help", one_line(diagnostic.hint)), ("event", event_text(diagnostic.witness))):
            if text:
                yield self._margin(" =", f" {self._paint(f'{name}:', _BOLD)} {text}")

    def _related_location(self, related: Related, excerpt: Excerpt | None) -> Iterator[str]:
        location, message = _location(related.location), one_line(related.message)
        if excerpt and excerpt.width:
            yield self._margin(":::", f" {location}")
            yield from self._excerpt(related.location.line, excerpt, _GUTTER, "-", message)
            return
        yield self._margin(":::", f" {location}: {message}")
        if excerpt:
            yield from self._excerpt(related.location.line, excerpt, _GUTTER, "-")

    def _excerpt(self, line: int, excerpt: Excerpt, colour: str, mark: str, label: str = "") -> Iterator[str]:
        yield self._margin(" |")
        yield f"{self._paint(f'{line:>{self._width}} |', _GUTTER)} {excerpt.text}".rstrip()
        if excerpt.width:
            marks = self._paint(f"{mark * excerpt.width} {label}".rstrip(), colour)
            yield self._margin(" |", f" {' ' * excerpt.indent}{marks}")

    def _margin(self, sign: str, text: str = "") -> str:
        return " " * self._width + self._paint(sign, _GUTTER) + text


def _by_file(diagnostic: Diagnostic) -> list[Related]:
    """Return the related locations grouped by file, the file of the finding first."""
    files: dict[str, list[Related]] = {diagnostic.location.path: []}
    for related in diagnostic.related:
        files.setdefault(related.location.path, []).append(related)
    return list(chain.from_iterable(files.values()))


def _location(location: Location) -> str:
    text = str(location) if location.column else str(location).removesuffix(":0")
    return one_line(text)
