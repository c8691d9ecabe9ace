"""JSON as `json.loads` reads it, but with places, each key once, and only numbers that JSON has."""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]

from channelmap.source.document import Builder, Document, decode, number

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
    builder = Builder(decode(path, data))
    text = builder.text.text
    if not text.strip():
        return builder.document()
    try:
        # Only for the syntax: numbers are left as text, since `int` has a limit of its own.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        place, words = _in_words(error)
        raise builder.stop(place, "json-syntax", words) from None
    except RecursionError:
        pass  # deeper than is allowed here: `_scan` says where
    _scan(text, builder)
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
