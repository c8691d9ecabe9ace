"""A second engine, the jsonschema package: slow, widely used, and imported only when a check asks it."""

import json
from collections.abc import Callable
from typing import Any

from channelmap.validation.engine import Validator
from channelmap.validation.guard import unsupported
from channelmap.validation.structure import CannotBundle, bundle


def second_opinion(validator: Validator) -> Callable[[dict[str, Any]], bool | None]:
    """Return a function that says whether the jsonschema package accepts an event; `None` where it cannot say.

    The package is not asked where the two are known to differ: regular expressions, which Python reads in its own way
    and may never finish, formats, which it does not assert, and what the guard refuses.
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
    """Return the schema of all draft-07 schemas."""
    from jsonschema import Draft7Validator

    return Draft7Validator.META_SCHEMA
