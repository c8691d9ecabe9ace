"""What Python files send, judged by the contract as far as it is written out in them. Nothing is imported or run.

What is not written out may be anything: there is no complaint about a call that may be right. Such calls are counted.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from channelmap.check.senders.calls import Sending, helpers, sendings
from channelmap.check.senders.demands import demands
from channelmap.check.senders.files import SendersMissing, mentions, python_files
from channelmap.check.senders.literals import Known
from channelmap.check.senders.modules import Tree, TreeModule
from channelmap.codes import Code, Severity
from channelmap.contract import Channel, Contract, EventType
from channelmap.diagnostics import Diagnostic, Location, Related, in_order
from channelmap.errors import did_you_mean, quoted
from channelmap.validation import Mismatch, Schema, Validator, unsupported
from channelmap.validation.structure import CannotBundle, bundle

__all__ = ["Senders", "SendersMissing", "check_senders"]

_MAX_MISMATCHES = 20


@dataclass(frozen=True, slots=True)
class Senders:
    """What became of the sends that were found.

    Attributes:
        findings: what the contract does not allow, in the order of the places.
        judged: the sends that were judged.
        unread: the sends of a channel layer that could not be judged, each with the reason.

    """

    findings: tuple[Diagnostic, ...]
    judged: frozenset[Location]
    unread: tuple[tuple[Location, str], ...]


def check_senders(contract: Contract, paths: Sequence[str | Path]) -> Senders:
    """Find what Python code sends and the contract does not allow.

    Looked at are calls of `send`, `send_sync` and `send_many` with a channel and an event, directly, through
    `async_to_sync`, or through a function whose body is one such call. Constants may be imported from other modules
    below the paths. Channels with a `!` and groups are not the contract's. A channel or a type that is not declared is
    only complained about where a channel layer is called, to all appearance: others have a `send` too. What stands in
    a block that expects a rejection, such as `with pytest.raises(EventRejected)`, is not judged.

    Args:
        contract: what may be sent.
        paths: Python files, and directories, which are searched for them.

    Raises:
        SendersMissing: there is nothing at one of the paths.

    """
    files = list(python_files(map(Path, paths)))
    tree = Tree(files)
    check = _Check(contract)
    # Most files send nothing: parsing them takes long.
    senders = {path: tree.module(path) for path in files if mentions(path, ("send",))}
    modules = list(senders.values())
    names = {name for module in modules if isinstance(module, TreeModule) for name in helpers(module)}
    modules += [tree.module(path) for path in files if path not in senders and mentions(path, names)]
    for module in modules:
        check.module(module, through_helpers=bool(names))
    return check.result()


class _Check:
    """Judges the sends of modules, and keeps the account of them."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._findings: list[Diagnostic] = []
        self._judged: dict[ast.Call, Location] = {}
        self._unread: dict[ast.Call, tuple[Location, str]] = {}
        #: The sends inside helpers whose callers were judged instead.
        self._passed_on: set[ast.Call] = set()

    def module(self, module: TreeModule | Diagnostic, *, through_helpers: bool) -> None:
        """Judge what a module sends."""
        if isinstance(module, Diagnostic):
            self._findings.append(module)
            return
        for sending in sendings(module, through_helpers=through_helpers):
            self._findings += self._judge(sending)
            self._count(sending)

    def result(self) -> Senders:
        """Return what was found."""
        judged = (location for call, location in self._judged.items() if call not in self._passed_on)
        unread = (each for call, each in self._unread.items() if call not in self._passed_on)
        return Senders(in_order(self._findings), frozenset(judged), tuple(sorted(unread)))

    def _judge(self, sending: Sending) -> Iterator[Diagnostic]:
        # What is wrong whatever the arguments of a helper is found in the helper.
        known = {(each.code, each.message) for each in self._judge(sending.helper)} if sending.helper else ()
        return (each for each in self._faults(sending) if (each.code, each.message) not in known)

    def _faults(self, sending: Sending) -> Iterator[Diagnostic]:
        name, channel = sending.channel.value, self._channel(sending)
        place = _Place(sending)
        if channel is not None and channel.validate != "off":
            for event in sending.events or ():
                yield from _Judge(self._contract, channel, place).findings(event, by_layer=sending.by_layer)
        elif channel is None and isinstance(name, str) and sending.by_layer and "!" not in name:
            message = f"no channel {quoted(name)} is declared"
            hint = did_you_mean(name, self._contract.channels)
            yield Diagnostic(place(sending.channel.node), Code.SENDER_UNKNOWN_CHANNEL, message, hint, channel=name)

    def _channel(self, sending: Sending) -> Channel | None:
        name = sending.channel.value
        return self._contract.channels.get(name) if isinstance(name, str) else None

    def _count(self, sending: Sending) -> None:
        if sending.helper:
            self._passed_on.add(sending.helper.call)
        name, channel = sending.channel.value, self._channel(sending)
        is_ours = sending.by_layer if channel is None else channel.validate != "off"
        if not is_ours or (isinstance(name, str) and "!" in name):
            return
        location = sending.module.source.location(sending.call)
        if reason := _unread(sending):
            self._unread[sending.call] = (location, reason)
        else:
            self._judged[sending.call] = location


def _unread(sending: Sending) -> str:
    """Say why a send cannot be judged; empty where it can."""
    if not isinstance(sending.channel.value, str):
        return "the name of the channel is not written out"
    if sending.events is None or not all(isinstance(event.value, dict) for event in sending.events):
        return "the event is not written out"
    if any(event.is_open and "type" not in event.parts for event in sending.events):
        return "the type of the event is not written out"
    types = [event.parts["type"] for event in sending.events if "type" in event.parts]
    return "" if all(each.is_known for each in types) else "the type of the event is not written out"


class _Place:
    """Tells the location of what a send sends: in the module that is looked at, never inside a helper."""

    def __init__(self, sending: Sending) -> None:
        self._source = sending.module.source
        self._call = sending.call
        self._helper = frozenset(map(id, ast.walk(sending.helper.call))) if sending.helper else frozenset()

    def __call__(self, node: ast.expr) -> Location:
        is_here = id(node) not in self._helper and self._source.contains(node)
        return self._source.location(node if is_here else self._call)


class _Judge:
    """Judges what a module sends to one channel."""

    def __init__(self, contract: Contract, channel: Channel, place: _Place) -> None:
        self._contract = contract
        self._channel = channel
        self._place = place
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
            yield self._missing_type(name.node, "whose type is not text")

    def _missing_type(self, node: ast.expr, fault: str) -> Diagnostic:
        declared = ", ".join(map(quoted, self._channel.events))
        message = f"an event {fault} is sent to {quoted(self._channel.name)}"
        return self._diagnostic(node, Code.SENDER_MISSING_TYPE, message, f"it declares {declared}")

    def _unknown_type(self, name: Known) -> Diagnostic:
        declared = ", ".join(map(quoted, self._channel.events))
        message = f"channel {quoted(self._channel.name)} does not declare event type {quoted(name.value)}"
        hint = did_you_mean(name.value, self._channel.events) or f"it declares {declared}"
        # It has no place in the contract, and can be suppressed all the same.
        return replace(self._diagnostic(name.node, Code.SENDER_UNKNOWN_TYPE, message, hint), event_type=str(name.value))

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
        return self._diagnostic(node, Code.SENDER_EVENT_REFUSED, message, event_type=event_type.name)

    def _diagnostic(self, node: ast.expr, code: Code, message: str, hint: str = "", event_type: str = "") -> Diagnostic:
        channel = self._channel.name
        related = Related(self._declaration(event_type), f"{quoted(event_type or channel)} is declared here")
        return Diagnostic(self._place(node), code, message, hint, self._severity, (related,), channel, event_type)

    def _declaration(self, event_type: str) -> Location:
        pointer = ("channels", self._channel.name, *(("events", event_type) if event_type else ()))
        return self._contract.document.locate(pointer, key=True)


def _demanded(validator: Validator, event: Known) -> Schema:
    try:
        return demands(bundle(validator), event)
    except CannotBundle:
        return True


def _node(event: Known, mismatch: Mismatch) -> ast.expr:
    """Return where in an event a mismatch is: at a key that should not be there, else at the value."""
    part = event
    for step in mismatch.pointer:
        part = part.parts[step]
    unexpected = [part.parts[name].key for name in mismatch.names if name in part.parts]
    return unexpected[0] or part.node if unexpected else part.node
