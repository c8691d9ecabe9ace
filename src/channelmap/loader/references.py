"""Find the references of a schema, and the resources and anchors that references can name."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from channelmap.pointers import Pointer, resolve, steps_of
from channelmap.validation.keywords import DEFINITIONS, MAPS

#: Keywords whose value is data: a `$ref` inside is not a reference.
_DATA = frozenset({"const", "enum", "default", "examples"})
_MAPS = MAPS | DEFINITIONS


@dataclass(frozen=True, slots=True)
class Reference:
    """A `$ref` or `$dynamicRef`.

    Attributes:
        pointer: where it is in the schema.
        text: its value.
        base: its base URI.
        uri: the URI that it resolves to, without the fragment.
        fragment: the fragment.
        by_id: what `uri` would be if the outermost `$id` set the base URI.
        is_by_id: whether `uri` was determined by that `$id`.

    """

    pointer: Pointer
    text: str
    base: str
    uri: str
    fragment: str
    by_id: str
    is_by_id: bool = False


@dataclass(slots=True)
class Outline:
    """The resources and anchors that a schema declares, and its references.

    The location of a file sets its URI; its outermost `$id` does not. But references in the file may use that `$id`
    for the file and for resources in it; they are treated as references to the file.

    Attributes:
        resources: the schema, and the subschemas that have an `$id`, by URI.
        anchors: URI and name of each `$anchor` and `$dynamicAnchor`.
        references: the references of the schema.

    """

    resources: dict[str, Any] = field(default_factory=dict)
    anchors: set[tuple[str, str]] = field(default_factory=set)
    references: list[Reference] = field(default_factory=list)

    def holds(self, reference: Reference) -> bool:
        """Whether a reference to one of the resources can be resolved."""
        fragment = reference.fragment
        if not fragment:
            return True
        if not fragment.startswith("/"):
            return (reference.uri, fragment) in self.anchors
        return _is_resolvable(self.resources[reference.uri], fragment)


def outline(schema: Any, uri: str) -> Outline:
    """Return the outline of the schema at a URI."""
    result = Outline({uri: schema})
    own_id = schema.get("$id") if isinstance(schema, dict) else None
    bases = _Bases(uri, _join(uri, own_id)[0] if isinstance(own_id, str) else uri)
    # The URIs of the resources in this file, by their `$id`.
    here = {bases.by_id: uri}
    waiting: list[tuple[Any, Pointer, _Bases]] = [(schema, (), bases)]
    while waiting:
        value, pointer, bases = waiting.pop()
        if isinstance(value, list):
            waiting += [
                (item, (*pointer, index), bases) for index, item in enumerate(value) if isinstance(item, (dict, list))
            ]
        elif isinstance(value, dict):
            bases = _collect(result, value, pointer, bases)
            here[bases.by_id] = bases.by_location
            waiting += [(child, pointer + steps, bases) for steps, child in _subschemas(value)]
    result.references = [
        replace(found, uri=here[found.by_id], is_by_id=True)
        if found.uri not in result.resources and found.by_id in here
        else found
        for found in result.references
    ]
    return result


def relocated(schema: Any, found: Outline) -> Any:
    """Return a copy of a schema without its outermost `$id`; references that use it are rewritten."""
    if not isinstance(schema, dict):
        return schema
    schema = {key: value for key, value in schema.items() if key != "$id"}
    moved = [reference for reference in found.references if reference.is_by_id]
    if moved:
        schema = deepcopy(schema)
    for reference in moved:
        *way, keyword = reference.pointer
        owner = reduce(getitem, way, schema)
        fragment = reference.text.partition("#")[2]
        owner[keyword] = f"{'' if reference.uri == reference.base else reference.uri}#{fragment}"
    return schema


class _Bases(NamedTuple):
    """The two base URIs of references: by the location of the file, and by its `$id`."""

    by_location: str
    by_id: str


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Pointer, Any]]:
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from (((keyword, name), child) for name, child in value.items() if isinstance(child, (dict, list)))
        elif isinstance(value, (dict, list)) and keyword not in _DATA:
            yield (keyword,), value


def _collect(result: Outline, schema: dict[str, Any], pointer: Pointer, bases: _Bases) -> _Bases:
    """Record what one subschema declares and refers to; return the base URIs for its own subschemas."""
    identity = schema.get("$id")
    if isinstance(identity, str):
        own, anchor = _join(bases.by_location, identity)
        if anchor:
            result.anchors.add((bases.by_location, anchor))
        if pointer and not identity.startswith("#"):
            result.resources[own] = schema
            bases = _Bases(own, _join(bases.by_id, identity)[0])
    for keyword in ("$anchor", "$dynamicAnchor"):
        if isinstance(schema.get(keyword), str):
            result.anchors.add((bases.by_location, schema[keyword]))
    for keyword in ("$ref", "$dynamicRef"):
        text = schema.get(keyword)
        if isinstance(text, str):
            uri, fragment = _join(bases.by_location, text)
            by_id = uri if bases.by_id == bases.by_location else _join(bases.by_id, text)[0]
            result.references.append(Reference((*pointer, keyword), text, bases.by_location, uri, fragment, by_id))
    return bases


def _join(base: str, reference: str) -> tuple[str, str]:
    try:
        uri, fragment = urldefrag(urljoin(base, reference))
    except ValueError:
        return reference, ""
    return uri, unquote(fragment)


def _is_resolvable(value: Any, fragment: str) -> bool:
    try:
        resolve(value, steps_of(fragment))
    except (LookupError, TypeError):
        return False
    return True
