"""JSON Schema: schemas compiled once, instances judged in no time, reasons in words that quote no payload.

The only room that knows the JSON Schema engine, jsonschema-rs. Knows no channel, no YAML, and reads nothing:
not the disk, not the network.
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
from channelmap.validation.guard import RESERVED, is_plain, plain, plain_copy, unsupported
from channelmap.validation.wording import Mismatch

__all__ = [
    "BASE_URI",
    "DIALECTS",
    "RESERVED",
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
