"""The schemas of a contract: read, checked by their metaschema, their references followed, compiled."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from channelmap.contract import Written
from channelmap.diagnostics import Code, Diagnostic
from channelmap.environment import shown
from channelmap.errors import quoted
from channelmap.loader.files import Files
from channelmap.loader.references import Outline, Reference, outline
from channelmap.source import Document, Pointer
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


@dataclass(frozen=True, slots=True)
class Source:
    """A schema as it was written: a whole file, or a mapping in the contract's own document."""

    document: Document
    pointer: Pointer
    uri: str
    schema: Any


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
        """Check a schema and whatever it refers to, each once; None when it is no schema."""
        if source.uri not in self._outlines:
            self._outlines[source.uri] = None
            if self._is_schema(source):
                result = outline(source.schema, source.uri)
                self._outlines[source.uri] = result
                self._schemas[source.uri] = _without_id(source.schema)
                for reference in result.references:
                    self._follow(source, result, reference)
        return self._outlines[source.uri]

    def _is_schema(self, source: Source) -> bool:
        dialect = mapping(source.schema).get("$schema", DIALECTS[0])
        known = dialect.removesuffix("#") if isinstance(dialect, str) else ""
        if known not in DIALECTS:
            message, hint = f"dialect {quoted(dialect)} is not supported", f"expected {' or '.join(DIALECTS)}"
            self._note(source, ("$schema",), "schema-dialect", message, hint)
            return False
        mismatches = schema_mismatches(source.schema, known)
        for mismatch in mismatches:
            subject = f"{quoted(mismatch.pointer[-1])} " if mismatch.pointer else "the schema "
            self._note(source, mismatch.pointer, "schema-invalid", subject + mismatch.message)
        return not mismatches

    def _follow(self, source: Source, own: Outline, reference: Reference) -> None:
        if reference.uri in DIALECTS:
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
            self._note(source, reference.pointer, "schema-unresolvable-ref", message)

    def _refuse_far(self, source: Source, reference: Reference) -> None:
        root = BASE_URI.removesuffix("schemas/")
        if reference.uri.startswith((root, "file:")):
            code: Code = "ref-outside-root"
            message = "is outside the directory of the contract"
            hint = "move the file below that directory"
        else:
            code = "remote-ref"
            message = "is not a local file, and nothing is fetched from elsewhere"
            hint = "keep a copy and refer to its relative path"
        self._note(source, reference.pointer, code, f"{quoted(reference.text)} {message}", hint)

    def _referred(self, source: Source, reference: Reference) -> Outline | None:
        """Return the outline of the file that a reference names, which is read when it is not known yet."""
        before = len(self._files.found)
        name = unquote(reference.uri.removeprefix(BASE_URI))
        mention = source.document.locate((*source.pointer, *reference.pointer))
        document = self._files.read(name, mention, "schema")
        self._files.found[before:] = [_of_reference(found) for found in self._files.found[before:]]
        if document is None:
            return None
        return self._outline(Source(document, (), reference.uri, document.data))

    def _compile(self) -> None:
        try:
            others = SchemaSet(self._schemas.items())
        except SchemaUnusable as error:
            message = f"the schemas do not fit together: {error.reason}"
            place = self._document.locate(("channels",), key=True)
            self.found.append(Diagnostic(place, "schema-unresolvable-ref", message))
            return
        for uri, source in {source.uri: source for source in self._sources.values()}.items():
            try:
                self._validators[uri] = Validator(with_type(_without_id(source.schema)), uri, others)
            except SchemaUnusable as error:
                self._note(source, (), "schema-invalid", f"the schema cannot be used: {error.reason}")

    def _note(self, source: Source, pointer: Pointer, code: Code, message: str, hint: str = "") -> None:
        location = source.document.locate((*source.pointer, *pointer))
        self.found.append(Diagnostic(location, code, message, hint))


def declared_schemas(data: Any) -> Iterator[tuple[Pointer, Any]]:
    """Find the schemas in a contract file of any shape: the event type's pointer, and path or schema."""
    for channel, settings in mapping(mapping(data).get("channels")).items():
        for event_type, declared in mapping(mapping(settings).get("events")).items():
            schema = declared.get("schema") if isinstance(declared, dict) else declared
            if (isinstance(schema, str) and schema) or isinstance(schema, dict):
                yield ("channels", channel, "events", event_type), schema


def mapping(value: Any) -> dict[str, Any]:
    """Take what has not the shape of a mapping for an empty one: its shape is complained about elsewhere."""
    return value if isinstance(value, dict) else {}


def _without_id(schema: Any) -> Any:
    """Leave out what would move a schema away from its file."""
    return {key: value for key, value in schema.items() if key != "$id"} if isinstance(schema, dict) else schema


def _of_reference(found: Diagnostic) -> Diagnostic:
    codes: dict[Code, Code] = {"schema-missing": "schema-unresolvable-ref", "path-outside-root": "ref-outside-root"}
    return Diagnostic(found.location, codes.get(found.code, found.code), found.message, found.hint)
