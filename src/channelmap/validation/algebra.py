"""What sets of values two schemas describe, and how they lie to each other.

The only module that knows the engine's set algebra, which is experimental: where it is missing, has changed or
gives up, the answer is that nobody knows.
"""

from typing import Any, Literal

import jsonschema_rs

from channelmap.validation.engine import Schema

Answer = Literal["yes", "no", "unknown"]

#: What an experimental interface may raise instead of answering: its own errors, and those of one that has changed.
_FAILURES = (ValueError, TypeError, AttributeError, RecursionError, OverflowError, NotImplementedError)


def covers(wide: Schema, narrow: Schema) -> Answer:
    """Say whether `wide` accepts every value that `narrow` accepts. Neither may refer to another file.

    Only ``yes`` is a proof; the other two mean that nobody has found one.
    """
    try:
        answer = _canonical(wide).covers(_canonical(narrow))
    except _FAILURES:
        return "unknown"
    return _word(answer)


def accepts_something(schema: Schema) -> Answer:
    """Say whether there is any value that a schema accepts; only ``no`` is a proof."""
    try:
        return _word(_canonical(schema).satisfiability())
    except _FAILURES:
        return "unknown"


def dead_parts(schema: Schema) -> dict[str, str]:
    """Find the subschemas that accept no value: the JSON pointer of each, and why; nothing where nobody knows."""
    try:
        found = jsonschema_rs.canonical.find_unsatisfiable(schema)
    except _FAILURES:
        return {}
    return {pointer: type(reason).__name__.lower() for pointer, reason in found.items()}


def _canonical(schema: Schema) -> Any:
    return jsonschema_rs.canonicalize(schema, validate_formats=True, offline=True)


def _word(answer: Any) -> Answer:
    word = str(answer).rpartition(".")[2].lower()
    return "yes" if word == "yes" else "no" if word == "no" else "unknown"
