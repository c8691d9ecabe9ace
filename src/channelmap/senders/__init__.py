"""What Python files send, judged by the contract as far as it is written out in them. Nothing is imported or run.

What is not written out may be anything: there is no complaint about a call that may be right.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from channelmap.contract import Channel, Contract, EventType
from channelmap.diagnostics import Code, Diagnostic, Location, Related, Severity, in_order
from channelmap.errors import did_you_mean, quoted
from channelmap.senders.calls import Sending, sendings
from channelmap.senders.demands import demands
from channelmap.senders.files import Module, SendersMissing, python_files, read_module
from channelmap.senders.literals import Known
from channelmap.validation import Mismatch, Schema, Validator, unsupported
from channelmap.validation.structure import Entangled, standalone

__all__ = ["SendersMissing", "check_senders"]

_MAX_MISMATCHES = 20


def check_senders(contract: Contract, paths: Sequence[str | Path]) -> tuple[Diagnostic, ...]:
    """Find what Python code sends and the contract does not allow.

    Looked at are calls of `send`, `send_sync` and `send_many` with a channel and an event, directly or through
    `async_to_sync`. Channels with a `!` and groups are not the contract's. A channel or a type that is not declared is
    only complained about where a channel layer is called, to all appearance: others have a `send` too.

    Args:
        contract: what may be sent.
        paths: Python files, and directories, which are searched for them.

    Raises:
        SendersMissing: there is nothing at one of the paths.

    """
    found: list[Diagnostic] = []
    for path in python_files(map(Path, paths)):
        module = read_module(path)
        if isinstance(module, Diagnostic):
            found.append(module)
        else:
            found += [finding for sending in sendings(module.tree) for finding in _judged(contract, module, sending)]
    return in_order(found)


def _judged(contract: Contract, module: Module, sending: Sending) -> Iterator[Diagnostic]:
    name = sending.channel.value
    channel = contract.channels.get(name)
    if channel is not None and channel.validate != "off":
        for event in sending.events:
            yield from _Judge(contract, channel, module).findings(event, by_layer=sending.by_layer)
    elif channel is None and sending.by_layer and "!" not in name:
        place = module.place(sending.channel.node)
        message = f"no channel {quoted(name)} is declared"
        yield Diagnostic(place, "sender-unknown-channel", message, did_you_mean(name, contract.channels), channel=name)


class _Judge:
    """Judges what a module sends to one channel."""

    def __init__(self, contract: Contract, channel: Channel, module: Module) -> None:
        self._contract = contract
        self._channel = channel
        self._module = module
        # What the channel only warns of when it is sent is no more than that here.
        self._severity = Severity.WARNING if channel.validate == "warn" else Severity.ERROR

    def findings(self, event: Known, *, by_layer: bool) -> Iterator[Diagnostic]:
        """Say what is wrong with an event, whatever is not known of it."""
        if not isinstance(event.value, dict):
            return
        name = event.parts.get("type")
        event_type = self._channel.events.get(name.value) if name and isinstance(name.value, str) else None
        if event_type is not None:
            yield from self._refused(event, event_type)
        elif by_layer:
            yield from self._untyped(event, name)

    def _untyped(self, event: Known, name: Known | None) -> Iterator[Diagnostic]:
        if name is None:
            if not event.is_open:
                yield self._missing_type(event.node, "without a type")
        elif isinstance(name.value, str):
            yield self._unknown_type(name)
        elif name.is_known:
            yield self._missing_type(name.node, "whose type is no text")

    def _missing_type(self, node: ast.expr, fault: str) -> Diagnostic:
        declared = ", ".join(map(quoted, self._channel.events))
        message = f"an event {fault} is sent to {quoted(self._channel.name)}"
        return self._diagnostic(node, "sender-missing-type", message, f"it declares {declared}")

    def _unknown_type(self, name: Known) -> Diagnostic:
        declared = ", ".join(map(quoted, self._channel.events))
        message = f"channel {quoted(self._channel.name)} does not declare event type {quoted(name.value)}"
        hint = did_you_mean(name.value, self._channel.events) or f"it declares {declared}"
        # It has no place in the contract, and can be exempted all the same.
        return replace(self._diagnostic(name.node, "sender-unknown-type", message, hint), event_type=str(name.value))

    def _refused(self, event: Known, event_type: EventType) -> Iterator[Diagnostic]:
        validator = event_type.validator
        fault = unsupported(event.value, binary=validator is None)
        if fault is not None:
            yield self._refusal(event.node, event_type, str(fault))
        elif validator is not None:
            if not event.is_known:
                validator = Validator(_demanded(validator, event))
            for mismatch in validator.mismatches(event.value, _MAX_MISMATCHES):
                yield self._refusal(_node(event, mismatch), event_type, str(mismatch.violation))

    def _refusal(self, node: ast.expr, event_type: EventType, fault: str) -> Diagnostic:
        message = f"channel {quoted(self._channel.name)} refuses this {quoted(event_type.name)}: {fault}"
        return self._diagnostic(node, "sender-event-refused", message, event_type=event_type.name)

    def _diagnostic(self, node: ast.expr, code: Code, message: str, hint: str = "", event_type: str = "") -> Diagnostic:
        channel = self._channel.name
        related = Related(self._declaration(event_type), f"{quoted(event_type or channel)} is declared here")
        place = self._module.place(node)
        return Diagnostic(place, code, message, hint, self._severity, (related,), channel, event_type)

    def _declaration(self, event_type: str) -> Location:
        pointer = ("channels", self._channel.name, *(("events", event_type) if event_type else ()))
        return self._contract.document.locate(pointer, key=True)


def _demanded(validator: Validator, event: Known) -> Schema:
    try:
        return demands(standalone(validator), event)
    except Entangled:
        return True


def _node(event: Known, mismatch: Mismatch) -> ast.expr:
    """Return where in an event a mismatch is: at a key that should not be there, else at the value."""
    part = event
    for step in mismatch.pointer:
        part = part.parts[step]
    unexpected = [part.parts[name].key for name in mismatch.names if name in part.parts]
    return unexpected[0] or part.node if unexpected else part.node
