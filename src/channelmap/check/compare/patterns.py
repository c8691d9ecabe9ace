"""Derive the length of a text from its pattern or format, and find patterns that no text matches both.

Only simple patterns are understood; for others nothing is derived.
"""

import re
from typing import Any, NamedTuple

from channelmap.check.compare.merging import merge

#: Tokens that match exactly one character: a class, an escape, or a literal character.
_CHAR = re.compile(r"\[\^?(?:[^\[\]\\&~-]|\\[dws.\-/_+]|-)+\]|\\[dws.\-/_+(){}\[\]|?*^$]|[^\\\[\](){}|?*+.^$\n]|\.")
_QUANTIFIER = re.compile(r"\{(\d{1,6})(?:(,)(\d{1,6})?)?\}|[?*+]")
_PREFIX = re.compile(r"\^([A-Za-z0-9_ :/@-]*)(?![?*+{|])")


class _Lengths(NamedTuple):
    """The lengths of the shortest and of the longest text; the latter is `None` if there is no limit."""

    least: int
    most: int | None


#: Lengths of texts of a format, as the engine asserts it.
_LENGTHS_OF_FORMATS = {"uuid": _Lengths(36, 36), "date": _Lengths(10, 10), "ipv4": _Lengths(7, 15)}


def add_implied_lengths(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the lengths that its pattern and format imply; it accepts the same values."""
    found = [_LENGTHS_OF_FORMATS.get(schema.get("format", ""))]
    found += [_lengths_of_pattern(schema["pattern"]) if "pattern" in schema else None]
    for least, most in filter(None, found):
        limits = {"minLength": least} | ({} if most is None else {"maxLength": most})
        schema = merge(schema, limits) or schema
    return schema


def exclude_each_other(one: str, other: str) -> bool:
    """Whether two patterns require different prefixes, so that no text matches both."""
    prefixes = [match.group(1) if (match := _PREFIX.match(pattern)) else "" for pattern in (one, other)]
    if any("|" in pattern for pattern in (one, other)):
        return False
    return not prefixes[0].startswith(prefixes[1]) and not prefixes[1].startswith(prefixes[0])


def _lengths_of_pattern(pattern: str) -> _Lengths | None:
    """Return the lengths of the texts that a pattern matches; `None` if it is not a simple sequence."""
    if not pattern.startswith("^"):
        return None
    least, most, at = 0, 0, 1
    unbounded = False
    while at < len(pattern) and pattern[at:] != "$":
        token = _CHAR.match(pattern, at)
        if token is None:
            return None
        low, high, at = _count(pattern, token.end())
        least += low
        unbounded |= high is None
        most += high or 0
    return _Lengths(least, None if unbounded or at == len(pattern) else most)


def _count(pattern: str, at: int) -> tuple[int, int | None, int]:
    """Return the minimum and maximum count of a token, and the index of the next one."""
    found = _QUANTIFIER.match(pattern, at)
    if found is None:
        return 1, 1, at
    end = found.end() + (pattern[found.end() : found.end() + 1] == "?")
    sign = found.group()
    if sign in {"?", "*", "+"}:
        return int(sign == "+"), 1 if sign == "?" else None, end
    least = int(found.group(1))
    most = int(found.group(3)) if found.group(3) else None if found.group(2) else least
    return least, most, end
