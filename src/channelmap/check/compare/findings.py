"""Turn comparisons into diagnostics, each at the most precise location in the new files."""

from collections.abc import Iterator, Mapping, Sequence

from channelmap.check.compare.comparison import Comparison, TypeComparison
from channelmap.check.compare.dropped import dropped_properties
from channelmap.check.compare.locations import locate_in_schema
from channelmap.check.compare.normal_form import canonical
from channelmap.check.compare.order import combined_order
from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.verdicts import Compatibility
from channelmap.check.compare.wording import consequence, rename_hint, statement
from channelmap.codes import Code, Severity
from channelmap.contract import Contract, Validate
from channelmap.diagnostics import Diagnostic, Location, in_order
from channelmap.environment import shown
from channelmap.errors import quoted
from channelmap.pointers import Pointer

_SURE: tuple[Code, Code] = (Code.BREAKS_SENDERS, Code.BREAKS_CONSUMERS)
_WARN_FIRST: dict[Validate, str] = {"off": "let 'validate: warn' tell first which these are"}
_LIKELY: tuple[Code, Code] = (Code.LIKELY_BREAKS_SENDERS, Code.LIKELY_BREAKS_CONSUMERS)


def findings(comparisons: Sequence[Comparison], contract: Contract) -> tuple[Diagnostic, ...]:
    """Return the findings of comparisons, and the order of deployment that suits all of them.

    Args:
        comparisons: the comparison of each release with this contract.
        contract: the new contract; findings are located in its files.

    """
    order = combined_order(comparison.order for comparison in comparisons)
    location = contract.document.locate(("channels",), key=True)
    found = [finding for comparison in comparisons for finding in _Findings(comparison, contract).all()]
    return in_order([*found, Diagnostic(location, Code.DEPLOY_ORDER, str(order))])


class _Findings:
    def __init__(self, comparison: Comparison, contract: Contract) -> None:
        self._comparison = comparison
        self._contract = contract
        self._release = f"release {quoted(comparison.old.name)}"
        self._channel_names = {shown(name): name for name in contract.channels}

    def all(self) -> Iterator[Diagnostic]:
        yield from self._channels()
        yield from self._event_types()
        for found in self._comparison.types:
            yield from self._compatibility(found, found.senders, reverse=False)
            yield from self._compatibility(found, found.consumers, reverse=True)
            yield from self._dropped(found)

    def _channels(self) -> Iterator[Diagnostic]:
        old, new = self._comparison.old.channels, self._comparison.new.channels
        for name in self._comparison.removed_channels:
            others = {each: new[each].events for each in self._comparison.added_channels}
            same = next((each for each, events in others.items() if _is_same(events, old[name].events)), None)
            hint = rename_hint(name, others) if same is None else f"was it renamed to {quoted(same)}?"
            message = f"channel {quoted(name)} of {self._release} is gone: no worker takes the events sent to it"
            yield Diagnostic(self._key_location(), Code.CHANNEL_REMOVED, message, hint, channel=name)
        for name in self._comparison.added_channels:
            message = f"channel {quoted(name)} is new since {self._release}"
            yield Diagnostic(self._key_location(name), Code.CHANNEL_ADDED, message, channel=name)
        for name in self._comparison.newly_enforced:
            lost = consequence("events that break a schema", self._release, reverse=False)
            message = f"'validate' was '{old[name].validate}', is 'enforce': {lost}"
            yield Diagnostic(
                self._key_location(name),
                Code.LIKELY_BREAKS_SENDERS,
                message,
                _WARN_FIRST.get(old[name].validate, ""),
                channel=name,
            )

    def _event_types(self) -> Iterator[Diagnostic]:
        old, new = self._comparison.old.channels, self._comparison.new.channels
        for channel, name in self._comparison.removed_types:
            others = {
                each: new[channel].events[each] for there, each in self._comparison.added_types if there == channel
            }
            before = {name: old[channel].events[name]}
            same = next((each for each, event_type in others.items() if _is_same({name: event_type}, before)), None)
            hint = rename_hint(name, others) if same is None else f"was it renamed to {quoted(same)}?"
            message = f"event type {quoted(name)} is gone: {consequence('its events', self._release, reverse=False)}"
            location = self._key_location(channel, "events")
            yield Diagnostic(location, Code.EVENT_TYPE_REMOVED, message, hint, channel=channel, event_type=name)
        for channel, name in self._comparison.added_types:
            message = f"event type {quoted(name)} is new: {consequence('its events', self._release, reverse=True)}"
            location = self._key_location(channel, "events", name)
            yield Diagnostic(location, Code.EVENT_TYPE_ADDED, message, channel=channel, event_type=name)

    def _compatibility(
        self, found: TypeComparison, compatibility: Compatibility, *, reverse: bool
    ) -> Iterator[Diagnostic]:
        """Return a finding for each change that is not safe, or one for the schema as a whole if no change is known."""
        if compatibility.is_safe:
            return
        if compatibility.verdict == "undecided":
            who = (
                f"consumers of {self._release} accept new events"
                if reverse
                else f"the schema still accepts events of {self._release}"
            )
            message = f"it is undecided whether {who}: {compatibility.doubt}"
            hint = "compare the schemas yourself, and add events under 'accepts'"
            yield self._about(found, (), Code.COMPATIBILITY_UNDECIDED, message, hint=hint)
            return
        receiver = (self._comparison.old if reverse else self._comparison.new).channels[found.channel]
        enforced = receiver.validate == "enforce"
        severity = Severity.ERROR if enforced and not reverse else Severity.WARNING
        for change, counterexample in compatibility.changes:
            lost = consequence(change.lost, self._release, reverse=reverse, enforced=enforced)
            message = f"{statement(change, reverse=reverse)}: {lost}"
            code = (_LIKELY if counterexample is None else _SURE)[reverse]
            yield self._about(
                found, change.pointer, code, message, severity=severity, name=change.name, event=counterexample
            )
        has_own_event = any(event for _, event in compatibility.changes)
        if not has_own_event and (compatibility.counterexample or not compatibility.changes):
            lost = consequence("some events", self._release, reverse=reverse, enforced=enforced)
            message = f"the schema changed: {lost}"
            code = (_LIKELY if compatibility.counterexample is None else _SURE)[reverse]
            yield self._about(found, (), code, message, severity=severity, event=compatibility.counterexample)

    def _dropped(self, found: TypeComparison) -> Iterator[Diagnostic]:
        old, new = (
            release.channels[found.channel].events[found.event_type]
            for release in (self._comparison.old, self._comparison.new)
        )
        if old.is_equivalent(new):
            return
        for drop in dropped_properties(old.schema, new.schema):
            message = f"property {quoted(drop.name)} of {self._release} is gone: handlers may still read it"
            hint = rename_hint(str(drop.pointer[-1]), drop.instead)
            yield self._about(found, drop.pointer, Code.PROPERTY_DROPPED, message, hint=hint)

    def _about(  # noqa: PLR0913  (what a diagnostic has)
        self,
        found: TypeComparison,
        pointer: Pointer,
        code: Code,
        message: str,
        *,
        severity: Severity | None = None,
        name: str = "",
        hint: str = "",
        event: object = None,
    ) -> Diagnostic:
        event_type = self._contract.channels[self._channel_names[found.channel]].events[found.event_type]
        default = self._key_location(found.channel, "events", found.event_type)
        return Diagnostic(
            locate_in_schema(event_type, pointer, default, name=name),
            code,
            message,
            hint,
            severity or code.severity,
            channel=found.channel,
            event_type=found.event_type,
            witness="" if event is None else canonical(event),
        )

    def _key_location(self, *pointer: str) -> Location:
        names = [self._channel_names[name] for name in pointer[:1]]
        return self._contract.document.locate(("channels", *names, *pointer[1:]), key=True)


def _is_same(one: Mapping[str, ReleasedType], other: Mapping[str, ReleasedType]) -> bool:
    """Whether event types have the same schemas, and at least one has a schema."""
    digests = [{name: event_type.digest for name, event_type in events.items()} for events in (one, other)]
    return digests[0] == digests[1] and any(event_type.schema is not True for event_type in one.values())
