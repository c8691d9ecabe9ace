"""Words that the formats share."""

from channelmap.check.report import Report
from channelmap.codes import Severity
from channelmap.diagnostics import Diagnostic

#: Characters of an event that a person is shown.
_MOST_OF_AN_EVENT = 1_000


def one_line(text: str) -> str:
    r"""Escape what a terminal, a line format or XML would take for more than a character.

    >>> one_line("größer\nals \x1b[1m")
    'größer\\nals \\x1b[1m'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def event_text(witness: str) -> str:
    """Return an event for people to read: on one line, and only the beginning of a very long one."""
    text = one_line(witness)
    if len(text) <= _MOST_OF_AN_EVENT:
        return text
    return f"{text[:_MOST_OF_AN_EVENT]}… ({len(witness):,} characters; all of it with --output json)"


def sentence(diagnostic: Diagnostic) -> str:
    """Say what is wrong and what to do about it, without the place and the code."""
    return f"{diagnostic.message}; {diagnostic.hint}" if diagnostic.hint else diagnostic.message


def found(report: Report) -> str:
    """Say how much was found, such as "1 error, 2 warnings"."""
    counts = [(report.count(severity), severity) for severity in Severity]
    return ", ".join(_counted(count, severity) for count, severity in counts if count) or "everything is fine"


def checked(report: Report) -> str:
    """Say what was checked, such as "channels.yaml: 4 channels, 9 event types"; empty when nothing could be."""
    paths = ", ".join(one_line(file.path) for file in report.checked)
    event_types = sum(len(file.cases) for file in report.checked)
    if not event_types:
        return paths
    channels = sum(file.channels for file in report.checked)
    return f"{paths}: {_counted(channels, 'channel')}, {_counted(event_types, 'event type')}"


def summary(report: Report) -> str:
    """Say in one line what was checked, what was found, and how many sends were judged."""
    parts = [checked(report), found(report)]
    if report.sends is not None:
        unread = len(report.sends.unread)
        parts.append(f"{_counted(report.sends.judged, 'send')} judged" + (f", {unread} not readable" if unread else ""))
    return "; ".join(filter(None, parts))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
