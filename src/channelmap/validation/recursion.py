"""Whether the reasons why an event breaks a schema can be told in a time that somebody would wait for.

A verdict takes no time in any case. But for the reasons every alternative (`anyOf`, `oneOf`) is gone through, and
where the alternatives of a recursive schema lead back to it, each further level of an event multiplies the work.
"""

import graphlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

#: With two alternatives a level, eight more levels are a thousand times the work.
EXPLAINED_DEPTH = 4


def is_deeper(value: Any, depth: int) -> bool:
    """Whether a JSON value is nested more levels deep than that."""
    level = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item)]
    return any(isinstance(item, (dict, list, tuple)) for item in level)


def has_recursive_alternatives(schema: Any, uri: str, others: Mapping[str, Any]) -> bool:
    """Whether a schema at a URI is, with those that it refers to, recursive and has alternatives; in doubt, yes."""
    documents = {**others, uri: schema}
    graph: dict[str, set[str]] = {}
    alternatives = False
    waiting = [uri]
    while waiting:
        reference = waiting.pop()
        if reference in graph:
            continue
        try:
            target, base = _target(reference, documents)
        except LookupError:
            return True
        keywords = list(_keywords(target))
        graph[reference] = {urljoin(base, text) for keyword, text in keywords if keyword == "$ref"}
        alternatives |= any(keyword in {"anyOf", "oneOf"} for keyword, _ in keywords)
        if any(keyword == "$dynamicRef" for keyword, _ in keywords):
            return True
        waiting += graph[reference]
    return alternatives and _has_cycle(graph)


def _has_cycle(graph: dict[str, set[str]]) -> bool:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError:
        return True
    return False


def _target(reference: str, documents: Mapping[str, Any]) -> tuple[Any, str]:
    """Follow a reference by its pointer; LookupError for whatever else it may be, such as an anchor."""
    base, fragment = urldefrag(reference)
    value = documents[base]
    if fragment and not fragment.startswith("/"):
        raise LookupError(fragment)
    for step in unquote(fragment).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value, base


def _keywords(schema: Any) -> Iterator[tuple[str, str]]:
    """Find what a schema and everything in it refers to, and where it offers alternatives."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for keyword in value.keys() & {"$ref", "$dynamicRef", "anyOf", "oneOf"}:
                yield keyword, value[keyword] if isinstance(value[keyword], str) else ""
        waiting.extend(_children(value))


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
