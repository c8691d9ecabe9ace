"""Find events and dead letters in a layer that a contract would reject, before it is deployed.

Nothing is taken from the layer, and no payload is shown.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from channelmap.asgi import Event
from channelmap.codes import Code, Severity
from channelmap.contract import Channel, Contract
from channelmap.diagnostics import Diagnostic, in_order
from channelmap.errors import EventRejected, printable, quoted
from channelmap.layer import ChannelLayer
from channelmap.trace_key import without_trace

#: Maximum number of different reasons that are reported for a channel.
_MAX_REASONS = 20

_WAITING_HINT = "let workers of the contract by which they were sent take them first"
_LETTER_HINT = "replay them before this contract is deployed, or drop them"


async def check_stored_events(contract: Contract, layer: ChannelLayer) -> tuple[Diagnostic, ...]:
    """Find events and dead letters that the contract rejects; the layer is not changed.

    Args:
        contract: the contract that is to be deployed.
        layer: the layer, as from `open_contract_layer`; it stays open.

    Raises:
        LayerError: the layer is unavailable, or cannot show waiting events.

    """
    found: list[Diagnostic] = []
    for channel in contract.channels.values():
        if channel.validate != "off":
            events = await _judge_waiting(channel, layer)
            found += events.diagnostics(contract, Code.WAITING_REFUSED, "waiting event", _WAITING_HINT)
            letters = await _judge_dead_letters(channel, layer)
            found += letters.diagnostics(contract, Code.DEAD_LETTER_REFUSED, "dead letter", _LETTER_HINT)
    return in_order(found)


async def _judge_waiting(channel: Channel, layer: ChannelLayer) -> "_Rejections":
    rejections = _Rejections(channel)
    async for delivery in layer.peek(channel.name):
        rejections.judge(delivery.event, delivery.sent, delivery.problem)
    return rejections


async def _judge_dead_letters(channel: Channel, layer: ChannelLayer) -> "_Rejections":
    rejections = _Rejections(channel)
    for letter in await layer.dead_letters(channel.name):
        # Dead letters of other codes were already rejected when a worker took them.
        if letter.code == "failed" and letter.event is not None:
            rejections.judge(letter.event, letter.sent)
    return rejections


class _Reason(NamedTuple):
    """A reason for which events of one type are rejected; the type is empty if an event has none."""

    event_type: str
    text: str
    hint: str = ""


_OTHER_REASONS = _Reason("", "further reasons")


@dataclass(slots=True)
class _Group:
    """The number of events rejected for one reason, and the time at which the oldest was sent."""

    count: int = 0
    oldest: float = math.inf


@dataclass(slots=True)
class _Rejections:
    """The rejected events of a channel, grouped by reason; the events themselves are not kept."""

    channel: Channel
    groups: dict[_Reason, _Group] = field(default_factory=dict)

    def judge(self, event: Event | None, sent: float, problem: str = "") -> None:
        """Count an event if it is rejected; without an event, `problem` is the reason."""
        rejected = None if event is None else self.channel.judge(without_trace(event))
        if event is not None and rejected is None:
            return
        reason = _Reason("", problem) if rejected is None else _reason_of(rejected)
        if reason not in self.groups and len(self.groups) >= _MAX_REASONS:
            reason = _OTHER_REASONS
        group = self.groups.setdefault(reason, _Group())
        group.count += 1
        group.oldest = min(group.oldest, sent)

    def diagnostics(self, contract: Contract, code: Code, noun: str, hint: str) -> Iterator[Diagnostic]:
        """Return a finding for each reason, at its event type or at the channel."""
        warns = code == Code.DEAD_LETTER_REFUSED or self.channel.validate == "warn"
        severity = Severity.WARNING if warns else Severity.ERROR
        for reason, group in self.groups.items():
            known = ("events", reason.event_type) if reason.event_type in self.channel.events else ()
            location = contract.document.locate(("channels", self.channel.name, *known), key=True)
            counted = f"{group.count:,} {noun}{'s' if group.count > 1 else ''}"
            whose = f" of {quoted(reason.event_type)}" if reason.event_type else ""
            message = f"{counted}{whose}{_age(group.oldest)} would be refused: {reason.text}"
            yield Diagnostic(
                location, code, message, reason.hint or hint, severity,
                channel=self.channel.name, event_type=reason.event_type,
            )  # fmt: skip


def _reason_of(rejected: EventRejected) -> _Reason:
    if rejected.type is None:
        return _Reason("", "the event has no type")
    if rejected.code == "unknown-type":
        # The sender chose the name: it may be long or unprintable.
        return _Reason(printable(rejected.type[:60]), "the channel does not declare this type", rejected.hint)
    first, *others = rejected.violations
    return _Reason(rejected.type, f"{first} (and {len(others)} more)" if others else str(first))


def _age(sent: float) -> str:
    """Return the age of the oldest event in words; empty below two minutes."""
    secs = int(time.time() - sent)
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if secs >= 2 * size:
            return f", up to {secs // size} {unit} old,"
    return ""
