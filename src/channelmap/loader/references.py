"""Every `$ref` of a schema: what it names, and whether that is there."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from channelmap.pointers import Pointer, resolve, steps_of
from channelmap.validation.keywords import DEFINITIONS, MAPS

#: Keywords whose value is data, or maps names to schemas: a `$ref` right there refers to nothing.
_DATA = frozenset({"const", "enum", "default", "examples"})
_MAPS = MAPS | DEFINITIONS


@dataclass(frozen=True, slots=True)
class Reference:
    """A `$ref`.

    Attributes:
        pointer: its place in the schema.
        text: what it says.
        base: the URI that it is relative to.
        uri: the URI that it comes to, without fragment.
        fragment: the fragment.
        by_id: what `uri` would be if the `$id` of the whole schema counted.
        is_by_id: whether `uri` was found by that `$id`.

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
    """What of a schema others can refer to, and what it refers to.

    A file is where it is: its outermost `$id` does not move it. But its own references may name it, or what is in
    it, by that `$id`; these are taken for references to the file.

    Attributes:
        resources: by their URI: the schema, and those within it that have an `$id`.
        anchors: URI and name of each `$anchor`.
        references: what it refers to.

    """

    resources: dict[str, Any] = field(default_factory=dict)
    anchors: set[tuple[str, str]] = field(default_factory=set)
    references: list[Reference] = field(default_factory=list)

    def holds(self, reference: Reference) -> bool:
        """Whether a reference to one of the resources leads somewhere in it."""
        fragment = reference.fragment
        if not fragment:
            return True
        if not fragment.startswith("/"):
            return (reference.uri, fragment) in self.anchors
        return _leads_somewhere(self.resources[reference.uri], fragment)


def outline(schema: Any, uri: str) -> Outline:
    """Walk a schema that stands at a URI."""
    result = Outline({uri: schema})
    own_id = schema.get("$id") if isinstance(schema, dict) else None
    bases = _Bases(uri, _joined(uri, own_id)[0] if isinstance(own_id, str) else uri)
    #: By `$id`, the URI of what is in this file.
    here = {bases.by_id: uri}
    waiting: list[tuple[Any, Pointer, _Bases]] = [(schema, (), bases)]
    while waiting:
        value, pointer, bases = waiting.pop()
        if isinstance(value, list):
            waiting += [
                (item, (*pointer, index), bases) for index, item in enumerate(value) if isinstance(item, (dict, list))
            ]
        elif isinstance(value, dict):
            bases = _note(result, value, pointer, bases)
            here[bases.by_id] = bases.by_place
            waiting += [(child, pointer + steps, bases) for steps, child in _subschemas(value)]
    result.references = [
        replace(found, uri=here[found.by_id], is_by_id=True)
        if found.uri not in result.resources and found.by_id in here
        else found
        for found in result.references
    ]
    return result


def placed(schema: Any, found: Outline) -> Any:
    """Return a schema as it reads at its place: without its `$id`, and with references that need none."""
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
    """What references are relative to: the place of the file, and what its `$id` says."""

    by_place: str
    by_id: str


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Pointer, Any]]:
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from (((keyword, name), child) for name, child in value.items() if isinstance(child, (dict, list)))
        elif isinstance(value, (dict, list)) and keyword not in _DATA:
            yield (keyword,), value


def _note(result: Outline, schema: dict[str, Any], pointer: Pointer, bases: _Bases) -> _Bases:
    """Take down what one subschema declares and refers to; return the bases of the references below it."""
    identity = schema.get("$id")
    if isinstance(identity, str):
        own, anchor = _joined(bases.by_place, identity)
        if anchor:
            result.anchors.add((bases.by_place, anchor))
        if pointer and not identity.startswith("#"):
            result.resources[own] = schema
            bases = _Bases(own, _joined(bases.by_id, identity)[0])
    for keyword in ("$anchor", "$dynamicAnchor"):
        if isinstance(schema.get(keyword), str):
            result.anchors.add((bases.by_place, schema[keyword]))
    for keyword in ("$ref", "$dynamicRef"):
        text = schema.get(keyword)
        if isinstance(text, str):
            uri, fragment = _joined(bases.by_place, text)
            by_id = uri if bases.by_id == bases.by_place else _joined(bases.by_id, text)[0]
            result.references.append(Reference((*pointer, keyword), text, bases.by_place, uri, fragment, by_id))
    return bases


def _joined(base: str, reference: str) -> tuple[str, str]:
    try:
        uri, fragment = urldefrag(urljoin(base, reference))
    except ValueError:
        return reference, ""
    return uri, unquote(fragment)


def _leads_somewhere(value: Any, fragment: str) -> bool:
    try:
        resolve(value, steps_of(fragment))
    except (LookupError, TypeError):
        return False
    return True
