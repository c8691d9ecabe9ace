r"""Explain why the engine rejects a regular expression: its own message does not say what is wrong.

The engine supports ECMA-262 with a few exceptions, such as ``\k<name>``. Tokens are tried one by one to find the first
invalid one.
"""

import functools
import re
import warnings

from channelmap.errors import quoted
from channelmap.validation.engine import SchemaUnusable, Validator

_CLASS = r"\[\^?(?:\\.|[^\]\\])*\]"
_ESCAPE = r"\\(?:k<[^>]*>|[pP]\{[^}]*\}|u\{[^}]*\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[a-zA-Z]|[1-9][0-9]*|.)"
_GROUP = r"\(\?(?:P[<=]|\#|[a-zA-Z-]+[:)])"
_TOKEN = re.compile(f"{_CLASS}|{_ESCAPE}|{_GROUP}", re.DOTALL)
_QUANTIFIER = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
#: A '-' with a set of characters, such as `\w`, on one side, where a range needs one character.
_SET_IN_RANGE = re.compile(r"\\[dDsSwWpP](?:\{[^}]*\})?-[^\]]|[^\[^\]]-\\[dDsSwWpP]")

#: Syntax of other languages, or that the engine lacks, and the remedy.
_REMEDIES = {
    "[^]": r"write [\s\S] instead of [^]",
    "[]": "write (?!) instead of [], which matches nothing",
    "\\0": r"write \x00 instead of \0",
    "\\A": "write ^ instead of \\A",
    "\\Z": "write $ instead of \\Z",
    "\\z": "write $ instead of \\z",
    "(?P<": "write (?<name>…) instead of (?P<name>…)",
    "(?P=": "write the number of the group, such as \\1, instead of (?P=name)",
    "(?#": "comments are not part of ECMA-262",
}


def pattern_fault(pattern: str) -> str:
    r"""Return what is wrong in a pattern; empty if the engine accepts it.

    >>> pattern_fault(r"^[\w-.]+$")
    "in '[\\w-.]' a '-' stands beside a set of characters: put it first or last in the brackets"
    """
    if _is_accepted(pattern):
        return ""
    for token in _TOKEN.finditer(pattern):
        fault = _token_fault(token.group())
        if fault:
            return fault
    rest = _QUANTIFIER.sub("", _TOKEN.sub("", pattern))
    stray = next((f"write \\{char} instead of {char}" for char in rest if char in "{}]"), "")
    return _python_message(pattern) or stray or "it is not a regular expression of ECMA-262"


def _python_message(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            # Warnings about syntax that a later Python may read differently.
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        # Python knows fewer escapes and groups than ECMA-262, and the invalid ones were found before.
        if not re.match(r"bad escape \\|unknown extension", error.msg):
            return error.msg if error.pos is None else f"{error.msg} (character {error.pos + 1})"
    except (OverflowError, RecursionError):
        pass
    return ""


def _is_accepted(pattern: str) -> bool:
    """Whether the engine compiles a pattern and its format `regex` accepts it; of some only the first is true."""
    try:
        Validator({"pattern": pattern})
    except SchemaUnusable:
        return False
    return _ecma_regex().fits(pattern)


@functools.cache
def _ecma_regex() -> Validator:
    return Validator({"format": "regex"})


def _token_fault(token: str) -> str:
    """Return what is wrong in a single escape, bracket class or beginning of a group; empty if it is valid."""
    if token in _REMEDIES:
        return _REMEDIES[token]
    if token.startswith("(?"):
        return f"{quoted(token)} is not part of ECMA-262, which has no flags within a pattern"
    is_posix = token.startswith("[[:") and token.endswith(":]")
    if not is_posix and (re.match(r"\\[1-9]", token) or _is_accepted(token)):
        return ""
    return _class_fault(token) if token.startswith("[") else _escape_fault(token)


def _escape_fault(token: str) -> str:
    if token.startswith("\\k<"):
        return f"the engine has no reference by name: write a number, such as \\1, instead of {token}"
    if token[1] in "pP" and len(token) > 2:
        return f"there is no Unicode property {quoted(token[3:-1])}"
    return f"{quoted(token)} is not an escape of ECMA-262"


def _class_fault(token: str) -> str:
    if re.search(r"(?<!\\)(?:\\\\)*\\b", token):
        return "write \\x08 instead of \\b in brackets"
    if token.startswith("[[:"):
        return f"{quoted(token)} is not part of ECMA-262: write the characters, such as [a-z]"
    if _SET_IN_RANGE.search(token):
        return f"in {quoted(token)} a '-' stands beside a set of characters: put it first or last in the brackets"
    escapes = (_token_fault(found.group()) for found in re.finditer(_ESCAPE, token, re.DOTALL))
    reason = next(filter(None, escapes), "") or _python_message(token).partition(" (")[0]
    return reason or f"{quoted(token)} is not a class of characters"
