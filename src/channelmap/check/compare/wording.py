"""Describe changes in words: the old and the new value, and the events that are rejected."""

import difflib
from collections.abc import Iterable

from channelmap.check.compare.changes import Change
from channelmap.errors import printable, quoted

_MAX_LENGTH = 60


def statement(change: Change, *, reverse: bool) -> str:
    """Describe a change.

    Args:
        change: a keyword by which the target accepts less than the source.
        reverse: whether the source is the new schema.

    """
    old, new = (change.target, change.source) if reverse else (change.source, change.target)
    subject = quoted(change.subject) if change.subject else "the event"
    match change.keyword:
        case "required":
            return f"{subject} is {'no longer' if reverse else 'now'} required"
        case "properties":
            word = "allowed" if change.source else "declared"
            return f"{subject} is {'now' if new else 'no longer'} {word}"
        case "":
            return f"the schema of {subject} was {_cut(old)}, is {_cut(new)}"
    if old and new:
        return f"'{change.keyword}' of {subject} was {_cut(old)}, is {_cut(new)}"
    if new:
        return f"{subject} has now '{change.keyword}' {_cut(new)}"
    return f"{subject} has no longer '{change.keyword}' {_cut(old)}"


def consequence(events: str, release: str, *, reverse: bool, enforced: bool = True) -> str:
    """Describe the events that are rejected because of a change.

    Args:
        events: a description of the events.
        release: a description of the old release.
        reverse: whether new senders send them and old consumers reject them.
        enforced: whether they are really rejected, because the channel enforces its schemas.

    """
    if reverse:
        return f"{events} are refused by consumers of {release}" if enforced else f"{events} are new to {release}"
    return f"{events}, which {release} accepted, {'are refused' if enforced else 'break the schema'}"


def rename_hint(name: str, candidates: Iterable[str]) -> str:
    """Return a hint with the most similar of the candidates, or an empty text."""
    near = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=0.6)
    return f"was it renamed to {quoted(near[0])}?" if near else ""


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"
