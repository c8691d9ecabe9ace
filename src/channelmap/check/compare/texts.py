"""Generate texts that match a simple regular expression."""

import re
from collections.abc import Iterator

_ESCAPED = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t", "b": "", "B": ""}
_TOKEN = re.compile(
    r"\\.|\[(?:\\.|[^\]\\])*\]|\((?:\?(?:[:=!]|<[=!]|P?<\w+>))?|\{(\d+)(,?)(\d*)\}\??|[*+?]\??|[|)^$.]|[^\\]"
)


def matching_texts(pattern: str) -> Iterator[str]:
    """Yield a short and a longer text that probably match; nothing for a pattern that is not simple."""
    for longer in (False, True):
        try:
            text, rest = _alternatives(_TOKEN.finditer(pattern), longer=longer)
        except (ValueError, RecursionError):
            return
        if rest is None:
            yield text


def _alternatives(tokens: Iterator[re.Match[str]], *, longer: bool) -> tuple[str, str | None]:
    """Read up to the end or the closing bracket of a group; return a matching text, and that bracket."""
    pieces: list[str] = []
    done: list[str] = []
    for token in tokens:
        word = token.group()
        match word[0]:
            case ")":
                done.append("".join(pieces))
                return done[-1 if longer else 0], word
            case "|":
                done.append("".join(pieces))
                pieces = []
            case "*" | "+" | "?" | "{" if pieces and (token.group(1) or word[0] != "{"):
                pieces[-1] *= _count(token, longer=longer)
            case "(":
                text, _ = _alternatives(tokens, longer=longer)
                pieces.append("" if word[1:] in {"?=", "?!", "?<=", "?<!"} else text)
            case _:
                pieces.append(_one(word, longer=longer))
    done.append("".join(pieces))
    return done[-1 if longer else 0], None


def _count(token: re.Match[str], *, longer: bool) -> int:
    least, comma, most = token.groups(default="")
    if not least:
        low = int(token.group()[0] == "+")
        return (1 if token.group()[0] == "?" else low + 2) if longer else low
    return min(int(most or int(least) + 2), 1_000) if comma and longer else min(int(least), 1_000)


def _one(word: str, *, longer: bool) -> str:
    """Return a character that a single token matches."""
    if word in {"^", "$"}:
        return ""
    if word == ".":
        return "a"
    if word[0] == "\\":
        return _ESCAPED.get(word[1], word[1])
    if word[0] != "[" or len(word) < 3:
        return word
    if word[1] == "^":
        return next((letter for letter in "a0-_ Z" if letter not in word), "~")
    ends = [match.group() for match in re.finditer(r"\\.|.", word[1:-1], re.DOTALL)]
    return _one(ends[-1 if longer else 0], longer=False)
