"""Generate values: some that a schema probably accepts, and some around its bounds."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from typing import Any

from channelmap.check.compare.texts import matching_texts
from channelmap.validation import Schema
from channelmap.validation.structure import children

#: Values of each type, and frequent mistakes.
COMMON_VALUES: tuple[Any, ...] = (None, True, False, 0, 1, -1, 1.5, "", "a", "0", "A-1 é", [], [None], {}, {"extra": 1})
#: A text for each format.
FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "a@example.org",
    "idn-email": "a@example.org",
    "hostname": "example.org",
    "idn-hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/a",
    "uri-reference": "/a",
    "iri": "https://example.org/a",
    "iri-reference": "/a",
    "uri-template": "/{a}",
    "json-pointer": "/a",
    "relative-json-pointer": "0",
    "regex": "a",
    "uuid": "c56a4180-65aa-42ec-a945-5fd21dec0538",
}
#: A reference counts as several levels, because a recursive schema may grow tenfold with each.
_MAX_DEPTH = 8
_DEPTH_OF_REFERENCE = 2
_MAX_LENGTH = 2_000
#: Maximum sizes of single values made to exceed a bound.
_LARGEST_TEXT = 1_100_000
_LARGEST_LIST = 20_000
#: Integers of an event are smaller.
_LARGEST = 2**63
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
_BOUNDS = (*_LOWER, *_UPPER)
_SIZES: dict[str, Callable[[int], Any]] = {
    "Length": lambda size: "a" * size,
    "Items": lambda size: list(range(size)),
    "Properties": lambda size: {f"p{index}": 1 for index in range(size)},
}


def values_near_bounds(schema: Schema) -> Iterator[Any]:
    """Yield values around every bound in a schema."""
    for part in _parts(schema):
        yield from _constants(part)
        for keyword in (*_BOUNDS, "multipleOf"):
            if abs(part.get(keyword, _LARGEST)) < _LARGEST:
                yield from (part[keyword] + step for step in (0, 1, -1, 0.5, -0.5))
        for (kind, make), limit in product(_SIZES.items(), ("min", "max")):
            size = part.get(limit + kind, -2)
            yield from (make(int(near)) for near in (size - 1, size, size + 1) if 0 <= near <= _MAX_LENGTH)
        if "format" in part:
            yield from (FORMATS[name] for name in [part["format"]] if name in FORMATS)
        if "pattern" in part:
            yield from matching_texts(part["pattern"])


def boundaries(schemas: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """Yield values just within and just beyond the bounds of schemas that judge the same value, however large.

    A number is a multiple of one of their `multipleOf`, and a text matches the pattern of one of them.
    """
    limits = {part[keyword] for part in schemas for keyword in _BOUNDS if abs(part.get(keyword, _LARGEST)) < _LARGEST}
    steps = {part["multipleOf"] for part in schemas if "multipleOf" in part} | {1}
    for limit, step in product(sorted(limits), sorted(steps, reverse=True)):
        yield from (step * (limit // step + factor) for factor in (0, 1, -1, 2))
    texts = [text for part in schemas if "pattern" in part for text in matching_texts(part["pattern"]) if text]
    for size in sorted(_sizes(schemas, "Length")):
        yield from ((text + text[-1] * size)[:size] for text in ["a", *texts] if size <= _LARGEST_TEXT)
    for size in sorted(_sizes(schemas, "Items")):
        items = [next(samples(part["items"]), "a") for part in schemas if isinstance(part.get("items"), dict)]
        yield from ([item] * size for item in [*items, 1] if size <= _LARGEST_LIST)


def _sizes(schemas: Sequence[dict[str, Any]], kind: str) -> set[int]:
    given = [int(part[limit + kind]) for part in schemas for limit in ("min", "max") if limit + kind in part]
    return {size + step for size in given for step in (-1, 0, 1) if size + step >= 0}


def named_properties(schema: Schema) -> dict[str, list[Schema]]:
    """Return the names of properties that a schema mentions anywhere, with their schemas."""
    found: dict[str, list[Schema]] = {}
    for part in _parts(schema):
        for name, child in part.get("properties", {}).items():
            found.setdefault(name, []).append(child)
        for name in [*part.get("required", ()), *part.get("dependentRequired", ()), *part.get("dependentSchemas", ())]:
            found.setdefault(name, [])
        for pattern, child in part.get("patternProperties", {}).items():
            for name in matching_texts(pattern):
                found.setdefault(name, []).append(child)
        rule = part.get("propertyNames")
        for name in values_near_bounds(rule) if isinstance(rule, dict) else ():
            if isinstance(name, str):
                found.setdefault(name, [])
    return found


def samples(schema: Schema, definitions: dict[str, Any] | None = None, depth: int = 0) -> Iterator[Any]:
    """Yield some values that a schema probably accepts, with all properties and with the required ones."""
    depth += _DEPTH_OF_REFERENCE if isinstance(schema, dict) and "$ref" in schema else 0
    if isinstance(schema, bool) or depth > _MAX_DEPTH:
        yield from ("a", 1, {})
        return
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if constants := list(_constants(schema)):
        yield from constants
        return
    for variant in variants(schema, definitions, depth):
        kinds = variant.get("type", "object" if "properties" in variant else ["string", "integer", "object", "array"])
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield from _of_kind(kind, variant, definitions, depth)


def one_of_each(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[Any]:
    """Yield one value for each alternative of a schema."""
    for keyword in ("anyOf", "oneOf"):
        rest = {key: value for key, value in schema.items() if key != keyword}
        for branch in schema.get(keyword, ()):
            yield from islice(samples({**rest, keyword: [branch]}, definitions), 1)


def _parts(schema: Schema) -> Iterator[dict[str, Any]]:
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += [child for _, child in children(part)]


def _constants(schema: dict[str, Any]) -> Iterator[Any]:
    if "const" in schema:
        yield schema["const"]
    yield from schema.get("enum", ())


def variants(schema: dict[str, Any], definitions: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield, for each alternative, one schema merged from all that judge the same value."""
    own = {
        key: value for key, value in schema.items() if key not in {"allOf", "anyOf", "oneOf", "$ref", "then", "else"}
    }
    always = [*schema.get("allOf", ()), definitions.get(schema.get("$ref", "").removeprefix("#/$defs/"), True)]
    for branch in always:
        own = _merged(own, branch)
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    alternatives += [schema[keyword] for keyword in ("then", "else") if keyword in schema]
    alternatives += [_merged(schema["if"], schema["then"])] if "if" in schema and "then" in schema else []
    for branch in alternatives or [True]:
        merged = _merged(own, branch)
        if depth < _MAX_DEPTH and {"allOf", "anyOf", "oneOf", "$ref"} & merged.keys():
            yield from variants(merged, definitions, depth + 1)
        else:
            yield merged


def _merged(one: Schema, other: Schema) -> dict[str, Any]:
    if isinstance(one, bool) or isinstance(other, bool):
        return one if isinstance(one, dict) else other if isinstance(other, dict) else {}
    result = {**one, **other}
    properties, more = one.get("properties", {}), other.get("properties", {})
    if properties or more:
        both = {name: {"allOf": [properties[name], more[name]]} for name in properties.keys() & more.keys()}
        result["properties"] = {**properties, **more, **both}
    for keyword in ("required", "allOf"):
        if keyword in one and keyword in other:
            result[keyword] = [*one[keyword], *other[keyword]]
    return result


def _of_kind(kind: str, schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> Iterator[Any]:
    match kind:
        case "object":
            yield from _objects(schema, definitions, depth)
        case "array":
            yield from _lists(schema, definitions, depth)
        case "string":
            yield from _strings(schema)
        case "integer" | "number":
            yield from _numbers(schema)
        case "boolean":
            yield True
        case "null":
            yield None


def _objects(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> Iterator[Any]:
    properties = schema.get("properties", {})
    full = {name: _first(child, definitions, depth) for name, child in properties.items() if child is not False}
    required = {name: full.get(name, "a") for name in schema.get("required", ())}
    yield {**full, **required}
    yield required


def _lists(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> Iterator[Any]:
    tuple_or_rest = schema.get("items", True)
    first = tuple_or_rest if isinstance(tuple_or_rest, list) else schema.get("prefixItems", ())
    head = [_first(child, definitions, depth) for child in first]
    rest = schema.get("contains", True if isinstance(tuple_or_rest, list) else tuple_or_rest)
    items = list(islice(samples(rest, definitions, depth + 1), 4)) if rest is not False else []
    size = min(schema.get("minItems", 0), _MAX_LENGTH)
    yield head + items[:1] * max(size - len(head), 1)
    yield head + (items * size)[: max(size - len(head), 0)]
    yield head


def _strings(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("format") in FORMATS:
        yield FORMATS[schema["format"]]
    if "pattern" in schema:
        yield from matching_texts(schema["pattern"])
    yield "a" * min(schema.get("minLength", 1), _MAX_LENGTH)


def _numbers(schema: dict[str, Any]) -> Iterator[float]:
    step = schema.get("multipleOf", 1)
    limits = [schema[keyword] for keyword in _BOUNDS if abs(schema.get(keyword, _LARGEST)) < _LARGEST] or [0]
    near = [step * (limit // step + factor) for limit in limits for factor in (1, 0, 2, -1)]
    yield from sorted(near, key=lambda number: not _is_between(number, schema))


def _is_between(number: float, schema: dict[str, Any]) -> bool:
    is_out = number in {schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")}
    least = max(number, *(schema[keyword] for keyword in _LOWER if keyword in schema), number)
    most = min(number, *(schema[keyword] for keyword in _UPPER if keyword in schema), number)
    return least == number == most and not is_out


def _first(schema: Schema, definitions: dict[str, Any], depth: int) -> Any:
    return next(samples(schema, definitions, depth + 1), "a")
