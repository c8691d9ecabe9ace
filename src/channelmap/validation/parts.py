"""The parts of a schema: how one leads to another, and what the engine says about each keyword alone."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urldefrag, urljoin

import jsonschema_rs

from channelmap.pointers import steps_of, text_of
from channelmap.validation.fault import Steps

#: About two milliseconds, for the few patterns (with look-around, back-references) that are not linear.
PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)

Kind = jsonschema_rs.ValidationErrorKind

_DRAFT_07 = "http://json-schema.org/draft-07/schema"
#: Keywords that describe and decide nothing, or that others look at.
_SILENT = frozenset((
    *("$schema", "$id", "$anchor", "$dynamicAnchor", "$defs", "definitions", "$comment", "$vocabulary", "title"),
    *("description", "default", "examples", "deprecated", "readOnly", "writeOnly", "then", "else", "minContains"),
    *("maxContains", "contentSchema"),
))  # fmt: skip
#: Keywords that draft-07 does not know.
_NEWER = frozenset((
    *("dependentRequired", "dependentSchemas", "prefixItems", "unevaluatedItems", "unevaluatedProperties"),
    "$dynamicRef",
))  # fmt: skip
_Says = Callable[[Any], bool]
#: By property or index, the constants of which the value must be one.
Tags = dict[str | int, list[Any]]


class Part(NamedTuple):
    """One schema in a document.

    Attributes:
        schema: the schema.
        base: the URI that its references are relative to.
        path: the way to it in its document.
        resolver: follows its references; `None` in the document that everything begins with.
        has_path: whether `path` begins at the document: not where it was referred to by an anchor.

    """

    schema: Any
    base: str
    path: Steps = ()
    resolver: Any = None
    has_path: bool = True

    def child(self, *steps: str | int) -> "Part":
        """Return a schema in it."""
        schema = self.schema
        for step in steps:
            schema = schema[step]
        return Part(schema, _base(self.base, schema), (*self.path, *steps), self.resolver, self.has_path)


def _base(around: str, schema: Any) -> str:
    own = schema.get("$id") if isinstance(schema, dict) else None
    return urljoin(around, own) if isinstance(own, str) else around


class Parts:
    """A schema with those that it refers to.

    Args:
        schema: the schema.
        uri: what its references are relative to.
        others: those that it may refer to, by URI.
        registry: the same for the engine; `None` for none.

    """

    def __init__(self, schema: Any, uri: str, others: Mapping[str, Any], registry: Any) -> None:
        self.root = Part(schema, _base(uri, schema))
        self.is_older = isinstance(schema, dict) and str(schema.get("$schema")).removesuffix("#") == _DRAFT_07
        self._silent = _SILENT | _NEWER if self.is_older else _SILENT
        text = json.dumps(schema)
        if registry is None or any(f'"${keyword}"' in text for keyword in ("id", "anchor", "dynamicAnchor")):
            with suppress(jsonschema_rs.ReferencingError):
                registry = jsonschema_rs.Registry({**others, uri: schema}.items())
        self._registry = registry
        #: Whether the engine can tell in time what fits a whole part.
        self.may_ask_engine = True
        # What is known of a schema, which is kept beside it: as long as it lives, no other one has its id.
        self._keywords: dict[int, tuple[Any, tuple[str, ...]]] = {}
        self._leaves: dict[tuple[int, str], tuple[Any, _Says]] = {}
        self._engines: dict[int, tuple[Any, _Says | None]] = {}
        self._tags: dict[int, tuple[Any, Tags]] = {}
        self._patterns: dict[str, _Says] = {}
        self._referred: dict[tuple[str, str, tuple[str, ...]], Part] = {}

    def keywords(self, schema: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the keywords of a schema that may reject something, in their order."""
        if id(schema) not in self._keywords:
            found = tuple(keyword for keyword in schema if keyword not in self._silent)
            # In draft-07, what stands beside a reference does not count.
            alone = ("$ref",) if self.is_older and "$ref" in schema else found
            self._keywords[id(schema)] = schema, alone
        return self._keywords[id(schema)][1]

    def referred(self, part: Part, reference: str) -> Part:
        """Follow a reference of a part; LookupError where it leads nowhere."""
        scope = part.resolver.dynamic_scope if part.resolver is not None else ()
        key = part.base, reference, scope
        if key not in self._referred:
            self._referred[key] = self._follow(part, reference)
        return self._referred[key]

    def _follow(self, part: Part, reference: str) -> Part:
        uri, fragment = urldefrag(urljoin(part.base, reference))
        steps = steps_of(unquote(fragment))
        is_pointer = not fragment or fragment.startswith("/")
        found = self._document(uri)
        if found is not None and is_pointer:
            for step in steps:
                found = found.child(int(step) if isinstance(found.schema, list) else step)
            return found
        try:
            resolved = (part.resolver or self._registry.resolver(part.base)).lookup(reference)
        except jsonschema_rs.ReferencingError as error:
            raise LookupError(reference) from error
        resolver = resolved.resolver
        return Part(resolved.contents, resolver.base_uri, tuple(steps), resolver, has_path=is_pointer)

    def _document(self, uri: str) -> Part | None:
        if uri == _DRAFT_07:
            # The engine does not show this one.
            from channelmap.validation.second_engine import draft_07_metaschema

            return Part(draft_07_metaschema(), uri)
        return self.root if uri == self.root.base else None

    def leaf(self, schema: Mapping[str, Any], keyword: str) -> _Says:
        """Return what says whether a value fits one keyword of a schema, as if it stood alone."""
        key = id(schema), keyword
        if key not in self._leaves:
            self._leaves[key] = schema, self._alone(schema, keyword).is_valid
        return self._leaves[key][1]

    def pattern(self, pattern: str) -> _Says:
        """Return what says whether a name matches a pattern."""
        if pattern not in self._patterns:
            self._patterns[pattern] = self._compile({"pattern": pattern}).is_valid
        return self._patterns[pattern]

    def gives_up(self, pattern: str, text: str) -> str:
        """Say how the engine fails to match a text against a pattern; empty where it does not fail."""
        (error,) = self._compile({"pattern": pattern}).iter_errors(text)
        match error.kind:
            case Kind.BacktrackLimitExceeded():
                return "takes too long to match against the pattern"
            case Kind.RegexEngineFailure():
                return "cannot be matched against the pattern"
        return ""

    def engine(self, part: Part) -> _Says | None:
        """Return what says whether a value fits a whole part; `None` where the engine cannot."""
        if not (self.may_ask_engine and part.has_path and isinstance(self.root.schema, dict)):
            return None
        if id(part.schema) not in self._engines:
            says = None
            with suppress(ValueError, jsonschema_rs.ReferencingError):
                says = self._whole(part)
            self._engines[id(part.schema)] = part.schema, says
        return self._engines[id(part.schema)][1]

    def _whole(self, part: Part) -> _Says:
        pointer = quote(text_of(part.path), safe="/")
        own = {**self.root.schema, "$id": self.root.base}
        definitions = "definitions" if self.is_older else "$defs"
        says: _Says = self._compile({"$ref": f"{part.base}#{pointer}", definitions: {"own": own}}).is_valid
        return says

    def _alone(self, schema: Mapping[str, Any], keyword: str) -> Any:
        alone = {keyword: schema[keyword]}
        if keyword == "contentMediaType" and "contentEncoding" in schema:
            alone["contentEncoding"] = schema["contentEncoding"]
        return self._compile(alone)

    def _compile(self, schema: dict[str, Any]) -> Any:
        if self.is_older:
            schema = {"$schema": _DRAFT_07, **schema}
        return jsonschema_rs.validator_for(
            schema, registry=self._registry, validate_formats=True, pattern_options=PATTERNS, offline=True
        )

    def tags(self, part: Part) -> Tags:
        """Find the properties, or the items at a fixed index, for which a schema has a few constants: those."""
        if id(part.schema) not in self._tags:
            self._tags[id(part.schema)] = part.schema, dict(self._find_tags(part))
        return self._tags[id(part.schema)][1]

    def _find_tags(self, part: Part) -> Iterator[tuple[str | int, list[Any]]]:
        for same in self._same(part):
            children: list[tuple[str | int, Part]] = []
            if isinstance(names := same.schema.get("properties"), dict):
                children += [(name, same.child("properties", name)) for name in names]
            keyword = "items" if self.is_older else "prefixItems"
            if isinstance(items := same.schema.get(keyword), list):
                children += [(index, same.child(keyword, index)) for index in range(len(items))]
            for step, child in children:
                for at in self._same(child):
                    if "const" in at.schema or "enum" in at.schema:
                        yield step, [at.schema["const"]] if "const" in at.schema else at.schema["enum"]

    def _same(self, part: Part) -> Iterator[Part]:
        """Go through a schema and those that must hold for the same value."""
        seen: set[int] = set()
        waiting = [part]
        while waiting:
            part = waiting.pop()
            if not isinstance(part.schema, dict) or id(part.schema) in seen:
                continue
            seen.add(id(part.schema))
            yield part
            waiting += [part.child("allOf", index) for index in range(len(part.schema.get("allOf", ())))]
            with suppress(LookupError):
                if "$ref" in part.schema:
                    waiting.append(self.referred(part, part.schema["$ref"]))
