"""Find keywords without effect: unknown, of another dialect, or ineffective beside other keywords."""

from collections.abc import Iterator

from channelmap.check.rules.documents import Part, SchemaDocument
from channelmap.check.rules.vocabulary import (
    KEYWORDS,
    NON_ASSERTIONS,
    OTHER_DIALECT_REMEDIES,
    TOOL_ANNOTATIONS,
    TYPE_SPECIFIC,
)
from channelmap.codes import Code
from channelmap.diagnostics import Diagnostic
from channelmap.errors import did_you_mean, quoted
from channelmap.validation import DIALECTS
from channelmap.validation.formats import known_formats
from channelmap.validation.keywords import DEFINITIONS

#: Keywords that have no effect without one of the others.
_PARTNERS = {
    "if": ("then", "else"),
    "then": ("if",),
    "else": ("if",),
    "minContains": ("contains",),
    "maxContains": ("contains",),
    "contentSchema": ("contentMediaType",),
}


def keyword_unknown(document: SchemaDocument) -> Iterator[Diagnostic]:
    """Find keywords that JSON Schema does not know; each is reported once, at its first location."""
    known = KEYWORDS[document.dialect]
    first: dict[str, Part] = {}
    explained = known | OTHER_DIALECT_REMEDIES[document.dialect].keys() | TOOL_ANNOTATIONS
    for part in document.parts:
        unknown = [keyword for keyword in part.schema if keyword not in explained]
        if unknown and not _only_holds_definitions(part):
            for keyword in unknown:
                first.setdefault(keyword, part)
    if not first:
        return
    references = [str(part.schema["$ref"]) for part in document.parts if "$ref" in part.schema]
    for keyword, part in first.items():
        # A keyword that a `$ref` points into holds definitions, whatever its name.
        is_referred = any(reference.startswith(f"#/{keyword}/") for reference in references)
        if not keyword.startswith("x-") and not is_referred:
            hint = did_you_mean(keyword, known) or "names that begin with 'x-' are yours"
            message = f"JSON Schema has no keyword {quoted(keyword)}"
            yield Diagnostic(part.locate(keyword, key=True), Code.KEYWORD_UNKNOWN, message, hint)


def _only_holds_definitions(part: Part) -> bool:
    """Whether a file or definition is itself not a schema, but a mapping of schemas to refer to."""
    if part.schema.keys() & (KEYWORDS[part.document.dialect] - NON_ASSERTIONS):
        return False
    if not part.pointer:
        return not part.document.is_event
    is_definition = bool(DEFINITIONS.intersection(part.pointer[-2:-1]))
    return is_definition and all(isinstance(value, dict) for value in part.schema.values())


def keyword_of_other_dialect(part: Part) -> Iterator[Diagnostic]:
    """Find keywords that have no effect in this dialect, but in another one."""
    remedies = OTHER_DIALECT_REMEDIES[part.document.dialect]
    for keyword in part.schema.keys() & remedies.keys():
        message = f"{quoted(keyword)} does nothing in {_named(part.document.dialect)}"
        hint = remedies[keyword] or f"name the dialect: '$schema: {DIALECTS[0]}'"
        yield Diagnostic(part.locate(keyword, key=True), Code.KEYWORD_OF_OTHER_DIALECT, message, hint)


def keyword_without_effect(part: Part) -> Iterator[Diagnostic]:
    """Find known keywords that have no effect because another keyword is present or missing."""
    for keyword, reason in {**_without_partner(part), **_of_other_type(part), **_beside_ref(part)}.items():
        message = f"{quoted(keyword)} has no effect {reason}"
        location = part.locate(keyword, key=True)
        yield Diagnostic(location, Code.KEYWORD_WITHOUT_EFFECT, message)


def _without_partner(part: Part) -> dict[str, str]:
    return {
        keyword: f"without {' or '.join(map(quoted, needed))}"
        for keyword, needed in _PARTNERS.items()
        if keyword in part.schema and not part.schema.keys() & set(needed) and _is_known(part, keyword)
        if keyword != "if" or not _uses_unevaluated(part.document)
    }


def _uses_unevaluated(document: SchemaDocument) -> bool:
    """Whether an `if` without `then` and `else` has an effect: `unevaluated…` depends on what it matched."""
    return any({"unevaluatedItems", "unevaluatedProperties"} & part.schema.keys() for part in document.parts)


def _of_other_type(part: Part) -> dict[str, str]:
    declared = part.schema.get("type")
    if declared is None:
        return {}
    types = {declared} if isinstance(declared, str) else set(declared)
    idle = [
        keyword
        for owner, keywords in TYPE_SPECIFIC.items()
        if owner not in types and not (owner == "number" and "integer" in types)
        for keyword in part.schema
        if keyword in keywords and _is_known(part, keyword)
    ]
    named = " or ".join(map(quoted, sorted(types))) if idle else ""
    return dict.fromkeys(idle, f"where the type is {named}")


def _beside_ref(part: Part) -> dict[str, str]:
    if "$ref" not in part.schema or part.document.dialect == DIALECTS[0]:
        return {}
    judging = KEYWORDS[part.document.dialect] - NON_ASSERTIONS - {"$ref"}
    return {keyword: f"beside '$ref' in {_named(DIALECTS[1])}" for keyword in part.schema.keys() & judging}


def _is_known(part: Part, keyword: str) -> bool:
    """Whether no other rule reports the keyword: each fault is reported once."""
    if keyword == "format" and part.schema["format"] not in known_formats(part.document.dialect):
        return False
    return keyword in KEYWORDS[part.document.dialect]


def _named(dialect: str) -> str:
    return "draft 2020-12" if dialect == DIALECTS[0] else "draft-07"
