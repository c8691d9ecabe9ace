"""JSON as `json.loads` reads it, but with places, each key once, and only numbers that JSON has."""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from math import isfinite
from typing import Any

from channelmap.codes import Code
from channelmap.source.document import MAX_DEPTH, MAX_NODES, Builder, Document, decode, number

_TOKEN = re.compile(r'["{}\[\]]|[^\s",:{}\[\]]+')
_COMMA = "not JSON: a comma with nothing behind it; take it out"
_WORDS = {"null": None, "true": True, "false": False}


def read_json(path: str, data: bytes) -> Document:
    """Read a JSON text in UTF-8.

    Args:
        path: what messages call the file.
        data: its bytes; a byte order mark is passed over.

    Raises:
        ContractError: with the first error of syntax, or with everything else that is wrong.

    """
    text = decode(path, data)
    builder = Builder(text)
    if not text.text.strip():
        return builder.document()
    if _is_simple(text.text):
        try:
            value = json.loads(text.text, object_pairs_hook=_mapping, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            pass  # which of its errors is the first to be told is decided below
        else:
            # Most files have no finding: their places are never asked for.
            return Document(path, value, text, lambda: _scanned(Builder(text)).root)
    try:
        # Only for the syntax, to the end of the text: `_scan` says what else is wrong, and relies on it.
        json.loads(text.text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        place, words = _in_words(error)
        raise builder.stop(place, Code.JSON_SYNTAX, words) from None
    except RecursionError:
        pass  # `_scan` stops sooner
    return _scanned(builder)


def _is_simple(text: str) -> bool:
    """Whether the bounds and the rule about surrogates are kept for sure."""
    return len(text) <= MAX_NODES and text.count("{") + text.count("[") <= MAX_DEPTH and r"\u" not in text


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is declared twice")
    return found


def _finite(literal: str) -> float:
    value = float(literal)
    if not isfinite(value):
        raise ValueError("not a number of JSON")
    return value


def _scanned(builder: Builder) -> Document:
    _scan(builder.text.text, builder)
    return builder.document()


def _scan(text: str, builder: Builder) -> None:
    """Feed the tokens of a text whose syntax is right as far as it is not too deep."""
    offset = 0
    while token := _TOKEN.search(text, offset):
        start, offset = token.span()
        match text[start]:
            case "{":
                builder.open({}, start)
            case "[":
                builder.open([], start)
            case "}" | "]":
                builder.close()
            case '"':
                value, offset = scanstring(text, start + 1, True)  # noqa: FBT003  (takes no keywords)
                (builder.key if builder.expects_key else builder.value)(value, start)
            case _:
                word = token.group()
                builder.value(_WORDS[word] if word in _WORDS else number(builder, word, start), start)


def _in_words(error: json.JSONDecodeError) -> tuple[int, str]:
    """Say where a text stops being JSON, and why; each Python words it in its own way."""
    before, found = error.doc[: error.pos].rstrip(), error.doc[error.pos : error.pos + 1]
    if not found:
        return error.pos, "the JSON text ends too early"
    if found in "}]" and before.endswith(","):
        return len(before) - 1, _COMMA
    if error.msg.startswith("Illegal trailing comma"):
        return error.pos, _COMMA
    return error.pos, f"not JSON: {error.msg[0].lower()}{error.msg[1:]}"
