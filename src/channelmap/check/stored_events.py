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

#: Events may be wrong in any number of ways; so many are told apart on a channel.
_MOST_FAULTS = 20

_WAITING_HINT = "let workers of the contract by which they were sent take them first"
_LETTER_HINT = "replay them before this contract is deployed, or drop them"


async def check_stored_events(contract: Contract, layer: ChannelLayer) -> tuple[Diagnostic, ...]:
    """Find events and dead letters on the channels of a contract that it rejects; nothing in the layer changes.

    Args:
        contract: the contract that is to be deployed.
        layer: where events wait, such as `open_contract_layer` opens; it stays open.

    Raises:
        LayerError: the layer cannot show what waits, or is away.

    """
    found: list[Diagnostic] = []
    for channel in contract.channels.values():
        if channel.validate != "off":
            events = await _waiting(channel, layer)
            found += events.diagnostics(contract, Code.WAITING_REFUSED, "waiting event", _WAITING_HINT)
            letters = await _failed(channel, layer)
            found += letters.diagnostics(contract, Code.DEAD_LETTER_REFUSED, "dead letter", _LETTER_HINT)
    return in_order(found)


async def _waiting(channel: Channel, layer: ChannelLayer) -> "_Refused":
    refused = _Refused(channel)
    async for delivery in layer.peek(channel.name):
        refused.judge(delivery.event, delivery.sent, delivery.problem)
    return refused


async def _failed(channel: Channel, layer: ChannelLayer) -> "_Refused":
    refused = _Refused(channel)
    for letter in await layer.dead_letters(channel.name):
        # Others were refused before, by whatever contract there was.
        if letter.code == "failed" and letter.event is not None:
            refused.judge(letter.event, letter.sent)
    return refused


class _Fault(NamedTuple):
    """Why events are refused: those of one type, or of all that have none that is known."""

    event_type: str
    reason: str
    hint: str = ""


_FURTHER = _Fault("", "further reasons")


@dataclass(slots=True)
class _Group:
    """How many events have the same fault, and when the oldest was sent."""

    count: int = 0
    oldest: float = math.inf


@dataclass(slots=True)
class _Refused:
    """The events that a channel refuses, of which only their faults are kept."""

    channel: Channel
    groups: dict[_Fault, _Group] = field(default_factory=dict)

    def judge(self, event: Event | None, sent: float, problem: str = "") -> None:
        """Take note of an event if it is refused; `problem` says why there is none."""
        rejected = None if event is None else self.channel.judge(event)
        if event is not None and rejected is None:
            return
        fault = _Fault("", problem) if rejected is None else _fault(rejected)
        if fault not in self.groups and len(self.groups) >= _MOST_FAULTS:
            fault = _FURTHER
        group = self.groups.setdefault(fault, _Group())
        group.count += 1
        group.oldest = min(group.oldest, sent)

    def diagnostics(self, contract: Contract, code: Code, noun: str, hint: str) -> Iterator[Diagnostic]:
        """Word the faults, each at the event type that it is about, or at the channel."""
        warns = code == Code.DEAD_LETTER_REFUSED or self.channel.validate == "warn"
        severity = Severity.WARNING if warns else Severity.ERROR
        for fault, group in self.groups.items():
            known = ("events", fault.event_type) if fault.event_type in self.channel.events else ()
            place = contract.document.locate(("channels", self.channel.name, *known), key=True)
            counted = f"{group.count:,} {noun}{'s' if group.count > 1 else ''}"
            whose = f" of {quoted(fault.event_type)}" if fault.event_type else ""
            message = f"{counted}{whose}{_age(group.oldest)} would be refused: {fault.reason}"
            yield Diagnostic(
                place, code, message, fault.hint or hint, severity,
                channel=self.channel.name, event_type=fault.event_type,
            )  # fmt: skip


def _fault(rejected: EventRejected) -> _Fault:
    if rejected.type is None:
        return _Fault("", "the event has no type")
    if rejected.code == "unknown-type":
        # The sender chose the name.
        return _Fault(printable(rejected.type[:60]), "the channel does not declare this type", rejected.hint)
    first, *others = rejected.violations
    return _Fault(rejected.type, f"{first} (and {len(others)} more)" if others else str(first))


def _age(sent: float) -> str:
    """Say how old the oldest is, where it is older than a check takes to look into."""
    secs = int(time.time() - sent)
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if secs >= 2 * size:
            return f", up to {secs // size} {unit} old,"
    return ""
