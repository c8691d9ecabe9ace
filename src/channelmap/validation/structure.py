"""Traverse the subschemas of a schema, and bundle a schema: replace each `$ref` by the schema that it refers to.

The engine's own `dereference` is not used, because its result may describe other events. It drops a keyword beside a
`$ref` if the other schema has it, too, and leaves references of recursive files that can no longer be resolved.
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
_SUBSCHEMA_KEYWORDS = _MAPS | LISTS | SINGLES
#: References whose target depends on more than their text and their file.
_DYNAMIC_REFERENCES = frozenset({"$dynamicRef", "$recursiveRef"})
_NOT_COPIED = DEFINITIONS | {"$ref", "$id", "$anchor"}
_REFERENCE = re.compile(r'"\$(?:ref|dynamicRef|recursiveRef)": "([^"]*)"')
#: Keywords that a bundle must change or copy deeply.
_NOT_ATOMIC = _SUBSCHEMA_KEYWORDS | _NOT_COPIED
#: Maximum number of subschemas in a bundle; a few definitions that refer to each other can expand to millions.
_MAX_PARTS = 20_000


class CannotBundle(Exception):
    """A schema cannot be bundled."""


def children(schema: Mapping[str, Any]) -> list[tuple[Pointer, Schema]]:
    """Return the direct subschemas of a schema, each with the path to it."""
    found: list[tuple[Pointer, Schema]] = []
    if _SUBSCHEMA_KEYWORDS.isdisjoint(schema):
        return found
    for keyword, value in schema.items():
        if keyword not in _SUBSCHEMA_KEYWORDS:
            continue
        if isinstance(value, (dict, bool)) and keyword in SINGLES:
            found.append(((keyword,), value))
        elif isinstance(value, dict) and keyword in _MAPS:
            found += [((keyword, name), child) for name, child in value.items() if isinstance(child, (dict, bool))]
        elif isinstance(value, list) and keyword in LISTS:
            found += [((keyword, index), child) for index, child in enumerate(value) if isinstance(child, (dict, bool))]
    return found


def map_children(schema: Mapping[str, Any], change: Callable[[Pointer, Schema], Schema]) -> dict[str, Any]:
    """Return a copy of a schema in which `change(path, subschema)` replaces each direct subschema."""
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword not in _SUBSCHEMA_KEYWORDS:
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
    """Return a schema and all schemas that it may refer to, by URI; for a test whether any of them has changed."""
    known = {**validator.others.schemas, validator._uri: validator._schema}  # noqa: SLF001  (same package)
    found: dict[str, Any] = {}
    waiting = [validator._uri]  # noqa: SLF001
    while waiting:
        uri = waiting.pop()
        if uri in found or uri in DIALECTS:
            continue
        text = json.dumps(known.get(uri))
        if uri not in known or '"$id"' in text:
            # With an `$id` inside, references may lead anywhere.
            return known
        found[uri] = known[uri]
        waiting += [_split_fragment(_join(uri, reference))[0] for reference in _REFERENCE.findall(text)]
    return found


def bundle(validator: Validator) -> Schema:
    """Return the schema of a validator with all referenced schemas inlined; the caller must not change it.

    Recursive schemas keep their `$ref`, to an entry of `$defs`. The validator caches the result.

    Raises:
        CannotBundle: the schema uses anchors or `$dynamicRef`, mixes dialects, or the bundle would be too large.

    """
    if validator.bundle is None:
        schema, uri = validator._schema, validator._uri  # noqa: SLF001  (same package)
        validator.bundle = _Bundler(schema, uri, validator.others.schemas).result
    return validator.bundle


class _Bundler:
    def __init__(self, schema: Schema, uri: str, others: Mapping[str, Any]) -> None:
        self._others = others
        self._resources: dict[str, Schema] = {}
        self._add_document(schema, uri)
        self._dialect = _dialect(schema)
        self._graph: dict[str, set[str]] = {}
        self._parts = 0
        self._build_graph(uri)
        recursive = [target for target in self._graph if self._reaches(target, target)]
        self._names = _definition_names(recursive)
        result = self._inline(schema, uri)
        definitions = {name: self._inline(*self._lookup(target)) for target, name in self._names.items()}
        self.result = {**result, "$defs": definitions} if definitions and isinstance(result, dict) else result

    def _add_document(self, document: Schema, uri: str) -> None:
        """Register a document and the schemas in it that have a URI of their own."""
        for own, resource in _resources(document, uri).items():
            if own in self._resources or (own != uri and own in self._others):
                raise CannotBundle(own)
            self._resources[own] = resource

    def _build_graph(self, first: str) -> None:
        """Record which reference target refers to which, beginning with the first one."""
        waiting = [first]
        while waiting:
            target = waiting.pop()
            if target not in self._graph:
                self._graph[target] = set(_references(*self._lookup(target)))
                waiting += sorted(self._graph[target])

    def _reaches(self, start: str, end: str) -> bool:
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

    def _lookup(self, reference: str) -> tuple[Schema, str]:
        base, fragment = _split_fragment(reference)
        if base not in self._resources and base in self._others:
            self._add_document(self._others[base], base)
        value: Any = self._resources.get(base)
        if value is None or (fragment and not fragment.startswith("/")) or _dialect(value) != self._dialect:
            raise CannotBundle(reference)
        outer = value
        for step in steps_of(unquote(fragment)):
            if value is not outer and isinstance(value, dict) and "$id" in value:
                # The pointer crosses an inner `$id`, which changes the base of the references behind it.
                raise CannotBundle(reference)
            value = child(value, step)
        return value, base

    def _inline(self, schema: Schema, base: str) -> Schema:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise CannotBundle(base)
        if isinstance(schema, bool) or _NOT_ATOMIC.isdisjoint(schema):
            return schema
        base = _base(schema, base)
        own = {keyword: value for keyword, value in schema.items() if keyword not in _NOT_COPIED}
        own = map_children(own, lambda _, child: self._inline(child, base))
        if "$ref" not in schema:
            return own
        target = _join(base, schema["$ref"])
        name = self._names.get(target)
        there = self._inline(*self._lookup(target)) if name is None else {"$ref": f"#/$defs/{name}"}
        # Draft-07 ignores keywords beside a `$ref`, except for `$schema`.
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
        if not _DYNAMIC_REFERENCES.isdisjoint(value):
            raise CannotBundle(own)
        if "$ref" in value:
            yield _join(own, value["$ref"])
        waiting += [(child, own) for pointer, child in children(value) if pointer[0] not in DEFINITIONS]


def _resources(schema: Schema, base: str) -> dict[str, Schema]:
    """Return a schema and its subschemas that have an `$id`, by URI and without that `$id`."""
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
    """Return the base URI of the references in a schema.

    Raises:
        CannotBundle: its `$id` is beside a `$ref`, where the dialects differ, or is an anchor.

    """
    identity = schema.get("$id")
    if not isinstance(identity, str):
        return around
    if "$ref" in schema or urldefrag(identity)[1]:
        raise CannotBundle(identity)
    return _join(around, identity)


@lru_cache(1_024)
def _join(base: str, reference: str) -> str:
    """Return `urljoin` of both; cached, because the same few references are followed often."""
    return urljoin(base, reference)


@lru_cache(1_024)
def _split_fragment(reference: str) -> tuple[str, str]:
    base, fragment = urldefrag(reference)
    return base, fragment


def _dialect(schema: Schema) -> str:
    named = schema.get("$schema", DIALECTS[0]) if isinstance(schema, dict) else DIALECTS[0]
    return str(named).removesuffix("#")


def _definition_names(targets: list[str]) -> dict[str, str]:
    """Return a name for each recursive target: the last word of its URI, with a number if that is taken."""
    result: dict[str, str] = {}
    for target in targets:
        word = PurePosixPath(unquote(target.rstrip("/#").replace("?", "/"))).stem or "root"
        word = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in word)
        taken = sum(name.partition("-")[0] == word for name in result.values())
        result[target] = f"{word}-{taken}" if taken else word
    return result
