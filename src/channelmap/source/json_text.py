"""Read JSON as `json.loads` does, but with locations, unique keys, and only numbers that JSON allows."""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from math import isfinite
from typing import Any

from channelmap.codes import Code
from channelmap.source.document import MAX_DEPTH, MAX_NODES, Builder, Document, decode, number

_TOKEN = re.compile(r'["{}\[\]]|[^\s",:{}\[\]]+')
_COMMA = "not JSON: trailing comma; remove it"
_CONSTANTS = {"null": None, "true": True, "false": False}


def read_json(path: str, data: bytes) -> Document:
    """Read a JSON text in UTF-8.

    Args:
        path: the name of the file in messages.
        data: its bytes; a byte order mark is ignored.

    Raises:
        ContractError: the text is invalid; has the first syntax error, or else all other faults.

    """
    text = decode(path, data)
    builder = Builder(text)
    if not text.text.strip():
        return builder.document()
    if _is_within_bounds(text.text):
        try:
            value = json.loads(text.text, object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            pass  # The code below finds the fault to report.
        else:
            # Most files have no findings, so nothing needs their locations.
            return Document(path, value, text, lambda: _scan_document(Builder(text)).root)
    try:
        # Check the syntax of the whole text first: `_scan` relies on it, and finds all other faults.
        json.loads(text.text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        offset, words = _describe_error(error)
        raise builder.error(offset, Code.JSON_SYNTAX, words) from None
    except RecursionError:
        pass  # `_scan` reports the nesting depth.
    return _scan_document(builder)


def _is_within_bounds(text: str) -> bool:
    """Whether a text certainly keeps the limits and contains no surrogates."""
    return len(text) <= MAX_NODES and text.count("{") + text.count("[") <= MAX_DEPTH and r"\u" not in text


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is declared twice")
    return found


def _finite(literal: str) -> float:
    value = float(literal)
    if not isfinite(value):
        raise ValueError("not a number of JSON")
    return value


def _scan_document(builder: Builder) -> Document:
    _scan(builder.text.text, builder)
    return builder.document()


def _scan(text: str, builder: Builder) -> None:
    """Pass the tokens of a text to a builder; the syntax must be valid, unless the text is nested too deeply."""
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
                (builder.set_key if builder.expects_key else builder.add_value)(value, start)
            case _:
                word = token.group()
                builder.add_value(_CONSTANTS[word] if word in _CONSTANTS else number(builder, word, start), start)


def _describe_error(error: json.JSONDecodeError) -> tuple[int, str]:
    """Return the offset and the message of a syntax error, the same in all versions of Python."""
    before, found = error.doc[: error.pos].rstrip(), error.doc[error.pos : error.pos + 1]
    if not found:
        return error.pos, "the JSON text ends too early"
    if found in "}]" and before.endswith(","):
        return len(before) - 1, _COMMA
    if error.msg.startswith("Illegal trailing comma"):
        return error.pos, _COMMA
    return error.pos, f"not JSON: {error.msg[0].lower()}{error.msg[1:]}"
