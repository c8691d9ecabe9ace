"""Texts that the formats share."""

from channelmap.check.report import Report
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic

#: Maximum number of characters shown of an event.
_MAX_EVENT = 1_000


def one_line(text: str) -> str:
    r"""Escape unprintable characters, which a terminal, a line format or XML would interpret.

    >>> one_line("größer\nals \x1b[1m")
    'größer\\nals \\x1b[1m'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def event_text(event: str) -> str:
    """Return an event on one line, cut if it is very long."""
    text = one_line(event)
    if len(text) <= _MAX_EVENT:
        return text
    return f"{text[:_MAX_EVENT]}… ({len(event):,} characters; all of it with --output json)"


def sentence(diagnostic: Diagnostic) -> str:
    """Return message and hint of a finding, without its location and code."""
    return f"{diagnostic.message}; {diagnostic.hint}" if diagnostic.hint else diagnostic.message


def found(report: Report) -> str:
    """Return the number of findings in words, such as "1 error, 2 warnings"."""
    counts = [(report.count(severity), severity) for severity in Severity]
    return ", ".join(_counted(count, severity) for count, severity in counts if count) or "everything is fine"


def checked(report: Report) -> str:
    """Return what was checked, such as "channels.yaml: 4 channels, 9 event types"; empty if no file was loaded."""
    paths = ", ".join(one_line(file.path) for file in report.checked)
    event_types = sum(len(file.cases) for file in report.checked)
    if not event_types:
        return paths
    channels = sum(file.channels for file in report.checked)
    return f"{paths}: {_counted(channels, 'channel')}, {_counted(event_types, 'event type')}"


def summary(report: Report) -> str:
    """Return one line: what was checked, the number of findings, and the number of checked sends."""
    parts = [checked(report), found(report)]
    if report.sends is not None:
        unread = len(report.sends.unread)
        parts.append(f"{_counted(report.sends.judged, 'send')} checked" + (f", {unread} not checked" if unread else ""))
    return "; ".join(filter(None, parts))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
