"""The engine behind a schema: compiled once, then asked for each event."""

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema_rs

from channelmap.errors import Violation, text_of
from channelmap.validation.descent import Descent, TooLong
from channelmap.validation.cost import is_small, is_too_costly
from channelmap.validation.guard import is_plain, unsupported
from channelmap.validation.parts import PATTERNS, Parts
from channelmap.validation.wording import Mismatch, mismatch

BASE_URI = "https://channelmap.invalid/schemas/"
"""Where schema files stand for each other: this, then the path below the schema root.

Of http, because relative references resolve against no other scheme as they should; `.invalid` is never a host.
"""

Schema = dict[str, Any] | bool
"""A JSON Schema, as Python data."""

DIALECTS = ("https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema")
"""What `$schema` may say; the first is meant where it says nothing."""

MAX_VIOLATIONS = 20
#: Keywords that are held against parts of one event, for its reasons: some 10 ms.
MAX_STEPS = 10_000
#: What the engine raises, instead of deciding, on what the guard does not know yet.
_ENGINE_FAILURES = (ValueError, TypeError, OverflowError, RecursionError)


class EnginePanic(ValueError):
    """The engine panicked, which raises something that is no `Exception`; says what."""


@contextmanager
def panic_as_error() -> Iterator[None]:
    """Let a panic of the engine be an error as any other."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise EnginePanic(text_of(error)) from error


def is_panic(error: BaseException) -> bool:
    """Whether an error neither is an `Exception` nor ends something on purpose."""
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit)


def is_engine_failure(error: BaseException) -> bool:
    """Whether an error means that the engine could not decide; then nothing fits."""
    return isinstance(error, _ENGINE_FAILURES) or is_panic(error)


class SchemaUnusable(Exception):
    """A schema that its metaschema accepts cannot be compiled all the same; says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class SchemaSet:
    """Schemas that may refer to each other, by URI.

    Args:
        schemas: URI and schema of each.

    Raises:
        SchemaUnusable: one of them refers to something that is not among them.

    """

    def __init__(self, schemas: Iterable[tuple[str, Any]]) -> None:
        self.schemas = dict(schemas)
        try:
            with panic_as_error():
                self.registry = jsonschema_rs.Registry(self.schemas.items()) if self.schemas else None
        except (*_ENGINE_FAILURES, jsonschema_rs.ReferencingError) as error:
            raise SchemaUnusable(str(error)) from None


class Validator:
    """A compiled schema that judges events and never raises.

    Args:
        schema: a JSON Schema, valid by its metaschema.
        uri: what its relative references are relative to.
        others: the schemas that it may refer to.

    Attributes:
        others: as given, or none.
        accepts: the engine's function that `fits` calls; with it a caller handles `is_engine_failure` itself.

    Raises:
        SchemaUnusable: it cannot be compiled.

    """

    __slots__ = (
        *("__weakref__", "_engine", "_parts", "_schema", "_uri"),
        *("accepts", "bundle", "others"),
    )

    def __init__(self, schema: Schema, uri: str = BASE_URI, others: SchemaSet | None = None) -> None:
        self._schema = schema
        self._uri = uri
        self.others = others or SchemaSet(())
        self._parts: Parts | None = None
        #: What `structure.bundle` made of the schema, once it was asked.
        self.bundle: Schema | None = None
        try:
            with panic_as_error():
                self._engine = jsonschema_rs.validator_for(
                    schema,
                    registry=self.others.registry,
                    base_uri=uri,
                    validate_formats=True,
                    pattern_options=PATTERNS,
                    offline=True,
                )
        except jsonschema_rs.ValidationError as error:
            raise SchemaUnusable(error.message) from None
        except (*_ENGINE_FAILURES, jsonschema_rs.ReferencingError) as error:
            raise SchemaUnusable(str(error)) from None
        self.accepts: Callable[[Any], bool] = self._first_verdict

    def is_valid(self, event: dict[str, Any]) -> bool:
        """Whether an event consists of JSON values and fits the schema."""
        return (is_plain(event) or unsupported(event) is None) and self.fits(event)

    def fits(self, instance: Any) -> bool:
        """Return whether a value fits the schema; the caller has made sure that it is JSON and not too deep."""
        try:
            return self.accepts(instance)
        except BaseException as error:
            if not is_engine_failure(error):
                raise
            return False

    def _first_verdict(self, instance: Any) -> bool:
        """Judge for the first time: whether the engine can judge in time is not asked before anything is judged."""
        if not is_small(self._schema, self.others.schemas):
            self._walked.may_ask_engine = not is_too_costly(self._walked)
        may_ask = self._parts is None or self._parts.may_ask_engine
        self.accepts = self._engine.is_valid if may_ask else self._descend
        return self.accepts(instance)

    def _descend(self, instance: Any) -> bool:
        """Judge without the engine: slower, and each part of the schema only once for each value."""
        return not Descent(self._walked, limit=1).faults(self._walked.root, instance)

    @property
    def _walked(self) -> Parts:
        if self._parts is None:
            self._parts = Parts(self._schema, self._uri, self.others.schemas, self.others.registry)
        return self._parts

    def reasons(self, event: dict[str, Any]) -> Callable[[], tuple[Violation, ...]]:
        """Return what finds out why an event (known to be JSON) does not fit the schema.

        It finds the violations of the event as it is now: a copy of it is kept until then.
        """
        if is_plain(event):
            flat = event.copy()
            return lambda: self._violations(flat)
        kept = json.dumps(event)
        return lambda: self._violations(json.loads(kept))

    def _violations(self, event: dict[str, Any]) -> tuple[Violation, ...]:
        try:
            found = self.mismatches(event, MAX_VIOLATIONS, MAX_STEPS)
        except TooLong:
            return (Violation("$", "schema", "breaks the schema, in too large a place to say where"),)
        except _ENGINE_FAILURES:
            return (Violation("$", "schema", "cannot be judged: the schema engine gives up on it"),)
        return tuple(dict.fromkeys(one.violation for one in found))

    def mismatches(self, instance: Any, limit: float = math.inf, steps: float = math.inf) -> tuple[Mismatch, ...]:
        """Find what in a value (known to be JSON) breaks the schema, each keyword and place once.

        Args:
            instance: the value.
            limit: mismatches after which the search ends.
            steps: keywords that are held against parts of the value, at most.

        Raises:
            TooLong: that is not enough.

        """
        if self.fits(instance):
            return ()
        try:
            with panic_as_error():
                faults = Descent(self._walked, limit, steps).faults(self._walked.root, instance)
        except LookupError:
            faults = []
        return tuple(dict.fromkeys(map(mismatch, faults))) or (Mismatch((), "schema", "breaks the schema", ()),)


def schema_mismatches(schema: Any, dialect: str) -> tuple[Mismatch, ...]:
    """Find what in a schema breaks the metaschema of its dialect, regular expressions included."""
    return _metaschema(dialect).mismatches(schema)


@functools.cache
def _metaschema(dialect: str) -> Validator:
    return Validator({"$schema": dialect, "allOf": [{"$ref": dialect}]})


_BRANCHES = ("allOf", "anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else")


def with_type(schema: Schema) -> Schema:
    """Return the schema of an event as it reads when `type` need not be written: as one of its properties.

    This only matters where a schema is closed (`additionalProperties: false`), which would refuse every event
    otherwise. What the type is has been compared before a schema is asked, so any will do here. It holds for
    the schema itself and, since they describe the same object, for the branches of its `allOf`, `anyOf`,
    `oneOf`, `if`, `then` and `else`. It does not reach through a `$ref`: a closed schema that others refer to
    must name `type` itself.
    """
    if not isinstance(schema, dict):
        return schema
    result = {key: with_type(value) if key in _CONDITIONS else value for key, value in schema.items()}
    for keyword in _BRANCHES:
        if keyword in schema:
            result[keyword] = [with_type(branch) for branch in schema[keyword]]
    result["properties"] = {"type": True, **schema.get("properties", {})}
    return result
