"""The schemas of a contract: read, checked by their metaschema, their references followed, compiled."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

from channelmap.codes import Code
from channelmap.contract import Written
from channelmap.diagnostics import Diagnostic
from channelmap.environment import shown
from channelmap.errors import quoted
from channelmap.loader.files import Files
from channelmap.loader.references import Outline, Reference, outline, placed
from channelmap.pointers import Pointer
from channelmap.source import Document
from channelmap.validation import (
    BASE_URI,
    DIALECTS,
    Schema,
    SchemaSet,
    SchemaUnusable,
    Validator,
    schema_mismatches,
    with_type,
)
from channelmap.validation.patterns import pattern_fault
from channelmap.validation.walk import subschemas


@dataclass(frozen=True, slots=True)
class Source:
    """A schema as it was written: a whole file, or a mapping in the contract's own document."""

    document: Document
    pointer: Pointer
    uri: str
    schema: Any

    @property
    def known(self) -> Validator | None:
        """The validator of a file of the same URI and text, if one is in use."""
        return None if self.pointer else _in_use.get((self.uri, self.document.text.text))


#: The validators in use that were made of files, by the URI and text of the file, and what each file refers to. So a
#: contract that is loaded once more, or another release of it, costs only what is written differently.
_in_use: WeakValueDictionary[tuple[str, str], Validator] = WeakValueDictionary()
_outlines_in_use: WeakKeyDictionary[Validator, Outline] = WeakKeyDictionary()


class Schemas:
    """All schemas that a contract declares, by the event type's pointer, and those that they refer to.

    What is wrong with them is noted in `found`, or in the `found` of the files; then there are no validators.

    Args:
        document: the contract file, whatever its shape.
        files: the directory around it.

    """

    def __init__(self, document: Document, files: Files) -> None:
        self.found: list[Diagnostic] = []
        self._document = document
        self._files = files
        self._outlines: dict[str, Outline | None] = {}
        self._schemas: dict[str, Any] = {}
        self._sources: dict[Pointer, Source] = {}
        self._validators: dict[str, Validator] = {}
        #: Those that are schemas, each once.
        self._followed: list[Source] = []
        for pointer, schema in declared_schemas(document.data):
            source = self._source(pointer, schema)
            if source is not None:
                self._sources[pointer] = source
                self._outline(source)
        if not self.found and not files.found:
            self._compile()

    def schema(self, event_type: Pointer) -> Schema:
        """Return the schema of the event type at that pointer as it was written; True when it has none."""
        source = self._sources.get(event_type)
        return True if source is None else source.schema

    def written(self, event_type: Pointer) -> Written | None:
        """Return where that schema was written."""
        source = self._sources.get(event_type)
        return None if source is None else Written(source.document, source.pointer)

    def validator(self, event_type: Pointer) -> Validator | None:
        """Return the compiled schema of the event type at that pointer; None when it has none."""
        source = self._sources.get(event_type)
        return None if source is None else self._validators[source.uri]

    def _source(self, event_type: Pointer, schema: Any) -> Source | None:
        if not isinstance(schema, str):
            pointer = (*event_type, "schema")
            return Source(
                self._document,
                pointer,
                f"{BASE_URI}?{quote('/'.join(map(shown, self._document.named(pointer))))}",
                schema,
            )
        mention = self._document.locate((*event_type, "schema"))
        document = self._files.read(schema, mention, "schema")
        if document is None:
            return None
        # By its name, as it is referred to: two names of one file are two schemas to the engine.
        return Source(document, (), BASE_URI + quote(posixpath.normpath(schema)), document.data)

    def _outline(self, source: Source) -> Outline | None:
        """Check a schema and the schemas that it refers to, each once; `None` if it is not a schema."""
        if source.uri not in self._outlines:
            self._outlines[source.uri] = None
            known = source.known
            if known is not None or self._is_schema(source):
                result = outline(source.schema, source.uri) if known is None else _outlines_in_use[known]
                self._outlines[source.uri] = result
                self._schemas[source.uri] = placed(source.schema, result)
                self._followed.append(source)
                for reference in result.references:
                    self._follow(source, result, reference)
        return self._outlines[source.uri]

    def _is_schema(self, source: Source) -> bool:
        dialect = mapping(source.schema).get("$schema", DIALECTS[0])
        known = dialect.removesuffix("#") if isinstance(dialect, str) else ""
        if known not in DIALECTS:
            message, hint = f"dialect {quoted(dialect)} is not supported", f"expected {' or '.join(DIALECTS)}"
            self._note(source, ("$schema",), Code.SCHEMA_DIALECT, message, hint)
            return False
        mismatches = schema_mismatches(source.schema, known)
        patterns = self._note_patterns(source) if mismatches else set()
        for mismatch in mismatches:
            if not patterns.isdisjoint({mismatch.pointer, (*mismatch.pointer, *mismatch.names)}):
                continue
            subject = f"{quoted(mismatch.pointer[-1])} " if mismatch.pointer else "the schema "
            self._note(source, mismatch.pointer, Code.SCHEMA_INVALID, subject + mismatch.message)
        return not mismatches

    def _note_patterns(self, source: Source) -> set[Pointer]:
        """Note the regular expressions that the engine refuses; return the way to each."""
        found = dict(_bad_patterns(source.schema))
        for pointer, (pattern, fault) in found.items():
            is_key = pointer[-2:-1] == ("patternProperties",)
            message = f"the pattern {quoted(pattern)} cannot be used: {fault}"
            self._note(source, pointer, Code.SCHEMA_INVALID, message, key=is_key)
        return set(found)

    def _follow(self, source: Source, own: Outline, reference: Reference) -> None:
        if reference.uri in DIALECTS:
            self._add_metaschema(reference.uri)
            return
        if reference.uri in own.resources:
            target: Outline | None = own
        elif not reference.uri.startswith(BASE_URI):
            self._refuse_far(source, reference)
            return
        else:
            target = self._referred(source, reference)
        if target is not None and not target.holds(reference):
            message = f"{quoted(reference.text)} leads nowhere"
            self._note(source, reference.pointer, Code.SCHEMA_UNRESOLVABLE_REF, message)

    def _add_metaschema(self, dialect: str) -> None:
        """Let schemas refer to the schema of all draft-07 schemas, which the engine knows only where it is alone."""
        if dialect == DIALECTS[1] and dialect not in self._schemas:
            from channelmap.validation.second_engine import draft_07_metaschema

            self._schemas[dialect] = draft_07_metaschema()

    def _refuse_far(self, source: Source, reference: Reference) -> None:
        root = BASE_URI.removesuffix("schemas/")
        if reference.uri.startswith((root, "file:")):
            code: Code = Code.REF_OUTSIDE_ROOT
            message = "is outside the directory of the contract"
            hint = "move the file below that directory"
        else:
            code = Code.REMOTE_REF
            message = "is not a local file, and nothing is fetched from elsewhere"
            hint = self._by_id(source, reference) or "keep a copy and refer to its relative path"
        self._note(source, reference.pointer, code, f"{quoted(reference.text)} {message}", hint)

    def _referred(self, source: Source, reference: Reference) -> Outline | None:
        """Return the outline of the file that a reference names, which is read when it is not known yet."""
        if reference.uri in self._outlines:
            return self._outlines[reference.uri]
        before = len(self._files.found)
        name = unquote(reference.uri.removeprefix(BASE_URI))
        mention = source.document.locate((*source.pointer, *reference.pointer))
        document = self._files.read(name, mention, "schema")
        self._files.found[before:] = [
            self._of_reference(found, source, reference) for found in self._files.found[before:]
        ]
        if document is None:
            return None
        return self._outline(Source(document, (), reference.uri, document.data))

    def _of_reference(self, found: Diagnostic, source: Source, reference: Reference) -> Diagnostic:
        """Word what is wrong with a file for the reference that names it."""
        codes: dict[Code, Code] = {
            Code.SCHEMA_MISSING: Code.SCHEMA_UNRESOLVABLE_REF,
            Code.PATH_OUTSIDE_ROOT: Code.REF_OUTSIDE_ROOT,
        }
        hint = self._by_id(source, reference) if found.code == Code.SCHEMA_MISSING else ""
        return replace(found, code=codes.get(found.code, found.code), hint=hint or found.hint)

    def _by_id(self, source: Source, reference: Reference) -> str:
        """Name the file that has the `$id` to which a reference leads, as a hint, or say nothing."""
        directory = posixpath.dirname(unquote(urlsplit(source.uri).path.removeprefix(urlsplit(BASE_URI).path)))
        name = self._files.with_id({reference.uri, reference.by_id}, directory)
        if not name:
            return ""
        text = quote(posixpath.relpath(name, directory or "."))
        fragment = reference.text.partition("#")[2]
        return f"{quoted(name)} has this '$id'; refer to its path: {quoted(f'{text}#{fragment}' if fragment else text)}"

    def _compile(self) -> None:
        sets: dict[frozenset[str], SchemaSet] = {}
        alike: dict[tuple[frozenset[str], SchemaSet], bool] = {}
        for uri, source in {source.uri: source for source in self._sources.values()}.items():
            referred = self._referred_by(uri)
            if (known := source.known) is not None:
                key = referred, known.others
                if key not in alike:
                    alike[key] = known.others.schemas == self._placed(referred)
                if alike[key]:
                    self._validators[uri] = known
                    continue
            try:
                if referred not in sets:
                    sets[referred] = SchemaSet(self._placed(referred).items())
                self._validators[uri] = self._new_validator(source, sets[referred])
            except SchemaUnusable as error:
                # It may be one of those that it refers to which cannot be compiled.
                if not [pattern for each in self._followed for pattern in self._note_patterns(each)]:
                    self._note(source, (), Code.SCHEMA_INVALID, f"the schema cannot be used: {error.reason}")

    def _placed(self, uris: frozenset[str]) -> dict[str, Any]:
        return {uri: self._schemas[uri] for uri in uris}

    def _new_validator(self, source: Source, others: SchemaSet) -> Validator:
        validator = Validator(with_type(self._schemas[source.uri]), source.uri, others)
        outlined = self._outlines[source.uri]
        if not source.pointer and outlined is not None:
            _outlines_in_use[validator] = outlined
            _in_use.setdefault((source.uri, source.document.text.text), validator)
        return validator

    def _referred_by(self, uri: str) -> frozenset[str]:
        """Return the URIs of the files that a schema refers to, directly or through others; its own only if one does.

        The engine needs time for each schema that it is given, so it is given no others.
        """
        found: set[str] = set()
        waiting = [uri]
        while waiting:
            file = waiting.pop()
            known = self._outlines.get(file)
            referred = {reference.uri for reference in known.references} if known is not None else set()
            new = (referred & self._schemas.keys()) - found - {file}
            found |= new
            waiting += new
        return frozenset(found)

    def _note(  # noqa: PLR0913  (what a diagnostic has)
        self, source: Source, pointer: Pointer, code: Code, message: str, hint: str = "", *, key: bool = False
    ) -> None:
        location = source.document.locate((*source.pointer, *pointer), key=key)
        self.found.append(Diagnostic(location, code, message, hint))


def declared_schemas(data: Any) -> Iterator[tuple[Pointer, Any]]:
    """Find the schemas in a contract file of any shape: the event type's pointer, and path or schema."""
    for channel, settings in mapping(mapping(data).get("channels")).items():
        for event_type, declared in mapping(mapping(settings).get("events")).items():
            schema = declared.get("schema") if isinstance(declared, dict) else declared
            if (isinstance(schema, str) and schema) or isinstance(schema, dict):
                yield ("channels", channel, "events", event_type), schema


def _bad_patterns(schema: Any) -> Iterator[tuple[Pointer, tuple[str, str]]]:
    """Find the regular expressions that the engine refuses: the way to each, and what is wrong in it."""
    for pointer, part in subschemas(schema):
        if isinstance(part, dict):
            patterns = {(*pointer, "patternProperties", name): name for name in mapping(part.get("patternProperties"))}
            if isinstance(part.get("pattern"), str):
                patterns[*pointer, "pattern"] = part["pattern"]
            for place, pattern in patterns.items():
                if fault := pattern_fault(pattern):
                    yield place, (pattern, fault)


def mapping(value: Any) -> dict[str, Any]:
    """Take what has not the shape of a mapping for an empty one: its shape is complained about elsewhere."""
    return value if isinstance(value, dict) else {}
