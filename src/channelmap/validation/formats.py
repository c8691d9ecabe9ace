"""Which formats the engine checks: it passes over the others in silence."""

import functools

import jsonschema_rs

#: Those of JSON Schema's own list, over all dialects.
_NAMES = (
    *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
    *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
    *("uri-template", "uuid"),
)


@functools.cache
def known_formats(dialect: str) -> frozenset[str]:
    """Name the formats that are checked in schemas of that dialect."""
    return frozenset(name for name in _NAMES if _is_known(name, dialect))


def _is_known(name: str, dialect: str) -> bool:
    schema = {"$schema": dialect, "format": name}
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True, ignore_unknown_formats=False)
    except jsonschema_rs.ValidationError:
        return False
    return True
