"""A comment for a pull request, or the summary of a job: short, with counterexamples."""

import html
import re
from collections.abc import Iterator

from channelmap.check.report import Report
from channelmap.check.report.wording import checked, event_text, found, one_line, sentence
from channelmap.codes import Code, Severity
from channelmap.diagnostics import Diagnostic

#: Maximum number of findings, because services reject a comment of more than 65,536 characters.
_MAX_FINDINGS = 100
_MEANINGFUL = re.compile(r"([\\`*_\[\]|~$#!])")
#: Marks that would mention a person, or link to an issue.
_REFERENCE = re.compile(r"(@|\\#)(?=\w)")
_PLAIN = re.compile(r"[\w./:+ -]+")
_BACKTICKS = re.compile(r"`+")


def render(report: Report) -> str:
    """Return a headline, the order of deployment, a table of findings, and the events that prove them."""
    blocks = [f"### channelmap: {found(report)}"]
    blocks += [
        f"**Deploy order:** {_escaped(sentence(order))}"
        for order in report.diagnostics
        if order.code == Code.DEPLOY_ORDER
    ]
    if files := checked(report):
        blocks.append(f"Checked {_escaped(files)}.")
    listed = [diagnostic for diagnostic in report.diagnostics if diagnostic.code != Code.DEPLOY_ORDER]
    listed.sort(key=lambda diagnostic: list(Severity).index(diagnostic.severity))
    shown = listed[:_MAX_FINDINGS]
    if shown:
        blocks.append("\n".join(_table(shown)))
    if len(listed) > _MAX_FINDINGS:
        blocks.append(f"And {len(listed) - _MAX_FINDINGS} more.")
    if any(diagnostic.witness for diagnostic in shown):
        blocks += _events(shown)
    return "\n\n".join(blocks) + "\n"


def _table(diagnostics: list[Diagnostic]) -> Iterator[str]:
    yield "| | where | what is wrong |"
    yield "| --- | --- | --- |"
    for diagnostic in diagnostics:
        location = _code(str(diagnostic.location))
        yield f"| {diagnostic.severity} | {location} | {_escaped(sentence(diagnostic))} ({_code(diagnostic.code)}) |"


def _events(diagnostics: list[Diagnostic]) -> Iterator[str]:
    yield "<details><summary>Events that prove it</summary>"
    for diagnostic in diagnostics:
        if diagnostic.witness:
            event = event_text(diagnostic.witness)
            longest = max(map(len, _BACKTICKS.findall(event)), default=0)
            fence = "`" * max(3, longest + 1)
            yield f"{_code(str(diagnostic.location))} {_code(diagnostic.code)}:"
            yield f"{fence}json\n{event}\n{fence}"
    yield "</details>"


def _code(text: str) -> str:
    return f"`{text}`" if _PLAIN.fullmatch(text) else _escaped(text)


def _escaped(text: str) -> str:
    """Escape text for Markdown and HTML, including mentions and links that services would find."""
    text = _MEANINGFUL.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return _REFERENCE.sub(r"\1&#8203;", text)
