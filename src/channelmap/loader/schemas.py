"""Load the schemas of a contract: read them, check them by their metaschema, follow references, and compile them."""

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
from channelmap.loader.references import Outline, Reference, outline, relocated
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
class SchemaSource:
    """A schema in its document: a whole file, or a mapping in the contract file.

    Attributes:
        document: the file or the contract file.
        pointer: where the schema is in the document; empty for a whole file.
        uri: the URI of the schema.
        schema: the schema.

    """

    document: Document
    pointer: Pointer
    uri: str
    schema: Any

    @property
    def in_use(self) -> Validator | None:
        """The validator of a file with the same URI and text, if another contract uses one."""
        return None if self.pointer else _in_use.get((self.uri, self.document.text.text))


#: The validators of files that are in use, by URI and text of the file, and their outlines. A contract that is loaded
#: again, or another release of it, compiles only the files that differ.
_in_use: WeakValueDictionary[tuple[str, str], Validator] = WeakValueDictionary()
_outlines_in_use: WeakKeyDictionary[Validator, Outline] = WeakKeyDictionary()


class Schemas:
    """The schemas that a contract declares, by the event type's pointer, and the schemas that they refer to.

    Faults are reported in `diagnostics` of this object or of `files`; if there are any, nothing is compiled.

    Args:
        document: the contract file, of any shape.
        files: reads the files in its directory.

    """

    def __init__(self, document: Document, files: Files) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._document = document
        self._files = files
        self._outlines: dict[str, Outline | None] = {}
        self._schemas: dict[str, Any] = {}
        self._sources: dict[Pointer, SchemaSource] = {}
        self._validators: dict[str, Validator] = {}
        #: The sources that are valid by their metaschema.
        self._followed: list[SchemaSource] = []
        for pointer, schema in declared_schemas(document.data):
            source = self._source(pointer, schema)
            if source is not None:
                self._sources[pointer] = source
                self._outline(source)
        if not self.diagnostics and not files.diagnostics:
            self._compile()

    def schema(self, event_type: Pointer) -> Schema:
        """Return the schema of an event type as it is written; True if it has none."""
        source = self._sources.get(event_type)
        return True if source is None else source.schema

    def written(self, event_type: Pointer) -> Written | None:
        """Return where the schema of an event type is written; None if it has none."""
        source = self._sources.get(event_type)
        return None if source is None else Written(source.document, source.pointer)

    def validator(self, event_type: Pointer) -> Validator | None:
        """Return the compiled schema of an event type; None if it has none."""
        source = self._sources.get(event_type)
        return None if source is None else self._validators[source.uri]

    def _source(self, event_type: Pointer, schema: Any) -> SchemaSource | None:
        if not isinstance(schema, str):
            pointer = (*event_type, "schema")
            return SchemaSource(
                self._document,
                pointer,
                f"{BASE_URI}?{quote('/'.join(map(shown, self._document.display_pointer(pointer))))}",
                schema,
            )
        mention = self._document.locate((*event_type, "schema"))
        document = self._files.read(schema, mention, "schema")
        if document is None:
            return None
        # The URI has the name by which references name the file; two names of one file are two schemas for the engine.
        return SchemaSource(document, (), BASE_URI + quote(posixpath.normpath(schema)), document.data)

    def _outline(self, source: SchemaSource) -> Outline | None:
        """Return the outline of a schema, and check those that it refers to; `None` if it is not a valid schema."""
        if source.uri not in self._outlines:
            self._outlines[source.uri] = None
            known = source.in_use
            if known is not None or self._is_schema(source):
                result = outline(source.schema, source.uri) if known is None else _outlines_in_use[known]
                self._outlines[source.uri] = result
                self._schemas[source.uri] = relocated(source.schema, result)
                self._followed.append(source)
                for reference in result.references:
                    self._follow(source, result, reference)
        return self._outlines[source.uri]

    def _is_schema(self, source: SchemaSource) -> bool:
        dialect = mapping_or_empty(source.schema).get("$schema", DIALECTS[0])
        known = dialect.removesuffix("#") if isinstance(dialect, str) else ""
        if known not in DIALECTS:
            message, hint = f"dialect {quoted(dialect)} is not supported", f"expected {' or '.join(DIALECTS)}"
            self._report(source, ("$schema",), Code.SCHEMA_DIALECT, message, hint)
            return False
        mismatches = schema_mismatches(source.schema, known)
        patterns = self._report_patterns(source) if mismatches else set()
        for mismatch in mismatches:
            if not patterns.isdisjoint({mismatch.pointer, (*mismatch.pointer, *mismatch.names)}):
                continue
            subject = f"{quoted(mismatch.pointer[-1])} " if mismatch.pointer else "the schema "
            self._report(source, mismatch.pointer, Code.SCHEMA_INVALID, subject + mismatch.message)
        return not mismatches

    def _report_patterns(self, source: SchemaSource) -> set[Pointer]:
        """Report the regular expressions that the engine rejects; return the pointers to them."""
        found = dict(_bad_patterns(source.schema))
        for pointer, (pattern, fault) in found.items():
            is_key = pointer[-2:-1] == ("patternProperties",)
            message = f"the pattern {quoted(pattern)} cannot be used: {fault}"
            self._report(source, pointer, Code.SCHEMA_INVALID, message, key=is_key)
        return set(found)

    def _follow(self, source: SchemaSource, own: Outline, reference: Reference) -> None:
        if reference.uri in DIALECTS:
            self._add_metaschema(reference.uri)
            return
        if reference.uri in own.resources:
            target: Outline | None = own
        elif not reference.uri.startswith(BASE_URI):
            self._report_not_local(source, reference)
            return
        else:
            target = self._outline_of_file(source, reference)
        if target is not None and not target.holds(reference):
            message = f"{quoted(reference.text)} leads nowhere"
            self._report(source, reference.pointer, Code.SCHEMA_UNRESOLVABLE_REF, message)

    def _add_metaschema(self, dialect: str) -> None:
        """Register the draft-07 metaschema for references; with a registry, the engine does not find its own copy."""
        if dialect == DIALECTS[1] and dialect not in self._schemas:
            from channelmap.validation.second_engine import draft_07_metaschema

            self._schemas[dialect] = draft_07_metaschema()

    def _report_not_local(self, source: SchemaSource, reference: Reference) -> None:
        root = BASE_URI.removesuffix("schemas/")
        if reference.uri.startswith((root, "file:")):
            code: Code = Code.REF_OUTSIDE_ROOT
            message = "is outside the directory of the contract"
            hint = "move the file below that directory"
        else:
            code = Code.REMOTE_REF
            message = "is not a local file, and nothing is fetched from elsewhere"
            hint = self._hint_by_id(source, reference) or "keep a copy and refer to its relative path"
        self._report(source, reference.pointer, code, f"{quoted(reference.text)} {message}", hint)

    def _outline_of_file(self, source: SchemaSource, reference: Reference) -> Outline | None:
        """Return the outline of the file that a reference names; read the file unless that was done before."""
        if reference.uri in self._outlines:
            return self._outlines[reference.uri]
        before = len(self._files.diagnostics)
        name = unquote(reference.uri.removeprefix(BASE_URI))
        mention = source.document.locate((*source.pointer, *reference.pointer))
        document = self._files.read(name, mention, "schema")
        self._files.diagnostics[before:] = [
            self._for_reference(found, source, reference) for found in self._files.diagnostics[before:]
        ]
        if document is None:
            return None
        return self._outline(SchemaSource(document, (), reference.uri, document.data))

    def _for_reference(self, found: Diagnostic, source: SchemaSource, reference: Reference) -> Diagnostic:
        """Adapt the code and the hint of a file's diagnostic to the reference that names the file."""
        codes: dict[Code, Code] = {
            Code.SCHEMA_MISSING: Code.SCHEMA_UNRESOLVABLE_REF,
            Code.PATH_OUTSIDE_ROOT: Code.REF_OUTSIDE_ROOT,
        }
        hint = self._hint_by_id(source, reference) if found.code == Code.SCHEMA_MISSING else ""
        return replace(found, code=codes.get(found.code, found.code), hint=hint or found.hint)

    def _hint_by_id(self, source: SchemaSource, reference: Reference) -> str:
        """Return a hint that names the file with the `$id` that a reference uses; empty if there is none."""
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
            if (known := source.in_use) is not None:
                key = referred, known.others
                if key not in alike:
                    alike[key] = known.others.schemas == self._relocated(referred)
                if alike[key]:
                    self._validators[uri] = known
                    continue
            try:
                if referred not in sets:
                    sets[referred] = SchemaSet(self._relocated(referred).items())
                self._validators[uri] = self._new_validator(source, sets[referred])
            except SchemaUnusable as error:
                # The fault may be in a schema that this one refers to.
                if not [pattern for each in self._followed for pattern in self._report_patterns(each)]:
                    self._report(source, (), Code.SCHEMA_INVALID, f"the schema cannot be used: {error.reason}")

    def _relocated(self, uris: frozenset[str]) -> dict[str, Any]:
        return {uri: self._schemas[uri] for uri in uris}

    def _new_validator(self, source: SchemaSource, others: SchemaSet) -> Validator:
        validator = Validator(with_type(self._schemas[source.uri]), source.uri, others)
        outlined = self._outlines[source.uri]
        if not source.pointer and outlined is not None:
            _outlines_in_use[validator] = outlined
            _in_use.setdefault((source.uri, source.document.text.text), validator)
        return validator

    def _referred_by(self, uri: str) -> frozenset[str]:
        """Return the URIs of the files that a schema refers to, directly or through others.

        Its own URI is included only if one of them refers to it. The engine gets no other schemas, because each one
        takes time.
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

    def _report(  # noqa: PLR0913  (what a diagnostic has)
        self, source: SchemaSource, pointer: Pointer, code: Code, message: str, hint: str = "", *, key: bool = False
    ) -> None:
        location = source.document.locate((*source.pointer, *pointer), key=key)
        self.diagnostics.append(Diagnostic(location, code, message, hint))


def declared_schemas(data: Any) -> Iterator[tuple[Pointer, Any]]:
    """Yield the schemas in a contract file of any shape: the event type's pointer, and the path or the schema."""
    for channel, settings in mapping_or_empty(mapping_or_empty(data).get("channels")).items():
        for event_type, declared in mapping_or_empty(mapping_or_empty(settings).get("events")).items():
            schema = declared.get("schema") if isinstance(declared, dict) else declared
            if (isinstance(schema, str) and schema) or isinstance(schema, dict):
                yield ("channels", channel, "events", event_type), schema


def _bad_patterns(schema: Any) -> Iterator[tuple[Pointer, tuple[str, str]]]:
    """Yield the regular expressions that the engine rejects: pointer, pattern, and what is wrong in it."""
    for pointer, part in subschemas(schema):
        if isinstance(part, dict):
            names = mapping_or_empty(part.get("patternProperties"))
            patterns = {(*pointer, "patternProperties", name): name for name in names}
            if isinstance(part.get("pattern"), str):
                patterns[*pointer, "pattern"] = part["pattern"]
            for where, pattern in patterns.items():
                if fault := pattern_fault(pattern):
                    yield where, (pattern, fault)


def mapping_or_empty(value: Any) -> dict[str, Any]:
    """Return a value if it is a mapping, otherwise an empty one; `check_shape` reports the wrong shape."""
    return value if isinstance(value, dict) else {}
