"""Whether every event of one schema passes another: proved, disproved by an event, or what the rules make of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from channelmap.check.compare.changes import Change, narrowings
from channelmap.check.compare.parts import covers_as_a_whole, covers_in_parts, is_simple
from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.targeted import targeted
from channelmap.check.compare.unions import exclusive
from channelmap.check.compare.views import declared, event_schema
from channelmap.check.compare.witness import Search
from channelmap.validation import Schema, SchemaUnusable, Validator, unsupported
from channelmap.validation.algebra import satisfiability

Verdict = Literal["same", "compatible", "breaking", "likely", "undecided"]
"""Equal schemas; proved compatible; proved breaking, by an event; breaking by the rules; undecided."""

#: Further events that are looked at, so that each change has its own.
_MORE = 400
#: Events that are made for the position of one change.
_TARGETED = 600


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the events of one side on the other.

    Attributes:
        verdict: see `Verdict`.
        witness: an event that the one accepts and the other refuses, where it is breaking.
        changes: the keywords at fault, each with the event that proves it, or `None`.
        doubt: why it is undecided.

    """

    verdict: Verdict
    witness: dict[str, Any] | None = None
    changes: tuple[tuple[Change, dict[str, Any] | None], ...] = ()
    doubt: str = ""

    @property
    def is_safe(self) -> bool:
        """Whether it is known that nothing is refused."""
        return self.verdict in {"same", "compatible"}


def judge(event_type: str, source: ReleasedType, target: ReleasedType, *, strict: bool = False) -> Judgement:
    """Say whether the events of `source` pass `target`.

    Args:
        event_type: its name.
        source: the event type as its senders know it.
        target: the event type as its consumers know it.
        strict: all that `source` accepts counts, not only what it describes.

    """
    if source.says_the_same(target):
        return Judgement("same")
    plain, wide = exclusive(source.schema), exclusive(target.schema)
    view = plain if strict else declared(plain)
    if is_simple(view) and satisfiability(event_schema(view, event_type)) == "no":
        view = plain  # It describes no event at all, so it can only be taken at its word.
    try:
        sides = _Sides(event_type, source.schema, view, target.schema)
    except SchemaUnusable:
        return Judgement("undecided", doubt="the schema has references that cannot be written out")
    refused = next(filter(sides.refuses_example, source.accepts), None)
    answer = covers_as_a_whole(event_schema(wide, event_type), event_schema(view, event_type))
    parts = pinned(wide, event_type), pinned(view, event_type)
    proved = answer == "yes" or (answer == "unknown" and covers_in_parts(*parts))
    if proved and refused is None:
        return Judgement("compatible")
    changes = narrowings(source.schema, target.schema, strict=strict)
    examples = [] if refused is None else [refused]
    witnesses = _Witnesses(sides, changes, examples)
    if not proved:
        witnesses.look(event_type, (source.schema, target.schema), (*source.accepts, *target.accepts))
    if witnesses.first is not None:
        return Judgement("breaking", witnesses.first, witnesses.by_change)
    if changes or answer == "no":
        return Judgement("likely", None, witnesses.by_change)
    return Judgement("undecided", doubt="it is neither proved nor disproved, and no rule tells")


def pinned(schema: Schema, event_type: str) -> Schema:
    """Return a schema in its form whose events are of that type, without a branch, so that it can be taken apart."""
    if not isinstance(schema, dict) or "properties" not in schema:
        return schema
    rule = {"properties": {"type": schema["properties"].get("type", True)}, "$defs": schema.get("$defs", {})}
    fits = Validator(rule).is_valid({"type": event_type})
    properties = {**schema["properties"], "type": {"const": event_type} if fits else False}
    return {**schema, "properties": properties, "required": sorted({*schema.get("required", ()), "type"})}


class _Sides:
    """Both schemas compiled, for the events of one type."""

    def __init__(self, event_type: str, source: Schema, view: Schema, target: Schema) -> None:
        self._source = Validator(event_schema(source, event_type))
        self._view = Validator(event_schema(view, event_type))
        self.target = Validator(event_schema(target, event_type))

    def accepts(self, event: dict[str, Any]) -> bool:
        """Whether an event that was made up here is one of the source's."""
        return self._view.fits(event) and self._source.fits(event)

    def refuses(self, event: dict[str, Any]) -> bool:
        """Whether the target refuses an event that can be sent."""
        return not self.target.fits(event) and unsupported(event) is None

    def refuses_example(self, event: Any) -> bool:
        """Whether the target refuses an event that was shown to be one of the source's."""
        return isinstance(event, dict) and self._source.is_valid(event) and self.refuses(event)


class _Witnesses:
    """Events that prove something, for each change its own where there is one."""

    def __init__(self, sides: _Sides, changes: Iterable[Change], events: Iterable[dict[str, Any]]) -> None:
        self._sides = sides
        self._found: dict[Change, dict[str, Any] | None] = dict.fromkeys(changes)
        self.first: dict[str, Any] | None = None
        for event in events:
            self._take(event)

    @property
    def by_change(self) -> tuple[tuple[Change, dict[str, Any] | None], ...]:
        return tuple(self._found.items())

    def look(self, event_type: str, schemas: tuple[Schema, Schema], examples: Iterable[Any]) -> None:
        """Search until each change has its event, or it is not worth while any more.

        Args:
            event_type: what the `type` of every event says.
            schemas: those of both sides, in their form.
            examples: events to begin with, where a change has no event of its own.

        """
        for change in self._found:
            for event in islice(targeted(schemas, change.pointer, event_type), _TARGETED):
                if self._found[change] is not None:
                    break
                if self._sides.accepts(event) and self._sides.refuses(event):
                    self._take(event)
        if self._found and all(self._found.values()):
            return
        search = Search(event_type, schemas, examples)
        found = search.events(self._sides.accepts, self._sides.refuses, thorough=not self._found)
        for _, event in zip(range(_MORE), found, strict=False):
            self._take(event)
            if all(self._found.values()):
                return

    def _take(self, event: dict[str, Any]) -> None:
        self.first = self.first or event
        open_ones = [change for change, proof in self._found.items() if proof is None]
        for mismatch in self._sides.target.mismatches(event) if open_ones else ():
            for change in open_ones:
                about_it = not (change.name and mismatch.names) or change.name in mismatch.names
                if about_it and _meet(change, mismatch.schema_path):
                    self._found[change] = self._found[change] or event


def _meet(change: Change, broken: tuple[str | int, ...]) -> bool:
    """Whether a keyword that an event breaks is the one that changed, in it, or around it."""
    pointer = change.pointer
    if change.keyword == "if" and broken[len(pointer) - 1 : len(pointer)] in {("then",), ("else",)}:
        return broken[: len(pointer) - 1] == pointer[:-1]
    length = min(len(pointer), len(broken))
    return pointer[:length] == broken[:length]
