"""JSON Schema validation: compile a schema once, judge many events, and give reasons that quote no payload.

This is the only package that uses the JSON Schema engine, jsonschema-rs. It does not know channels or YAML, and reads
neither files nor the network.
"""

from channelmap.validation.engine import (
    BASE_URI,
    DIALECTS,
    Schema,
    SchemaSet,
    SchemaUnusable,
    Validator,
    is_engine_failure,
    schema_mismatches,
    with_type,
)
from channelmap.validation.guard import RESERVED, RESERVED_KEYS, is_plain, plain, plain_copy, unsupported
from channelmap.validation.wording import Mismatch

__all__ = [
    "BASE_URI",
    "DIALECTS",
    "RESERVED",
    "RESERVED_KEYS",
    "Mismatch",
    "Schema",
    "SchemaSet",
    "SchemaUnusable",
    "Validator",
    "is_engine_failure",
    "is_plain",
    "plain",
    "plain_copy",
    "schema_mismatches",
    "unsupported",
    "with_type",
]
