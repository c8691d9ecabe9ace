"""Compare the sets of values that schemas accept.

This is the only module that uses the engine's set algebra, which is experimental. If it is missing, has changed or
fails, the answer is "unknown". So it is for recursive schemas: with these, the engine may end the process.
"""

from typing import Any, Literal
from urllib.parse import unquote

import jsonschema_rs

from channelmap.pointers import resolve, steps_of
from channelmap.validation.engine import Schema, panic_as_error
from channelmap.validation.structure import children

Answer = Literal["yes", "no", "unknown"]

_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def covers(wide: Schema, narrow: Schema) -> Answer:
    """Return whether `wide` accepts every value that `narrow` accepts. Neither may refer to another file.

    Only ``yes`` is a proof; ``no`` and ``unknown`` mean that no proof was found.
    """
    try:
        with panic_as_error():
            answer = _canonical(wide).covers(_canonical(narrow))
    except Exception:  # noqa: BLE001  (an experimental interface may raise anything; it is not an answer)
        return "unknown"
    return _as_answer(answer)


def satisfiability(schema: Schema) -> Answer:
    """Return whether a schema accepts any value at all; only ``no`` is a proof."""
    try:
        with panic_as_error():
            return _as_answer(_canonical(schema).satisfiability())
    except Exception:  # noqa: BLE001  (an experimental interface may raise anything; it is not an answer)
        return "unknown"


def unsatisfiable_parts(schema: Schema) -> dict[str, str]:
    """Return the subschemas that accept no value, as far as this can be proved: JSON pointer to reason."""
    try:
        _require_finite(schema)
        with panic_as_error():
            found = jsonschema_rs.canonical.find_unsatisfiable(schema)
        return {pointer: type(reason).__name__.lower() for pointer, reason in found.items()}
    except Exception:  # noqa: BLE001  (the same)
        return {}


def _canonical(schema: Schema) -> Any:
    _require_finite(schema)
    return jsonschema_rs.canonicalize(schema, validate_formats=True, offline=True)


def _require_finite(schema: Schema) -> None:
    """Raise ValueError if a schema is recursive or has references that this function cannot follow."""
    seen: set[str] = set()

    def follow(part: Schema, path: tuple[str, ...]) -> None:
        waiting = [part]
        while waiting:
            found = waiting.pop()
            if isinstance(found, bool):
                continue
            waiting += [child for _, child in children(found)]
            if _REFERENCES.isdisjoint(found):
                continue
            target = found.get("$ref")
            if not isinstance(target, str) or target in path or not (target == "#" or target.startswith("#/")):
                raise ValueError(target)
            if target not in seen:
                seen.add(target)
                follow(_resolved(schema, target), (*path, target))

    follow(schema, ("#",))


def _resolved(schema: Any, reference: str) -> Schema:
    schema = resolve(schema, steps_of(unquote(reference)))
    if not isinstance(schema, (dict, bool)):
        raise TypeError(reference)
    return schema


def _as_answer(answer: Any) -> Answer:
    word = str(answer).rpartition(".")[2].lower()
    return "yes" if word == "yes" else "no" if word == "no" else "unknown"
