"""How schemas lie in a schema; and a schema that stands alone, with what it refers to in place of each `$ref`.

The engine's own `dereference` drops what stands beside a `$ref` where both say the same keyword, and leaves
references of recursive files that lead nowhere any more: what it returns may describe other events.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from channelmap.pointers import Pointer, child, steps_of
from channelmap.validation.engine import DIALECTS, Schema, Validator
from channelmap.validation.keywords import DEFINITIONS, LISTS, MAPS, SINGLES

_MAPS = MAPS | DEFINITIONS
_HOLDERS = _MAPS | LISTS | SINGLES
#: What makes a reference depend on more than its text and its file.
_ENTANGLING = frozenset({"$dynamicRef", "$recursiveRef"})
_LEFT_OUT = DEFINITIONS | {"$ref", "$id", "$anchor"}
_REFERENCE = re.compile(r'"\$(?:ref|dynamicRef|recursiveRef)": "([^"]*)"')
#: What makes a schema more than its own keywords.
_MORE = _HOLDERS | _LEFT_OUT
#: Subschemas in what was put together; a few definitions that refer to each other can come to millions.
_MAX_PARTS = 20_000


class CannotBundle(Exception):
    """A schema cannot be written without its references."""


def children(schema: Mapping[str, Any]) -> list[tuple[Pointer, Schema]]:
    """Find the schemas right inside a schema, and the way to each."""
    found: list[tuple[Pointer, Schema]] = []
    if _HOLDERS.isdisjoint(schema):
        return found
    for keyword, value in schema.items():
        if keyword not in _HOLDERS:
            continue
        if isinstance(value, (dict, bool)) and keyword in SINGLES:
            found.append(((keyword,), value))
        elif isinstance(value, dict) and keyword in _MAPS:
            found += [((keyword, name), child) for name, child in value.items() if isinstance(child, (dict, bool))]
        elif isinstance(value, list) and keyword in LISTS:
            found += [((keyword, index), child) for index, child in enumerate(value) if isinstance(child, (dict, bool))]
    return found


def map_children(schema: Mapping[str, Any], change: Callable[[Pointer, Schema], Schema]) -> dict[str, Any]:
    """Return a schema with each schema right inside it changed."""
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword not in _HOLDERS:
            result[keyword] = value.copy() if isinstance(value, (dict, list)) else value
        elif isinstance(value, (dict, bool)) and keyword in SINGLES:
            result[keyword] = change((keyword,), value)
        elif isinstance(value, dict) and keyword in _MAPS:
            result[keyword] = {
                name: change((keyword, name), child) if isinstance(child, (dict, bool)) else child
                for name, child in value.items()
            }
        elif isinstance(value, list) and keyword in LISTS:
            result[keyword] = [
                change((keyword, index), child) if isinstance(child, (dict, bool)) else child
                for index, child in enumerate(value)
            ]
        else:
            result[keyword] = value.copy() if isinstance(value, (dict, list)) else value
    return result


def reachable_documents(validator: Validator) -> dict[str, Any]:
    """Return a schema and all that it may refer to, by their URIs, to tell whether any of it has changed."""
    known = {**validator.others.schemas, validator._uri: validator._schema}  # noqa: SLF001  (the same room)
    found: dict[str, Any] = {}
    waiting = [validator._uri]  # noqa: SLF001
    while waiting:
        uri = waiting.pop()
        if uri in found or uri in DIALECTS:
            continue
        text = json.dumps(known.get(uri))
        if uri not in known or '"$id"' in text:
            # What moves the base of references may lead anywhere.
            return known
        found[uri] = known[uri]
        waiting += [_parted(_joined(uri, reference))[0] for reference in _REFERENCE.findall(text)]
    return found


def bundle(validator: Validator) -> Schema:
    """Return the schema of a validator so that it means the same anywhere; the caller must not change it.

    What refers to itself keeps its `$ref`, to an entry of `$defs`. The validator keeps the result: a check asks for it
    several times.

    Raises:
        CannotBundle: it refers by anchors or `$dynamicRef`, mixes dialects, or would grow without measure.

    """
    if validator.bundle is None:
        validator.bundle = _Alone(validator._schema, validator._uri, validator.others.schemas).result  # noqa: SLF001  (the same room)
    return validator.bundle


class _Alone:
    def __init__(self, schema: Schema, uri: str, others: Mapping[str, Any]) -> None:
        self._others = others
        self._resources: dict[str, Schema] = {}
        self._open(schema, uri)
        self._dialect = _dialect(schema)
        self._graph: dict[str, set[str]] = {}
        self._parts = 0
        self._note(uri)
        recursive = [target for target in self._graph if self._leads_to(target, target)]
        self._names = _names(recursive)
        result = self._put(schema, uri)
        definitions = {name: self._put(*self._target(target)) for target, name in self._names.items()}
        self.result = {**result, "$defs": definitions} if definitions and isinstance(result, dict) else result

    def _open(self, document: Schema, uri: str) -> None:
        """Take up a document, and those schemas in it that have a URI of their own."""
        for own, resource in _resources(document, uri).items():
            if own in self._resources or (own != uri and own in self._others):
                raise CannotBundle(own)
            self._resources[own] = resource

    def _note(self, first: str) -> None:
        """Take down what refers to what."""
        waiting = [first]
        while waiting:
            target = waiting.pop()
            if target not in self._graph:
                self._graph[target] = set(_references(*self._target(target)))
                waiting += sorted(self._graph[target])

    def _leads_to(self, start: str, end: str) -> bool:
        seen: set[str] = set()
        waiting = list(self._graph[start])
        while waiting:
            target = waiting.pop()
            if target == end:
                return True
            if target not in seen:
                seen.add(target)
                waiting += self._graph[target]
        return False

    def _target(self, reference: str) -> tuple[Schema, str]:
        base, fragment = _parted(reference)
        if base not in self._resources and base in self._others:
            self._open(self._others[base], base)
        value: Any = self._resources.get(base)
        if value is None or (fragment and not fragment.startswith("/")) or _dialect(value) != self._dialect:
            raise CannotBundle(reference)
        outer = value
        for step in steps_of(unquote(fragment)):
            if value is not outer and isinstance(value, dict) and "$id" in value:
                # A pointer that leads through a schema with a name of its own: only its own base would be right.
                raise CannotBundle(reference)
            value = child(value, step)
        return value, base

    def _put(self, schema: Schema, base: str) -> Schema:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise CannotBundle(base)
        if isinstance(schema, bool) or _MORE.isdisjoint(schema):
            return schema
        base = _base(schema, base)
        own = {keyword: value for keyword, value in schema.items() if keyword not in _LEFT_OUT}
        own = map_children(own, lambda _, child: self._put(child, base))
        if "$ref" not in schema:
            return own
        target = _joined(base, schema["$ref"])
        name = self._names.get(target)
        there = self._put(*self._target(target)) if name is None else {"$ref": f"#/$defs/{name}"}
        # Draft-07 ignores what stands beside a `$ref`, except that `$schema` still names the dialect.
        if self._dialect == DIALECTS[1]:
            return {**there, "$schema": schema["$schema"]} if "$schema" in schema and isinstance(there, dict) else there
        return {**own, "allOf": [*own.get("allOf", []), there]} if own else there


def _references(schema: Schema, base: str) -> Iterator[str]:
    waiting = [(schema, base)]
    while waiting:
        value, around = waiting.pop()
        if isinstance(value, bool):
            continue
        own = _base(value, around)
        if not _ENTANGLING.isdisjoint(value):
            raise CannotBundle(own)
        if "$ref" in value:
            yield _joined(own, value["$ref"])
        waiting += [(child, own) for pointer, child in children(value) if pointer[0] not in DEFINITIONS]


def _resources(schema: Schema, base: str) -> dict[str, Schema]:
    """Find a schema, and by their own URIs those in it that have an `$id`, which is left out."""
    found = {base: schema}
    waiting = [(schema, base)]
    while waiting:
        value, around = waiting.pop()
        if isinstance(value, dict):
            own = _base(value, around)
            if own not in found:
                found[own] = {keyword: part for keyword, part in value.items() if keyword != "$id"}
            waiting += [(child, own) for _, child in children(value)]
    return found


def _base(schema: Mapping[str, Any], around: str) -> str:
    """Return what the references in a schema are relative to.

    Raises:
        CannotBundle: its `$id` stands beside a `$ref`, where the dialects differ, or is only an anchor.

    """
    identity = schema.get("$id")
    if not isinstance(identity, str):
        return around
    if "$ref" in schema or urldefrag(identity)[1]:
        raise CannotBundle(identity)
    return _joined(around, identity)


@lru_cache(1_024)
def _joined(base: str, reference: str) -> str:
    """Join as `urljoin` does; the same few references are followed several times over."""
    return urljoin(base, reference)


@lru_cache(1_024)
def _parted(reference: str) -> tuple[str, str]:
    base, fragment = urldefrag(reference)
    return base, fragment


def _dialect(schema: Schema) -> str:
    named = schema.get("$schema", DIALECTS[0]) if isinstance(schema, dict) else DIALECTS[0]
    return str(named).removesuffix("#")


def _names(targets: list[str]) -> dict[str, str]:
    """Name each recursive target by its last word, and a number where that is taken."""
    result: dict[str, str] = {}
    for target in targets:
        word = PurePosixPath(unquote(target.rstrip("/#").replace("?", "/"))).stem or "root"
        word = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in word)
        taken = sum(name.partition("-")[0] == word for name in result.values())
        result[target] = f"{word}-{taken}" if taken else word
    return result
