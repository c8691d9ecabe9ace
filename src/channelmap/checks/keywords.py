"""Keywords that do not do what they seem to: unknown, of another dialect, or without effect where they stand."""

from collections.abc import Iterator

from channelmap.checks.documents import Part
from channelmap.checks.vocabulary import KEYWORDS, NOTES, OF_OTHER_DIALECT, TYPED
from channelmap.diagnostics import Diagnostic, Severity
from channelmap.errors import did_you_mean, quoted
from channelmap.validation import DIALECTS
from channelmap.validation.formats import known_formats

#: Keyword and one of those without which it has no effect.
_NEEDED = {
    "if": ("then", "else"),
    "then": ("if",),
    "else": ("if",),
    "minContains": ("contains",),
    "maxContains": ("contains",),
    "contentSchema": ("contentMediaType",),
}


def keyword_unknown(part: Part) -> Iterator[Diagnostic]:
    """Find keywords that JSON Schema does not know: what they were meant to do is not done."""
    known = KEYWORDS[part.document.dialect]
    # A file that others refer to into may be anything but a schema itself.
    if not (part.document.is_event or part.pointer or part.schema.keys() & known - NOTES):
        return
    for keyword in part.schema.keys() - known - OF_OTHER_DIALECT[part.document.dialect].keys():
        if not keyword.startswith("x-"):
            hint = did_you_mean(keyword, known) or "names that begin with 'x-' are yours"
            message = f"JSON Schema has no keyword {quoted(keyword)}"
            yield Diagnostic(part.place(keyword, key=True), "keyword-unknown", message, hint, Severity.WARNING)


def keyword_of_other_dialect(part: Part) -> Iterator[Diagnostic]:
    """Find keywords that judge nothing in this dialect, though they do in another."""
    remedies = OF_OTHER_DIALECT[part.document.dialect]
    for keyword in part.schema.keys() & remedies.keys():
        message = f"{quoted(keyword)} does nothing in {_named(part.document.dialect)}"
        hint = remedies[keyword] or f"name the dialect: '$schema: {DIALECTS[0]}'"
        yield Diagnostic(part.place(keyword, key=True), "keyword-of-other-dialect", message, hint)


def keyword_without_effect(part: Part) -> Iterator[Diagnostic]:
    """Find known keywords that do nothing, because of what stands beside them, or does not."""
    for keyword, reason in {**_lonely(part), **_of_other_type(part), **_beside_ref(part)}.items():
        message = f"{quoted(keyword)} has no effect {reason}"
        place = part.place(keyword, key=True)
        yield Diagnostic(place, "keyword-without-effect", message, severity=Severity.WARNING)


def _lonely(part: Part) -> dict[str, str]:
    return {
        keyword: f"without {' or '.join(map(quoted, needed))}"
        for keyword, needed in _NEEDED.items()
        if keyword in part.schema and not part.schema.keys() & set(needed) and _is_known(part, keyword)
    }


def _of_other_type(part: Part) -> dict[str, str]:
    declared = part.schema.get("type")
    if declared is None:
        return {}
    types = {declared} if isinstance(declared, str) else set(declared)
    named = " or ".join(map(quoted, sorted(types)))
    return {
        keyword: f"where the type is {named}"
        for owner, keywords in TYPED.items()
        if owner not in types and not (owner == "number" and "integer" in types)
        for keyword in part.schema.keys() & keywords
        if _is_known(part, keyword)
    }


def _beside_ref(part: Part) -> dict[str, str]:
    if "$ref" not in part.schema or part.document.dialect == DIALECTS[0]:
        return {}
    judging = KEYWORDS[part.document.dialect] - NOTES - {"$ref"}
    return {keyword: f"beside '$ref' in {_named(DIALECTS[1])}" for keyword in part.schema.keys() & judging}


def _is_known(part: Part, keyword: str) -> bool:
    """Whether nothing else is wrong with a keyword: each fault is told once."""
    if keyword == "format" and part.schema["format"] not in known_formats(part.document.dialect):
        return False
    return keyword in KEYWORDS[part.document.dialect]


def _named(dialect: str) -> str:
    return "draft 2020-12" if dialect == DIALECTS[0] else "draft-07"
