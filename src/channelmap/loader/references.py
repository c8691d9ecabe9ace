"""Every `$ref` of a schema: what it names, and whether that is there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from channelmap.source import Pointer

#: Keywords whose value is data, or maps names to schemas: a `$ref` right there refers to nothing.
_DATA = frozenset({"const", "enum", "default", "examples"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})


@dataclass(frozen=True, slots=True)
class Reference:
    """A `$ref`: its place in the schema, its text, and the URI it comes to, without and with fragment."""

    pointer: Pointer
    text: str
    uri: str
    fragment: str


@dataclass(slots=True)
class Outline:
    """What of a schema others can refer to, and what it refers to.

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
    """Walk a schema that stands at a URI.

    Its outermost `$id` counts for nothing: a file is where it is, so its relative references are relative to
    the file, and others refer to it by its path.
    """
    result = Outline({uri: schema})
    waiting: list[tuple[Any, Pointer, str]] = [(schema, (), uri)]
    while waiting:
        value, pointer, base = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, (*pointer, index), base) for index, item in enumerate(value))
        elif isinstance(value, dict):
            base = _note(result, value, pointer, base)
            waiting.extend((child, (*pointer, *steps), base) for steps, child in _subschemas(value))
    return result


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Pointer, Any]]:
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from (((keyword, name), child) for name, child in value.items())
        elif keyword not in _DATA:
            yield (keyword,), value


def _note(result: Outline, schema: dict[str, Any], pointer: Pointer, base: str) -> str:
    """Take down what one subschema declares and refers to; return the base of the references below it."""
    identity = schema.get("$id")
    if isinstance(identity, str):
        own, anchor = _joined(base, identity)
        if anchor:
            result.anchors.add((base, anchor))
        if pointer and not identity.startswith("#"):
            result.resources[own] = schema
            base = own
    for keyword in ("$anchor", "$dynamicAnchor"):
        if isinstance(schema.get(keyword), str):
            result.anchors.add((base, schema[keyword]))
    for keyword in ("$ref", "$dynamicRef"):
        text = schema.get(keyword)
        if isinstance(text, str):
            result.references.append(Reference((*pointer, keyword), text, *_joined(base, text)))
    return base


def _joined(base: str, reference: str) -> tuple[str, str]:
    try:
        uri, fragment = urldefrag(urljoin(base, reference))
    except ValueError:
        return reference, ""
    return uri, unquote(fragment)


def _leads_somewhere(value: Any, fragment: str) -> bool:
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return False
    return True
