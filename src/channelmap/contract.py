"""The model: which events may be sent to which channel, and which consumer takes them. Frozen values, read from a file.

`Channel.judge` stands on the path of every event, so it decides first and explains only when it refuses.
Reads no file, imports no user code, knows no transport.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

from channelmap.asgi import Event
from channelmap.diagnostics import Location
from channelmap.errors import EventRejected, UnknownChannel, Violation, did_you_mean
from channelmap.limits import Limits, Service
from channelmap.pointers import Pointer
from channelmap.source import Document
from channelmap.validation import Schema, Validator, is_engine_failure, is_plain, plain_copy, unsupported

Validate = Literal["enforce", "warn", "off"]
T = TypeVar("T")


def contract_argument(function: str, contract: T, config: T) -> T:
    """Return the contract argument of a public function, which may be passed by its former name `config`.

    Raises:
        TypeError: both are given.

    """
    if contract is not None and config is not None:
        raise TypeError(f"{function}() got both 'contract' and 'config', its former name; pass 'contract' only")
    return config if contract is None else contract


@dataclass(frozen=True, slots=True)
class Example:
    """An event that the file shows, and where: one that is to be accepted, or one that is to be rejected."""

    event: Any
    location: Location


@dataclass(frozen=True, slots=True)
class Written:
    """Where something of a contract was written: a file, and the way to it in the file."""

    document: Document
    pointer: Pointer = ()

    def locate(self, pointer: Pointer = (), *, key: bool = False) -> Location:
        """Return the place of a value below, or of its key."""
        return self.document.locate((*self.pointer, *pointer), key=key)


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event on one channel.

    Attributes:
        name: what the event's `type` says.
        schema: the JSON Schema of the whole event as it was written; `True` where there is none.
        validator: judges by it; `None` where there is no schema: then an event of this type may hold anything that
            JSON has, and bytes.
        description: for people.
        accepts: events that the schema must accept.
        rejects: events that it must reject.
        written: where the schema was written; `None` where there is none.

    """

    name: str
    schema: Schema = True
    validator: Validator | None = field(default=None, repr=False, compare=False)
    description: str = ""
    accepts: tuple[Example, ...] = ()
    rejects: tuple[Example, ...] = ()
    written: Written | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: its consumer, and what its events look like.

    Attributes:
        name: as in the file and on the layer.
        consumer: dotted path of the consumer class or ASGI application; never imported here.
        events: the declared event types by name.
        description: for people.
        owner: the person or team that is responsible for it.
        validate: what happens to a bad event: it is rejected, it is only logged, or events are not judged.
        limits: how much of it a layer keeps.
        service: how a worker serves it.

    """

    name: str
    consumer: str
    events: Mapping[str, EventType]
    description: str = ""
    owner: str = ""
    validate: Validate = "enforce"
    limits: Limits = field(default_factory=Limits)
    service: Service = field(default_factory=Service)

    def judge(self, event: Any) -> EventRejected | None:
        """Say whether an event may travel on this channel: `None` when it may, else why not. Never raises."""
        return self.admit(event)[1]

    def admit(self, event: Event) -> tuple[Event, EventRejected | None]:
        """Judge an event, and return what is to travel: the event itself, or a copy of plain values. Never raises.

        A copy is made only where a value or key is of a subclass, such as a member of `TextChoices`. What travels
        is then exactly what was judged, whatever a layer makes of subclasses.
        """
        if type(event) is dict:
            try:
                event_type = self.events[event["type"]]
            except Exception:  # noqa: BLE001  (of a subclass of str, the hash may raise anything)
                return self._admit_copy(event)
            validator = event_type.validator
            # A name of a subclass of str finds its type too, and is found here.
            if is_plain(event) or unsupported(event, binary=validator is None) is None:
                if validator is None:
                    return event, None
                try:
                    if validator.accepts(event):
                        return event, None
                except BaseException as error:
                    if not is_engine_failure(error):
                        raise
                return event, self._mismatch(event, validator)
        return self._admit_copy(event)

    def _mismatch(self, event: Event, validator: Validator) -> EventRejected:
        find_violations = validator.reasons(event)
        return EventRejected.with_reasons_on_demand(
            self.name, event["type"], "schema-mismatch", lambda: (find_violations(), "")
        )

    def _admit_copy(self, event: Event) -> tuple[Event, EventRejected | None]:
        """Judge a copy of plain values, if the event has a declared type and one can be made."""
        name: Any = dict.get(event, "type") if issubclass(type(event), dict) else None
        if not issubclass(type(name), str):
            return event, EventRejected(self.name, None, "missing-type")
        name = str.__str__(name)
        event_type = self.events.get(name)
        if event_type is None:
            return event, EventRejected.with_reasons_on_demand(
                self.name, name, "unknown-type", lambda: ((), did_you_mean(name, self.events))
            )
        copy = plain_copy(event, binary=event_type.validator is None)
        if isinstance(copy, Violation):
            return event, EventRejected(self.name, name, "unsupported-value", [copy])
        return self.admit(copy)


@dataclass(frozen=True, slots=True)
class LayerSetting:
    """Where events travel: a URL with options, or any Channels layer by dotted path; the other pair is empty.

    Attributes:
        url: such as ``sqlite:////srv/app/channels.db``; paths are absolute.
        options: what else the layer takes.
        backend: dotted path of a Channels layer class.
        config: its keyword arguments, as in Django's `CHANNEL_LAYERS`.
        from_environment: whether a variable stands in any of these; then no message of another library about
            them is shown, which may quote its value.

    """

    url: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    backend: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    from_environment: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True)
class Suppression:
    """A finding that the file declares to be intended, and why.

    Attributes:
        code: of the finding.
        reason: why the finding is intended.
        channel: only where the finding is about this channel; empty for all.
        event_type: only where it is about this event type; empty for all.
        until: the last day on which it counts; `None` forever.
        location: where it stands.

    """

    code: str
    reason: str
    channel: str = ""
    event_type: str = ""
    until: date | None = None
    location: Location = field(default_factory=lambda: Location(""), compare=False)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a file promises: its channels, and the layer between their senders and consumers.

    Attributes:
        path: the file, as messages call it.
        layer: where events travel.
        channels: by name, in the order of the file.
        document: the file itself, to find the place of anything in it.
        root: the directory of the file: what it names is below.
        files: the schemas and files of examples that were read for it, resolved.
        suppressions: findings that the contract declares as intended.
        warn: codes of findings that only warn here.

    """

    path: str
    layer: LayerSetting
    channels: Mapping[str, Channel]
    document: Document = field(repr=False, compare=False)
    root: Path = field(default_factory=Path, repr=False, compare=False)
    files: frozenset[Path] = field(default=frozenset(), repr=False, compare=False)
    suppressions: tuple[Suppression, ...] = field(default=(), repr=False, compare=False)
    warn: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def channel(self, name: str) -> Channel:
        """Return the channel of that name; UnknownChannel, with the names there are, when there is none."""
        try:
            return self.channels[name]
        except KeyError:
            raise UnknownChannel(name, self.channels) from None

    def chosen(self, names: Iterable[str]) -> list[Channel]:
        """Return the channels of these names, or all when none is named; UnknownChannel as for `channel`."""
        return [self.channel(name) for name in names] or [*self.channels.values()]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that differ between contracts with different channels, schemas or consumers."""
        channels = {
            channel.name: [
                channel.consumer, channel.validate, repr(channel.limits), repr(channel.service),
                {event_type.name: event_type.schema for event_type in channel.events.values()},
            ]
            for channel in self.channels.values()
        }  # fmt: skip
        return hashlib.sha256(json.dumps(channels, sort_keys=True, default=repr).encode()).hexdigest()[:16]

    @property
    def limits(self) -> dict[str, Limits]:
        """How much of each channel a layer keeps, by channel name."""
        return {name: channel.limits for name, channel in self.channels.items()}
