"""Text for values that are stored in a layer, which any program may have written."""

import base64
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

#: Deeper than any event that a contract accepts, and far below Python's recursion limit.
_MAX_DEPTH = 110
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def utc(seconds: float) -> str:
    """Return a time in UTC as ISO 8601, or the number if it is not a time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        # Other programs may write any number into a layer.
        return str(seconds)


def as_json(value: Any) -> str:
    """Return any value of msgpack as JSON that any terminal can show; never raises."""
    text = json.dumps(_jsonable(value, _MAX_DEPTH), indent=2, ensure_ascii=False)
    # Control characters and lone surrogates inside strings, which JSON does not escape.
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _jsonable(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    # Not isinstance, because msgpack's ExtType is a tuple.
    if type(value) not in {dict, list, tuple}:
        return repr(value)
    if depth == 0:
        return f"… (more than {_MAX_DEPTH} levels deep)"
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _jsonable(item, depth - 1) for key, item in value.items()}
    return [_jsonable(item, depth - 1) for item in value]
