"""What a comparison found, as diagnostics: each at the smallest right place of the new files."""

from collections.abc import Iterator, Mapping, Sequence

from channelmap.check.compare.comparison import Comparison, TypeComparison
from channelmap.check.compare.dropped import dropped
from channelmap.check.compare.normal import canonical
from channelmap.check.compare.order import together
from channelmap.check.compare.places import place_of
from channelmap.check.compare.releases import ReleasedType
from channelmap.check.compare.verdicts import Judgement
from channelmap.check.compare.wording import refusal, renamed, statement
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
    """Say what comparisons found, and the one order of deployment that suits them all.

    Args:
        comparisons: of each release with this contract.
        contract: the new contract, in whose files the findings are placed.

    """
    order = together(comparison.order for comparison in comparisons)
    place = contract.document.locate(("channels",), key=True)
    found = [finding for comparison in comparisons for finding in _Findings(comparison, contract).all()]
    return in_order([*found, Diagnostic(place, Code.DEPLOY_ORDER, str(order))])


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
            yield from self._judged(found, found.senders, reverse=False)
            yield from self._judged(found, found.consumers, reverse=True)
            yield from self._dropped(found)

    def _channels(self) -> Iterator[Diagnostic]:
        old, new = self._comparison.old.channels, self._comparison.new.channels
        for name in self._comparison.removed_channels:
            others = {each: new[each].events for each in self._comparison.added_channels}
            same = next((each for each, events in others.items() if _is_same(events, old[name].events)), None)
            hint = renamed(name, others) if same is None else f"was it renamed to {quoted(same)}?"
            message = f"channel {quoted(name)} of {self._release} is gone: events sent to it wait for nobody"
            yield Diagnostic(self._key(), Code.CHANNEL_REMOVED, message, hint, channel=name)
        for name in self._comparison.added_channels:
            message = f"channel {quoted(name)} is new since {self._release}"
            yield Diagnostic(self._key(name), Code.CHANNEL_ADDED, message, channel=name)
        for name in self._comparison.newly_enforced:
            lost = refusal("events that break a schema", self._release, reverse=False)
            message = f"'validate' was '{old[name].validate}', is 'enforce': {lost}"
            yield Diagnostic(
                self._key(name),
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
            hint = renamed(name, others) if same is None else f"was it renamed to {quoted(same)}?"
            message = f"event type {quoted(name)} is gone: {refusal('its events', self._release, reverse=False)}"
            place = self._key(channel, "events")
            yield Diagnostic(place, Code.EVENT_TYPE_REMOVED, message, hint, channel=channel, event_type=name)
        for channel, name in self._comparison.added_types:
            message = f"event type {quoted(name)} is new: {refusal('its events', self._release, reverse=True)}"
            place = self._key(channel, "events", name)
            yield Diagnostic(place, Code.EVENT_TYPE_ADDED, message, channel=channel, event_type=name)

    def _judged(self, found: TypeComparison, judgement: Judgement, *, reverse: bool) -> Iterator[Diagnostic]:
        """Word what is not safe: each change, or the schema as a whole where none can be named."""
        if judgement.is_safe:
            return
        if judgement.verdict == "undecided":
            who = (
                f"consumers of {self._release} can take new events"
                if reverse
                else f"events of {self._release} still fit"
            )
            message = f"nobody can say whether {who}: {judgement.doubt}"
            hint = "compare by hand, and show events under 'accepts'"
            yield self._about(found, (), Code.COMPATIBILITY_UNDECIDED, message, hint=hint)
            return
        receiver = (self._comparison.old if reverse else self._comparison.new).channels[found.channel]
        enforced = receiver.validate == "enforce"
        severity = Severity.ERROR if enforced and not reverse else Severity.WARNING
        for change, witness in judgement.changes:
            lost = refusal(change.lost, self._release, reverse=reverse, enforced=enforced)
            message = f"{statement(change, reverse=reverse)}: {lost}"
            code = (_LIKELY if witness is None else _SURE)[reverse]
            yield self._about(
                found, change.pointer, code, message, severity=severity, name=change.name, witness=witness
            )
        if not any(witness for _, witness in judgement.changes) and (judgement.witness or not judgement.changes):
            lost = refusal("some events", self._release, reverse=reverse, enforced=enforced)
            message = f"the schema changed: {lost}"
            code = (_LIKELY if judgement.witness is None else _SURE)[reverse]
            yield self._about(found, (), code, message, severity=severity, witness=judgement.witness)

    def _dropped(self, found: TypeComparison) -> Iterator[Diagnostic]:
        old, new = (
            release.channels[found.channel].events[found.event_type]
            for release in (self._comparison.old, self._comparison.new)
        )
        if old.says_the_same(new):
            return
        for drop in dropped(old.schema, new.schema):
            message = f"property {quoted(drop.name)} of {self._release} is gone: handlers may still read it"
            hint = renamed(str(drop.pointer[-1]), drop.instead)
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
        witness: object = None,
    ) -> Diagnostic:
        event_type = self._contract.channels[self._channel_names[found.channel]].events[found.event_type]
        default = self._key(found.channel, "events", found.event_type)
        return Diagnostic(
            place_of(event_type, pointer, default, name=name),
            code,
            message,
            hint,
            severity or code.severity,
            channel=found.channel,
            event_type=found.event_type,
            witness="" if witness is None else canonical(witness),
        )

    def _key(self, *pointer: str) -> Location:
        names = [self._channel_names[name] for name in pointer[:1]]
        return self._contract.document.locate(("channels", *names, *pointer[1:]), key=True)


def _is_same(one: Mapping[str, ReleasedType], other: Mapping[str, ReleasedType]) -> bool:
    """Whether events have the same schemas, and ones that tell something."""
    digests = [{name: event_type.digest for name, event_type in events.items()} for events in (one, other)]
    return digests[0] == digests[1] and any(event_type.schema is not True for event_type in one.values())
