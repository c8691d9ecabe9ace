"""Events that Hypothesis makes from a schema: valid ones, and ones that are nearly valid.

Strategies follow the keywords of the schema as far as they know them. The channel then judges each event.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from channelmap.asgi import Event
from channelmap.check.compare.samples import COMMON_VALUES, FORMATS, samples, values_near_bounds, variants
from channelmap.check.compare.texts import matching_texts
from channelmap.contract import Channel, EventType
from channelmap.validation import Schema, Validator
from channelmap.validation.structure import CannotBundle, bundle

Strategy = st.SearchStrategy[Any]

_LARGEST_INTEGER = 2**63 - 1
#: Larger sizes than the smallest that are tried, apart from the largest.
_MORE = 12
_MAX_SIZE = 2_000
_KEYS: dict[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_KEYS["integer"] = _KEYS["number"]
#: Types whose values are judged one by one, because events with several wrong ones would hardly ever be valid.
_JUDGED = frozenset({"integer", "number", "string"})
_TEXT = st.text(st.characters(codec="utf-8"), max_size=_MORE)
_JSON: Strategy = st.recursive(
    st.none() | st.booleans() | st.integers(-_LARGEST_INTEGER, _LARGEST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
_FORMATS: dict[str, Callable[[], st.SearchStrategy[str]]] = {
    "date": lambda: st.dates().map(str),
    "date-time": lambda: st.datetimes().map(lambda value: f"{value.isoformat()}Z"),
    "time": lambda: st.times().map(lambda value: f"{value.isoformat()}Z"),
    "uuid": lambda: st.uuids().map(str),
    "email": st.emails,
    "idn-email": st.emails,
    "ipv4": lambda: st.ip_addresses(v=4).map(str),
    "ipv6": lambda: st.ip_addresses(v=6).map(str),
}


#: Nothing is kept between runs, and slow handlers or strict schemas are no fault of the test.
_SETTINGS = settings(
    database=None, deadline=None, print_blob=False, report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
)  # fmt: skip
#: How many events are made from the schema for one that is known.
_MADE_FOR_ONE_KNOWN = 9
#: Events that are tried before `simplest` gives up.
_MAX_TRIED = 500


def simplest(channel: Channel, event_type: EventType, fields: Mapping[str, Any]) -> Event | None:
    """Return the simplest valid event with these properties, the same one each time; `None` if none was found."""
    limited = settings(_SETTINGS, max_examples=_MAX_TRIED)
    try:
        found = find(
            valid_events(channel, event_type),
            lambda event: channel.judge({**event, **fields}) is None,
            settings=limited,
            random=Random(0),  # noqa: S311  (no secret)
        )
    except (NoSuchExample, Unsatisfiable):
        return None
    return {**found, **fields}


def try_events(channel: Channel, event_type: EventType, examples: int, attempt: Callable[[Event], None]) -> None:
    """Call a function with generated events, half of them valid and half nearly valid.

    Args:
        channel: the channel.
        event_type: the type of the events.
        examples: number of events.
        attempt: called with each event. When it raises, simpler events are tried; the last call is with the simplest
            one that makes it raise.

    Raises:
        Exception: what `attempt` has raised for the simplest event.

    """
    events = valid_events(channel, event_type) | nearly_valid_events(channel, event_type)

    @settings(_SETTINGS, max_examples=examples)
    @given(events)
    def run(event: Event) -> None:
        attempt(event)

    run()


def valid_events(channel: Channel, event_type: EventType) -> st.SearchStrategy[Event]:
    """Return a strategy of events that the channel accepts.

    The examples of the contract, and some events that the check of contracts makes, are among them, so that there is an
    event also for a schema whose keywords no strategy follows.
    """
    known = [event for event in _known_events(event_type) if channel.judge(event) is None]
    made = _made_events(event_type).filter(lambda event: channel.judge(event) is None)
    if not known:
        return made
    return st.integers(0, _MADE_FOR_ONE_KNOWN).flatmap(lambda number: made if number else st.sampled_from(known))


def nearly_valid_events(channel: Channel, event_type: EventType) -> st.SearchStrategy[Event]:
    """Return a strategy of valid events of which one property was removed, added or replaced."""
    schema = _schema_of(event_type)
    names = sorted(schema.get("properties", {}).keys() - {"type"}) if isinstance(schema, dict) else []
    values = [value for value in values_near_bounds(schema) if _is_small(value)]
    others, valid = st.sampled_from([*COMMON_VALUES, *values]) | _JSON, valid_events(channel, event_type)

    @st.composite
    def nearly_valid(draw: st.DrawFn) -> Event:
        event = {**draw(valid)}
        name = draw(st.sampled_from(sorted({*names, *event} - {"type"}) or ["extra"]) | st.just("extra"))
        if name in event and draw(st.booleans()):
            del event[name]
        else:
            event[name] = draw(others)
        return event

    return nearly_valid()


def _known_events(event_type: EventType) -> Iterator[Event]:
    yield from (example.event for example in event_type.accepts if isinstance(example.event, dict))
    for sample in samples(_schema_of(event_type)):
        if isinstance(sample, dict):
            yield _with_type(event_type.name, sample)


def _made_events(event_type: EventType) -> st.SearchStrategy[Event]:
    schema = _schema_of(event_type)
    made = st.dictionaries(_TEXT, _JSON, max_size=3) if schema is True else _Maker(schema).of(schema)
    return made.filter(lambda value: isinstance(value, dict)).map(partial(_with_type, event_type.name))


def _with_type(name: str, event: Event) -> Event:
    return {"type": name} | event | {"type": name}


def _schema_of(event_type: EventType) -> Schema:
    """Return the schema of an event with its references pulled in, as far as that is possible."""
    if event_type.validator is None:
        return True
    try:
        return bundle(event_type.validator)
    except CannotBundle:
        return event_type.schema


def _is_small(value: Any) -> bool:
    return not isinstance(value, str | list | dict) or len(value) <= _MAX_SIZE


class _Maker:
    """Makes strategies for the parts of one schema; a recursive part refers to its own strategy."""

    def __init__(self, schema: Schema) -> None:
        self._definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
        self._known: dict[str, Strategy] = {}

    def of(self, schema: Schema) -> Strategy:
        """Return a strategy of values that a schema probably accepts."""
        if schema is False:
            return st.nothing()
        if schema is True or not schema:
            return _JSON
        text = json.dumps(schema, sort_keys=True)
        if text not in self._known:
            self._known[text] = st.deferred(lambda: self._made(schema))
        return self._known[text]

    def _made(self, schema: dict[str, Any]) -> Strategy:
        return st.one_of([self._of_variant(variant) for variant in variants(schema, self._definitions)])

    def _of_variant(self, variant: dict[str, Any]) -> Strategy:
        if "const" in variant:
            return st.just(variant["const"])
        if "enum" in variant:
            return st.sampled_from(variant["enum"])
        kinds = variant.get("type") or [
            kind for kind, keys in _KEYS.items() if kind != "integer" and not variant.keys().isdisjoint(keys)
        ]
        if not kinds:
            return _JSON
        return st.one_of([self._of_kind(kind, variant) for kind in ([kinds] if isinstance(kinds, str) else kinds)])

    def _of_kind(self, kind: str, schema: dict[str, Any]) -> Strategy:
        makers: dict[str, Callable[[dict[str, Any]], Strategy]] = {
            "object": self._objects, "array": self._arrays, "string": _texts, "integer": _integers,
            "number": lambda schema: _integers(schema) | _floats(schema),
            "boolean": lambda _: st.booleans(), "null": lambda _: st.none(),
        }  # fmt: skip
        made = makers[kind](schema)
        return made.filter(_judge_of(schema, kind)) if kind in _JUDGED else made

    def _objects(self, schema: dict[str, Any]) -> Strategy:
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
        patterns = schema.get("patternProperties", {})
        required = {name: self.of(properties.get(name, extra)) for name in schema.get("required", ())}
        optional = {name: self.of(child) for name, child in properties.items() if name not in required}
        made: Strategy = st.fixed_dictionaries(required, optional=optional)
        missing = max(0, schema.get("minProperties", 0) - len(required))
        for pattern, child in patterns.items():
            made = _with_more(
                made, st.dictionaries(_of_pattern(pattern), self.of(child), min_size=missing, max_size=missing + 2)
            )
        if not patterns and (isinstance(extra, dict) or (missing and extra)):
            names = self.of({"type": "string", **_dict(schema.get("propertyNames"))})
            made = _with_more(made, st.dictionaries(names, self.of(extra), min_size=missing, max_size=missing + 2))
        return made

    def _arrays(self, schema: dict[str, Any]) -> Strategy:
        items = schema.get("items", True)
        first, rest = (items, schema.get("additionalItems", True)) if isinstance(items, list) else (
            schema.get("prefixItems", []), items,
        )  # fmt: skip
        least = min(schema.get("minItems", 0), _MAX_SIZE)
        most = min(schema.get("maxItems", _MAX_SIZE), least + _MORE)
        head = [self.of(child) for child in first[:most]]
        unique = json.dumps if schema.get("uniqueItems") else None
        if rest is False or most <= len(head):
            made: Strategy = st.tuples(*head).map(list)
        else:
            size = max(0, least - len(head))
            tail = st.lists(self.of(rest), min_size=size, max_size=most - len(head), unique_by=unique)
            made = st.tuples(st.tuples(*head), tail).map(lambda parts: [*parts[0], *parts[1]])
        if "contains" in schema:
            made = st.tuples(made, self.of(schema["contains"])).map(lambda parts: [*parts[0][: most - 1], parts[1]])
        return made


def _judge_of(schema: dict[str, Any], kind: str) -> Callable[[Any], bool]:
    """Return the function that judges a text or a number by its own keywords."""
    return Validator({keyword: schema[keyword] for keyword in _KEYS[kind] if keyword in schema}).fits


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _with_more(made: Strategy, more: Strategy) -> Strategy:
    return st.tuples(made, more).map(lambda parts: {**parts[1], **parts[0]})


def _texts(schema: dict[str, Any]) -> Strategy:
    least, most, name = schema.get("minLength", 0), schema.get("maxLength", math.inf), schema.get("format")
    if name in _FORMATS:
        return _FORMATS[name]()
    if name in FORMATS:
        return st.just(FORMATS[name])
    if "pattern" in schema:
        return _of_pattern(schema["pattern"])
    size = min(least, _MAX_SIZE)
    longest = min(most, size + _MORE)
    made: Strategy = st.text(st.characters(codec="utf-8"), min_size=size, max_size=int(longest))
    return made | st.just("a" * int(most)) if longest < most <= _MAX_SIZE else made


def _of_pattern(pattern: str) -> Strategy:
    try:
        return st.from_regex(re.compile(pattern, re.ASCII), alphabet=st.characters(codec="utf-8"))
    except re.error:
        # A pattern of ECMA-262 that is not one of Python.
        return st.sampled_from([*matching_texts(pattern)] or [""])


def _integers(schema: dict[str, Any]) -> Strategy:
    low, high = _bounds(schema)
    step = schema.get("multipleOf", 1)
    if step != int(step):
        return st.nothing()
    step = int(step)
    least, most = (
        math.ceil(low / step) if math.isfinite(low) else -(_LARGEST_INTEGER // step),
        (math.floor(high / step) if math.isfinite(high) else _LARGEST_INTEGER // step),
    )
    if least > most:
        return st.nothing()
    return st.integers(least, most).map(lambda number: number * step)


def _floats(schema: dict[str, Any]) -> Strategy:
    low, high = _bounds(schema)
    step = schema.get("multipleOf")
    if step is not None:
        least, most = max(low / step, -1e6), min(high / step, 1e6)
        return (
            st.integers(math.ceil(least), math.floor(most)).map(lambda number: number * step)
            if least <= most
            else st.nothing()
        )
    if low > high:
        return st.nothing()
    least, most = (value if math.isfinite(value) else None for value in (low, high))
    return st.floats(least, most, allow_nan=False, allow_infinity=False)


def _bounds(schema: dict[str, Any]) -> tuple[float, float]:
    """Return the smallest and the largest number; an exclusive bound is filtered later, if it is not an integer."""
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    return low, high
