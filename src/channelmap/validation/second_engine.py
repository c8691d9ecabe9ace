"""A second JSON Schema engine, the jsonschema package: slow, widely used, and imported only by `channelmap check`."""

import json
from collections.abc import Callable
from typing import Any

from channelmap.validation.engine import Validator
from channelmap.validation.guard import unsupported
from channelmap.validation.structure import CannotBundle, bundle


def second_opinion(validator: Validator) -> Callable[[dict[str, Any]], bool | None]:
    """Return a function that tells whether the jsonschema package accepts an event; `None` if it was not asked.

    It is not asked where the two engines are known to differ: regular expressions, which Python reads differently and
    may never finish; formats, which it does not assert; and events that the guard rejects.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    try:
        schema = bundle(validator)
    except CannotBundle:
        return lambda _event: None
    text = json.dumps(schema)
    if any(f'"{keyword}' in text for keyword in ("pattern", "format", "content")):
        return lambda _event: None
    engine = validator_for(schema, default=Draft202012Validator)(schema)

    def accepts(event: dict[str, Any]) -> bool | None:
        try:
            return None if unsupported(event) else bool(engine.is_valid(event))
        except RecursionError:
            return None

    return accepts


def draft_07_metaschema() -> dict[str, Any]:
    """Return the metaschema of draft-07."""
    from jsonschema import Draft7Validator

    return Draft7Validator.META_SCHEMA
