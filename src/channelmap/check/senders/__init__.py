"""Check the sends in Python files against the contract, without importing or running the files.

Only literal values are checked, because any other value may be right. Sends that cannot be checked are counted.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from channelmap.check.senders.calls import SendCall, helpers, send_calls
from channelmap.check.senders.files import SendersMissing, mentions, python_files
from channelmap.check.senders.literals import KnownValue
from channelmap.check.senders.modules import Tree, TreeModule
from channelmap.check.senders.relaxing import relaxed
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
    """The result of checking sends.

    Attributes:
        findings: sends that the contract does not allow, in the order of their locations.
        judged: locations of the sends that were checked.
        unread: locations of the sends that could not be checked, each with the reason.

    """

    findings: tuple[Diagnostic, ...]
    judged: frozenset[Location]
    unread: tuple[tuple[Location, str], ...]


def check_senders(contract: Contract, paths: Sequence[str | Path]) -> Senders:
    """Find sends in Python code that the contract does not allow.

    A send is a call of `send`, `send_sync`, `send_many` or `send_on_commit` with a channel and an event: directly,
    through `async_to_sync`, or through a function whose body is one such call. Constants may be imported from other
    modules below the paths. Sends to groups and to channels with a `!` are left out, as are those in a block that
    expects a rejection, such as `with pytest.raises(EventRejected)`. An undeclared channel or type is reported only if
    the called object looks like a channel layer, because other objects have a `send` too.

    Args:
        contract: the contract.
        paths: Python files, and directories that are searched for Python files.

    Raises:
        SendersMissing: one of the paths does not exist.

    """
    files = list(python_files(map(Path, paths)))
    tree = Tree(files)
    check = _SenderCheck(contract)
    # Parse only files that may send: parsing is slow, and most files send nothing.
    senders = {path: tree.module(path) for path in files if mentions(path, ("send",))}
    modules = list(senders.values())
    names = {name for module in modules if isinstance(module, TreeModule) for name in helpers(module)}
    modules += [tree.module(path) for path in files if path not in senders and mentions(path, names)]
    for module in modules:
        check.module(module, through_helpers=bool(names))
    return check.result()


class _SenderCheck:
    """Checks the sends of modules, and counts them."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._findings: list[Diagnostic] = []
        self._judged: dict[ast.Call, Location] = {}
        self._unread: dict[ast.Call, tuple[Location, str]] = {}
        #: Calls inside helper functions; the calls of the helpers are checked and counted instead.
        self._judged_through_callers: set[ast.Call] = set()

    def module(self, module: TreeModule | Diagnostic, *, through_helpers: bool) -> None:
        """Check the sends of a module."""
        if isinstance(module, Diagnostic):
            self._findings.append(module)
            return
        for send in send_calls(module, through_helpers=through_helpers):
            self._findings += self._judge(send)
            self._count(send)

    def result(self) -> Senders:
        """Return the findings and counts so far."""
        judged = (location for call, location in self._judged.items() if call not in self._judged_through_callers)
        unread = (each for call, each in self._unread.items() if call not in self._judged_through_callers)
        return Senders(in_order(self._findings), frozenset(judged), tuple(sorted(unread)))

    def _judge(self, send: SendCall) -> Iterator[Diagnostic]:
        # A fault that does not depend on the arguments of a helper is reported in the helper only.
        known = {(each.code, each.message) for each in self._judge(send.helper)} if send.helper else ()
        return (each for each in self._faults(send) if (each.code, each.message) not in known)

    def _faults(self, send: SendCall) -> Iterator[Diagnostic]:
        name, channel = send.channel.value, self._channel(send)
        locate = _Locator(send)
        if send.in_transaction and send.by_layer:
            risk = "a worker may get it before the commit, or after a rollback"
            message, hint = f"an event is sent inside a transaction: {risk}", "use send_on_commit"
            yield Diagnostic(locate(send.call), Code.SENDER_IN_TRANSACTION, message, hint, channel=str(name or ""))
        if channel is not None and channel.validate != "off":
            for event in send.events or ():
                yield from _EventCheck(self._contract, channel, locate).findings(event, by_layer=send.by_layer)
        elif channel is None and isinstance(name, str) and send.by_layer and "!" not in name:
            message = f"no channel {quoted(name)} is declared"
            hint = did_you_mean(name, self._contract.channels)
            yield Diagnostic(locate(send.channel.node), Code.SENDER_UNKNOWN_CHANNEL, message, hint, channel=name)

    def _channel(self, send: SendCall) -> Channel | None:
        name = send.channel.value
        return self._contract.channels.get(name) if isinstance(name, str) else None

    def _count(self, send: SendCall) -> None:
        if send.helper:
            self._judged_through_callers.add(send.helper.call)
        name, channel = send.channel.value, self._channel(send)
        is_ours = send.by_layer if channel is None else channel.validate != "off"
        if not is_ours or (isinstance(name, str) and "!" in name):
            return
        location = send.module.source.location(send.call)
        if reason := _unread(send):
            self._unread[send.call] = (location, reason)
        else:
            self._judged[send.call] = location


def _unread(send: SendCall) -> str:
    """Return the reason why a send cannot be checked, or an empty text."""
    if not isinstance(send.channel.value, str):
        return "the name of the channel is not a literal or constant"
    if send.events is None or not all(isinstance(event.value, dict) for event in send.events):
        return "the event is not a literal or constant"
    if any(event.is_open and "type" not in event.parts for event in send.events):
        return "the type of the event is not a literal or constant"
    types = [event.parts["type"] for event in send.events if "type" in event.parts]
    return "" if all(each.is_known for each in types) else "the type of the event is not a literal or constant"


class _Locator:
    """Returns the location of a part of a send: in the module of the call, never inside a helper."""

    def __init__(self, send: SendCall) -> None:
        self._source = send.module.source
        self._call = send.call
        self._helper = frozenset(map(id, ast.walk(send.helper.call))) if send.helper else frozenset()

    def __call__(self, node: ast.expr) -> Location:
        is_here = id(node) not in self._helper and self._source.contains(node)
        return self._source.location(node if is_here else self._call)


class _EventCheck:
    """Checks the events of one send against its channel."""

    def __init__(self, contract: Contract, channel: Channel, locate: _Locator) -> None:
        self._contract = contract
        self._channel = channel
        self._locate = locate
        self._severity = Severity.WARNING if channel.validate == "warn" else Severity.ERROR

    def findings(self, event: KnownValue, *, by_layer: bool) -> Iterator[Diagnostic]:
        """Return the faults of an event that it has whatever its unknown parts are."""
        if not isinstance(event.value, dict):
            return
        name = event.parts.get("type")
        event_type = self._channel.events.get(name.value) if name and isinstance(name.value, str) else None
        if event_type is not None:
            yield from self._schema_findings(event, event_type)
        elif by_layer:
            yield from self._undeclared_type(event, name)

    def _undeclared_type(self, event: KnownValue, name: KnownValue | None) -> Iterator[Diagnostic]:
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

    def _unknown_type(self, name: KnownValue) -> Diagnostic:
        declared = ", ".join(map(quoted, self._channel.events))
        message = f"channel {quoted(self._channel.name)} does not declare event type {quoted(name.value)}"
        hint = did_you_mean(name.value, self._channel.events) or f"it declares {declared}"
        # The contract does not declare the type; it is named so that a suppression can match it.
        return replace(self._diagnostic(name.node, Code.SENDER_UNKNOWN_TYPE, message, hint), event_type=str(name.value))

    def _schema_findings(self, event: KnownValue, event_type: EventType) -> Iterator[Diagnostic]:
        validator = event_type.validator
        fault = unsupported(event.value, binary=validator is None)
        if fault is not None:
            yield self._invalid_event(event.node, event_type, str(fault))
        elif validator is not None:
            if not event.is_known:
                validator = Validator(_relaxed_schema(validator, event))
            for mismatch in validator.mismatches(event.value, _MAX_MISMATCHES):
                yield self._invalid_event(_node(event, mismatch), event_type, str(mismatch.violation))

    def _invalid_event(self, node: ast.expr, event_type: EventType, fault: str) -> Diagnostic:
        message = f"channel {quoted(self._channel.name)} refuses this {quoted(event_type.name)}: {fault}"
        return self._diagnostic(node, Code.SENDER_EVENT_REFUSED, message, event_type=event_type.name)

    def _diagnostic(self, node: ast.expr, code: Code, message: str, hint: str = "", event_type: str = "") -> Diagnostic:
        channel = self._channel.name
        related = Related(self._declaration(event_type), f"{quoted(event_type or channel)} is declared here")
        return Diagnostic(self._locate(node), code, message, hint, self._severity, (related,), channel, event_type)

    def _declaration(self, event_type: str) -> Location:
        pointer = ("channels", self._channel.name, *(("events", event_type) if event_type else ()))
        return self._contract.document.locate(pointer, key=True)


def _relaxed_schema(validator: Validator, event: KnownValue) -> Schema:
    try:
        return relaxed(bundle(validator), event)
    except CannotBundle:
        return True


def _node(event: KnownValue, mismatch: Mismatch) -> ast.expr:
    """Return the expression at fault: the key of an unexpected property, otherwise the value."""
    part = event
    for step in mismatch.pointer:
        part = part.parts[step]
    unexpected = [part.parts[name].key for name in mismatch.names if name in part.parts]
    return unexpected[0] or part.node if unexpected else part.node
