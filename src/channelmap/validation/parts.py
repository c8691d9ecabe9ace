"""The parts (subschemas) of a schema: resolve references between them, and compile single keywords on demand."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urldefrag, urljoin

import jsonschema_rs

from channelmap.pointers import steps_of, text_of
from channelmap.validation.fault import Steps

#: About two milliseconds, for patterns that may not match in linear time (with look-around or back-references).
PATTERN_OPTIONS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)

Kind = jsonschema_rs.ValidationErrorKind

_DRAFT_07 = "http://json-schema.org/draft-07/schema"
#: Keywords that reject nothing: annotations, identifiers, and keywords that only change the meaning of another one.
_NOT_ASSERTING = frozenset((
    *("$schema", "$id", "$anchor", "$dynamicAnchor", "$defs", "definitions", "$comment", "$vocabulary", "title"),
    *("description", "default", "examples", "deprecated", "readOnly", "writeOnly", "then", "else", "minContains"),
    *("maxContains", "contentSchema"),
))  # fmt: skip
#: Keywords that do not exist in draft-07.
_NOT_IN_DRAFT_07 = frozenset((
    *("dependentRequired", "dependentSchemas", "prefixItems", "unevaluatedItems", "unevaluatedProperties"),
    "$dynamicRef",
))  # fmt: skip
_Predicate = Callable[[Any], bool]
#: Property or index to the constants that are allowed there.
Tags = dict[str | int, list[Any]]


class Part(NamedTuple):
    """One schema in a document.

    Attributes:
        schema: the schema.
        base: the base URI of its references.
        path: the path to it in its document.
        resolver: the engine's resolver for its references; `None` in the root document.
        has_path: whether `path` begins at the document; false if the schema was reached through an anchor.

    """

    schema: Any
    base: str
    path: Steps = ()
    resolver: Any = None
    has_path: bool = True

    def child(self, *steps: str | int) -> "Part":
        """Return the schema that these steps lead to."""
        schema = self.schema
        for step in steps:
            schema = schema[step]
        return Part(schema, _base(self.base, schema), (*self.path, *steps), self.resolver, self.has_path)


def _base(around: str, schema: Any) -> str:
    own = schema.get("$id") if isinstance(schema, dict) else None
    return urljoin(around, own) if isinstance(own, str) else around


class Parts:
    """A schema with the schemas that it refers to.

    Attributes:
        root: the schema itself.
        is_draft_07: whether its dialect is draft-07.
        may_ask_engine: whether the engine is fast enough to judge whole parts.

    Args:
        schema: the schema.
        uri: the base URI of its references.
        others: the schemas that it may refer to, by URI.
        registry: the engine's registry of `others`; `None` if there are none.

    """

    def __init__(self, schema: Any, uri: str, others: Mapping[str, Any], registry: Any) -> None:
        self.root = Part(schema, _base(uri, schema))
        self.is_draft_07 = isinstance(schema, dict) and str(schema.get("$schema")).removesuffix("#") == _DRAFT_07
        self._not_asserting = _NOT_ASSERTING | _NOT_IN_DRAFT_07 if self.is_draft_07 else _NOT_ASSERTING
        text = json.dumps(schema)
        if registry is None or any(f'"${keyword}"' in text for keyword in ("id", "anchor", "dynamicAnchor")):
            with suppress(jsonschema_rs.ReferencingError):
                registry = jsonschema_rs.Registry({**others, uri: schema}.items())
        self._registry = registry
        self.may_ask_engine = True
        # Caches by id. Each value includes its schema, so that no other object gets the same id.
        self._keywords: dict[int, tuple[Any, tuple[str, ...]]] = {}
        self._keyword_predicates: dict[tuple[int, str], tuple[Any, _Predicate]] = {}
        self._part_predicates: dict[int, tuple[Any, _Predicate | None]] = {}
        self._tags: dict[int, tuple[Any, Tags]] = {}
        self._pattern_predicates: dict[str, _Predicate] = {}
        self._resolved: dict[tuple[str, str, tuple[str, ...]], Part] = {}

    def keywords(self, schema: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the keywords of a schema that may reject a value, in the order of the schema."""
        if id(schema) not in self._keywords:
            found = tuple(keyword for keyword in schema if keyword not in self._not_asserting)
            # Draft-07 ignores keywords beside `$ref`.
            alone = ("$ref",) if self.is_draft_07 and "$ref" in schema else found
            self._keywords[id(schema)] = schema, alone
        return self._keywords[id(schema)][1]

    def resolve(self, part: Part, reference: str) -> Part:
        """Return the part that a reference of a part refers to; LookupError if it cannot be resolved."""
        scope = part.resolver.dynamic_scope if part.resolver is not None else ()
        key = part.base, reference, scope
        if key not in self._resolved:
            self._resolved[key] = self._follow(part, reference)
        return self._resolved[key]

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
            # The engine does not expose this metaschema.
            from channelmap.validation.second_engine import draft_07_metaschema

            return Part(draft_07_metaschema(), uri)
        return self.root if uri == self.root.base else None

    def keyword_predicate(self, schema: Mapping[str, Any], keyword: str) -> _Predicate:
        """Return the test of a value against one keyword of a schema, without the other keywords."""
        key = id(schema), keyword
        if key not in self._keyword_predicates:
            self._keyword_predicates[key] = schema, self._compile_keyword(schema, keyword).is_valid
        return self._keyword_predicates[key][1]

    def pattern_predicate(self, pattern: str) -> _Predicate:
        """Return the test of a text against a pattern."""
        if pattern not in self._pattern_predicates:
            self._pattern_predicates[pattern] = self._compile({"pattern": pattern}).is_valid
        return self._pattern_predicates[pattern]

    def pattern_failure(self, pattern: str, text: str) -> str:
        """Return why the engine cannot match a text against a pattern; empty if the text just does not match."""
        (error,) = self._compile({"pattern": pattern}).iter_errors(text)
        match error.kind:
            case Kind.BacktrackLimitExceeded():
                return "takes too long to match against the pattern"
            case Kind.RegexEngineFailure():
                return "cannot be matched against the pattern"
        return ""

    def part_predicate(self, part: Part) -> _Predicate | None:
        """Return the engine's test of a value against a whole part; `None` if the engine cannot be used."""
        if not (self.may_ask_engine and part.has_path and isinstance(self.root.schema, dict)):
            return None
        if id(part.schema) not in self._part_predicates:
            test = None
            with suppress(ValueError, jsonschema_rs.ReferencingError):
                test = self._compile_part(part)
            self._part_predicates[id(part.schema)] = part.schema, test
        return self._part_predicates[id(part.schema)][1]

    def _compile_part(self, part: Part) -> _Predicate:
        pointer = quote(text_of(part.path), safe="/")
        own = {**self.root.schema, "$id": self.root.base}
        definitions = "definitions" if self.is_draft_07 else "$defs"
        test: _Predicate = self._compile({"$ref": f"{part.base}#{pointer}", definitions: {"own": own}}).is_valid
        return test

    def _compile_keyword(self, schema: Mapping[str, Any], keyword: str) -> Any:
        alone = {keyword: schema[keyword]}
        if keyword == "contentMediaType" and "contentEncoding" in schema:
            alone["contentEncoding"] = schema["contentEncoding"]
        return self._compile(alone)

    def _compile(self, schema: dict[str, Any]) -> Any:
        if self.is_draft_07:
            schema = {"$schema": _DRAFT_07, **schema}
        return jsonschema_rs.validator_for(
            schema, registry=self._registry, validate_formats=True, pattern_options=PATTERN_OPTIONS, offline=True
        )

    def tags(self, part: Part) -> Tags:
        """Return the properties and fixed indexes for which a part allows only constants, with these constants."""
        if id(part.schema) not in self._tags:
            self._tags[id(part.schema)] = part.schema, dict(self._find_tags(part))
        return self._tags[id(part.schema)][1]

    def _find_tags(self, part: Part) -> Iterator[tuple[str | int, list[Any]]]:
        for same in self._conjuncts(part):
            children: list[tuple[str | int, Part]] = []
            if isinstance(names := same.schema.get("properties"), dict):
                children += [(name, same.child("properties", name)) for name in names]
            keyword = "items" if self.is_draft_07 else "prefixItems"
            if isinstance(items := same.schema.get(keyword), list):
                children += [(index, same.child(keyword, index)) for index in range(len(items))]
            for step, child in children:
                for at in self._conjuncts(child):
                    if "const" in at.schema or "enum" in at.schema:
                        yield step, [at.schema["const"]] if "const" in at.schema else at.schema["enum"]

    def _conjuncts(self, part: Part) -> Iterator[Part]:
        """Yield a part and all parts that must accept the same value, by `allOf` and `$ref`."""
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
                    waiting.append(self.resolve(part, part.schema["$ref"]))
