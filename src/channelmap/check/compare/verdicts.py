"""Decide whether one schema accepts every event of another: by proof, by counterexample, or by rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from channelmap.check.compare.changes import Change, narrowings
from channelmap.check.compare.counterexamples import CounterexampleSearch
from channelmap.check.compare.parts import covers_as_a_whole, covers_in_parts, is_simple
from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.targeted import targeted_events
from channelmap.check.compare.unions import replace_exclusive_one_of
from channelmap.check.compare.views import declared_view, event_schema
from channelmap.validation import Schema, SchemaUnusable, Validator, unsupported
from channelmap.validation.algebra import satisfiability

Verdict = Literal["same", "compatible", "breaking", "likely", "undecided"]
"""Equal schemas; proved compatible; breaking, with a counterexample; breaking by the rules; undecided."""

#: Maximum number of further counterexamples that are searched, so that each change has its own.
_MAX_FURTHER_EVENTS = 400
#: Maximum number of events that are generated for the position of one change.
_MAX_TARGETED_EVENTS = 600


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether the events of one release are accepted by another.

    Attributes:
        verdict: see `Verdict`.
        counterexample: an event that one release accepts and the other rejects, if the verdict is `breaking`.
        changes: the keywords at fault, each with a counterexample or `None`.
        doubt: the reason of the verdict `undecided`.

    """

    verdict: Verdict
    counterexample: dict[str, Any] | None = None
    changes: tuple[tuple[Change, dict[str, Any] | None], ...] = ()
    doubt: str = ""

    @property
    def is_safe(self) -> bool:
        """Whether it is proved that every event is accepted."""
        return self.verdict in {"same", "compatible"}


def compare_event_type(
    event_type: str, source: ReleasedType, target: ReleasedType, *, strict: bool = False
) -> Compatibility:
    """Return whether `target` accepts the events of `source`.

    Args:
        event_type: the name of the event type.
        source: the event type in the release of the senders.
        target: the event type in the release of the consumers.
        strict: compare all events that `source` accepts, not only those that it describes.

    """
    if source.is_equivalent(target):
        return Compatibility("same")
    plain, wide = replace_exclusive_one_of(source.schema), replace_exclusive_one_of(target.schema)
    view = plain if strict else declared_view(plain)
    if is_simple(view) and satisfiability(event_schema(view, event_type)) == "no":
        view = plain  # The schema describes no event, so compare what it accepts.
    try:
        validators = _Validators(event_type, source.schema, view, target.schema)
    except SchemaUnusable:
        return Compatibility("undecided", doubt="the schema has references that cannot be written out")
    refused = next(filter(validators.rejects_example, source.accepts), None)
    answer = covers_as_a_whole(event_schema(wide, event_type), event_schema(view, event_type))
    parts = with_constant_type(wide, event_type), with_constant_type(view, event_type)
    proved = answer == "yes" or (answer == "unknown" and covers_in_parts(*parts))
    if proved and refused is None:
        return Compatibility("compatible")
    changes = narrowings(source.schema, target.schema, strict=strict)
    examples = [] if refused is None else [refused]
    counterexamples = _Counterexamples(validators, changes, examples)
    if not proved:
        counterexamples.search(event_type, (source.schema, target.schema), (*source.accepts, *target.accepts))
    if counterexamples.first is not None:
        return Compatibility("breaking", counterexamples.first, counterexamples.by_change)
    if changes or answer == "no":
        return Compatibility("likely", None, counterexamples.by_change)
    return Compatibility("undecided", doubt="there is no proof, no counterexample, and no rule that applies")


def with_constant_type(schema: Schema, event_type: str) -> Schema:
    """Return a schema in normal form with a constant `type`, without a branch, so that properties can be compared."""
    if not isinstance(schema, dict) or "properties" not in schema:
        return schema
    rule = {"properties": {"type": schema["properties"].get("type", True)}, "$defs": schema.get("$defs", {})}
    fits = Validator(rule).is_valid({"type": event_type})
    properties = {**schema["properties"], "type": {"const": event_type} if fits else False}
    return {**schema, "properties": properties, "required": sorted({*schema.get("required", ()), "type"})}


class _Validators:
    """Both schemas compiled, for the events of one type."""

    def __init__(self, event_type: str, source: Schema, view: Schema, target: Schema) -> None:
        self._source = Validator(event_schema(source, event_type))
        self._view = Validator(event_schema(view, event_type))
        self.target = Validator(event_schema(target, event_type))

    def accepts(self, event: dict[str, Any]) -> bool:
        """Whether a generated event is an event of the source."""
        return self._view.fits(event) and self._source.fits(event)

    def rejects(self, event: dict[str, Any]) -> bool:
        """Whether the target rejects an event that can be sent."""
        return not self.target.fits(event) and unsupported(event) is None

    def rejects_example(self, event: Any) -> bool:
        """Whether the target rejects an example of the source."""
        return isinstance(event, dict) and self._source.is_valid(event) and self.rejects(event)


class _Counterexamples:
    """Collects counterexamples, if possible one for each change."""

    def __init__(self, validators: _Validators, changes: Iterable[Change], events: Iterable[dict[str, Any]]) -> None:
        self._validators = validators
        self._found: dict[Change, dict[str, Any] | None] = dict.fromkeys(changes)
        self.first: dict[str, Any] | None = None
        for event in events:
            self._add(event)

    @property
    def by_change(self) -> tuple[tuple[Change, dict[str, Any] | None], ...]:
        return tuple(self._found.items())

    def search(self, event_type: str, schemas: tuple[Schema, Schema], examples: Iterable[Any]) -> None:
        """Search until each change has a counterexample, or a maximum number of events was tried.

        Args:
            event_type: the `type` of every event.
            schemas: the schemas of both sides, in normal form.
            examples: events from which the search starts.

        """
        for change in self._found:
            for event in islice(targeted_events(schemas, change.pointer, event_type), _MAX_TARGETED_EVENTS):
                if self._found[change] is not None:
                    break
                if self._validators.accepts(event) and self._validators.rejects(event):
                    self._add(event)
        if self._found and all(self._found.values()):
            return
        search = CounterexampleSearch(event_type, schemas, examples)
        found = search.events(self._validators.accepts, self._validators.rejects, thorough=not self._found)
        for _, event in zip(range(_MAX_FURTHER_EVENTS), found, strict=False):
            self._add(event)
            if all(self._found.values()):
                return

    def _add(self, event: dict[str, Any]) -> None:
        self.first = self.first or event
        open_ones = [change for change, proof in self._found.items() if proof is None]
        for mismatch in self._validators.target.mismatches(event) if open_ones else ():
            for change in open_ones:
                about_it = not (change.name and mismatch.names) or change.name in mismatch.names
                if about_it and _overlap(change, mismatch.schema_path):
                    self._found[change] = self._found[change] or event


def _overlap(change: Change, broken: tuple[str | int, ...]) -> bool:
    """Whether the keyword that an event violates is the changed keyword, or inside or around it."""
    pointer = change.pointer
    if change.keyword == "if" and broken[len(pointer) - 1 : len(pointer)] in {("then",), ("else",)}:
        return broken[: len(pointer) - 1] == pointer[:-1]
    length = min(len(pointer), len(broken))
    return pointer[:length] == broken[:length]
