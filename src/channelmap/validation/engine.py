"""Compile schemas with the engine, and judge events by them."""

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema_rs

from channelmap.errors import Violation, text_of
from channelmap.validation.cost import is_small, is_too_costly
from channelmap.validation.descent import Descent, StepLimitExceeded
from channelmap.validation.guard import is_plain, unsupported
from channelmap.validation.parts import PATTERN_OPTIONS, Parts
from channelmap.validation.wording import Mismatch, mismatch

BASE_URI = "https://channelmap.invalid/schemas/"
"""The base URI of schema files; their path below the schema root follows.

The scheme is https because relative references do not resolve correctly against other schemes. `.invalid` is never a
host.
"""

Schema = dict[str, Any] | bool
"""A JSON Schema, as Python data."""

DIALECTS = ("https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema")
"""The supported values of `$schema`; the first is the default."""

MAX_VIOLATIONS = 20
#: Maximum number of keyword evaluations for the reasons of one rejection: about 10 ms.
MAX_STEPS = 10_000
#: Exceptions of the engine on values that the guard should have rejected.
_ENGINE_FAILURES = (ValueError, TypeError, OverflowError, RecursionError)


class EnginePanic(ValueError):
    """The engine panicked; the message is that of the panic, which is not an `Exception`."""


@contextmanager
def panic_as_error() -> Iterator[None]:
    """Raise EnginePanic, which is an ordinary exception, if the engine panics."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise EnginePanic(text_of(error)) from error


def is_panic(error: BaseException) -> bool:
    """Whether an error is neither an `Exception` nor a deliberate exit such as KeyboardInterrupt."""
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit | GeneratorExit)


def is_engine_failure(error: BaseException) -> bool:
    """Whether an error means that the engine failed to decide; the value then counts as not fitting."""
    return isinstance(error, _ENGINE_FAILURES) or is_panic(error)


class SchemaUnusable(Exception):
    """A schema cannot be compiled although its metaschema accepts it; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class SchemaSet:
    """Schemas that may refer to each other, by URI.

    Args:
        schemas: URI and schema of each.

    Raises:
        SchemaUnusable: one of them refers to a schema that is not among them.

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
        uri: the base URI of its relative references.
        others: the schemas that it may refer to.

    Attributes:
        others: the schemas that it may refer to; empty by default.
        accepts: the function that `fits` calls; a direct caller handles errors by `is_engine_failure`.
        bundle: the result of `structure.bundle`, once that was called.

    Raises:
        SchemaUnusable: the schema cannot be compiled.

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
        self.bundle: Schema | None = None
        try:
            with panic_as_error():
                self._engine = jsonschema_rs.validator_for(
                    schema,
                    registry=self.others.registry,
                    base_uri=uri,
                    validate_formats=True,
                    pattern_options=PATTERN_OPTIONS,
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
        """Return whether a value fits the schema; the caller has checked that it is JSON and not too deep."""
        try:
            return self.accepts(instance)
        except BaseException as error:
            if not is_engine_failure(error):
                raise
            return False

    def _first_verdict(self, instance: Any) -> bool:
        """Judge the first instance, and replace `accepts`: only now decide whether the engine is fast enough."""
        if not is_small(self._schema, self.others.schemas):
            self._schema_parts.may_ask_engine = not is_too_costly(self._schema_parts)
        may_ask = self._parts is None or self._parts.may_ask_engine
        self.accepts = self._engine.is_valid if may_ask else self._judge_by_descent
        return self.accepts(instance)

    def _judge_by_descent(self, instance: Any) -> bool:
        """Judge by descent: slower than the engine, but each part of the schema sees each value only once."""
        return not Descent(self._schema_parts, limit=1).faults(self._schema_parts.root, instance)

    @property
    def _schema_parts(self) -> Parts:
        if self._parts is None:
            self._parts = Parts(self._schema, self._uri, self.others.schemas, self.others.registry)
        return self._parts

    def reasons(self, event: dict[str, Any]) -> Callable[[], tuple[Violation, ...]]:
        """Return a function that finds the violations of an event (known to be JSON) as it is now.

        The function keeps a copy of the event, so later changes have no effect.
        """
        if is_plain(event):
            flat = event.copy()
            return lambda: self._violations(flat)
        kept = json.dumps(event)
        return lambda: self._violations(json.loads(kept))

    def _violations(self, event: dict[str, Any]) -> tuple[Violation, ...]:
        try:
            found = self.mismatches(event, MAX_VIOLATIONS, MAX_STEPS)
        except StepLimitExceeded:
            return (Violation("$", "schema", "breaks the schema; finding out where would take too long"),)
        except _ENGINE_FAILURES:
            return (Violation("$", "schema", "cannot be judged: the schema engine gives up on it"),)
        return tuple(dict.fromkeys(one.violation for one in found))

    def mismatches(self, instance: Any, limit: float = math.inf, steps: float = math.inf) -> tuple[Mismatch, ...]:
        """Return the mismatches of a value (known to be JSON) with the schema, without duplicates.

        Args:
            instance: the value.
            limit: number of mismatches after which the search ends.
            steps: maximum number of keyword evaluations.

        Raises:
            StepLimitExceeded: the search takes more steps.

        """
        if self.fits(instance):
            return ()
        try:
            with panic_as_error():
                faults = Descent(self._schema_parts, limit, steps).faults(self._schema_parts.root, instance)
        except LookupError:
            faults = []
        return tuple(dict.fromkeys(map(mismatch, faults))) or (Mismatch((), "schema", "breaks the schema", ()),)


def schema_mismatches(schema: Any, dialect: str) -> tuple[Mismatch, ...]:
    """Return the mismatches of a schema with the metaschema of its dialect, including invalid regular expressions."""
    return _metaschema(dialect).mismatches(schema)


@functools.cache
def _metaschema(dialect: str) -> Validator:
    return Validator({"$schema": dialect, "allOf": [{"$ref": dialect}]})


_BRANCHES = ("allOf", "anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else")


def with_type(schema: Schema) -> Schema:
    """Return a copy of an event's schema in which `type` is a declared property.

    Otherwise a closed schema (`additionalProperties: false`) would have to declare `type`, or it would reject every
    event. Any value is allowed: the caller has compared the type before. The property is added to the schema itself
    and to the branches of its `allOf`, `anyOf`, `oneOf`, `if`, `then` and `else`, which describe the same object. It is
    not added behind a `$ref`: a closed schema that others refer to must declare `type` itself.
    """
    if not isinstance(schema, dict):
        return schema
    result = {key: with_type(value) if key in _CONDITIONS else value for key, value in schema.items()}
    for keyword in _BRANCHES:
        if keyword in schema:
            result[keyword] = [with_type(branch) for branch in schema[keyword]]
    result["properties"] = {"type": True, **schema.get("properties", {})}
    return result
