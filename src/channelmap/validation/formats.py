"""List the formats that the engine checks; it ignores all others."""

import functools

import jsonschema_rs

#: The formats that JSON Schema defines, in any dialect.
_NAMES = (
    *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
    *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
    *("uri-template", "uuid"),
)


@functools.cache
def known_formats(dialect: str) -> frozenset[str]:
    """Return the names of the formats that the engine checks in schemas of a dialect."""
    return frozenset(name for name in _NAMES if _is_known(name, dialect))


def _is_known(name: str, dialect: str) -> bool:
    schema = {"$schema": dialect, "format": name}
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True, ignore_unknown_formats=False)
    except jsonschema_rs.ValidationError:
        return False
    return True
