"""The contract as frozen values: its channels, their event types with schemas, and the consumer of each channel.

`Channel.judge` runs for every event, so it decides first and finds reasons only for a rejected event.
This module reads no file, imports no user code and knows no transport.
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
    """An example of an event, given under `accepts` or `rejects`, and its location."""

    event: Any
    location: Location


@dataclass(frozen=True, slots=True)
class Written:
    """The origin of a part of a contract: a document, and a pointer into it."""

    document: Document
    pointer: Pointer = ()

    def locate(self, pointer: Pointer = (), *, key: bool = False) -> Location:
        """Return the location of the value at `pointer` below this one, or of its key."""
        return self.document.locate((*self.pointer, *pointer), key=key)


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event on one channel.

    Attributes:
        name: the value of the event's `type`.
        schema: the JSON Schema of the whole event as it was written; `True` if there is none.
        validator: validates events by the schema; `None` if there is none: then an event of this type may hold any
            value of JSON, and bytes.
        description: for people.
        accepts: events that the schema must accept.
        rejects: events that it must reject.
        written: where the schema was written; `None` if there is none.
        task: the dotted path of the task that a `channelmap.django.TaskConsumer` runs; empty if it is the name.

    """

    name: str
    schema: Schema = True
    validator: Validator | None = field(default=None, repr=False, compare=False)
    description: str = ""
    accepts: tuple[Example, ...] = ()
    rejects: tuple[Example, ...] = ()
    task: str = ""
    written: Written | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: its consumer, and the types of its events.

    Attributes:
        name: its name in the file and on the layer.
        consumer: dotted path of the consumer class or ASGI application; never imported here.
        events: the declared event types by name.
        description: for people.
        owner: the person or team that is responsible for it.
        validate: `enforce` rejects an invalid event, `warn` only logs it, and `off` checks no event.
        limits: how many events and dead letters a layer keeps, and for how long.
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
        """Return why an event is invalid on this channel, or `None` if it is valid. Never raises."""
        return self.admit(event)[1]

    def admit(self, event: Event) -> tuple[Event, EventRejected | None]:
        """Validate an event; return the event to send and, if it is invalid, the reason. Never raises.

        The event to send is a copy of plain values if a value or key is of a subclass, such as a member of
        `TextChoices`; otherwise it is the event itself. So the event on the layer is exactly the validated one.
        """
        if type(event) is dict:
            try:
                event_type = self.events[event["type"]]
            except Exception:  # noqa: BLE001  (of a subclass of str, the hash may raise anything)
                return self._admit_copy(event)
            validator = event_type.validator
            # A `type` of a subclass of str also finds its event type; `is_plain` detects it.
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
        """Validate a copy of plain values, if the event has a declared type and can be copied."""
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
    """The layer of a contract: a URL with options, or a Channels layer with its arguments; the other pair is empty.

    Attributes:
        url: such as ``sqlite:////srv/app/channels.db``; paths are absolute.
        options: further arguments of the layer.
        backend: dotted path of a Channels layer class.
        config: its keyword arguments, as in Django's `CHANNEL_LAYERS`.
        from_environment: whether an environment variable is part of any of these. Messages of other libraries
            about them are then not shown: they may quote its value.
        is_default: whether the contract names no layer, so that a framework may choose one.

    """

    url: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    backend: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    from_environment: bool = field(default=False, repr=False)
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Suppression:
    """An entry under `check: ignore:`: findings that the file declares as intended.

    Attributes:
        code: the code of the findings.
        reason: why they are intended.
        channel: suppress only findings about this channel; empty for all channels.
        event_type: suppress only findings about this event type; empty for all event types.
        until: the last day of the suppression; `None` if it does not end.
        location: the location of the entry.

    """

    code: str
    reason: str
    channel: str = ""
    event_type: str = ""
    until: date | None = None
    location: Location = field(default_factory=lambda: Location(""), compare=False)


@dataclass(frozen=True, slots=True)
class Contract:
    """A loaded contract: its channels, and the layer between their senders and consumers.

    Attributes:
        path: the file, as messages name it.
        layer: the layer of all channels.
        channels: by name, in the order of the file.
        document: the parsed file, for the locations of its parts.
        root: the directory of the file; every file that it names is below.
        files: resolved paths of the schemas and files of examples that were read.
        suppressions: findings that the contract declares as intended.
        warn: codes of findings whose errors become warnings.
        tracing: whether senders and workers record spans, and events carry their trace context.

    """

    path: str
    layer: LayerSetting
    channels: Mapping[str, Channel]
    document: Document = field(repr=False, compare=False)
    root: Path = field(default_factory=Path, repr=False, compare=False)
    files: frozenset[Path] = field(default=frozenset(), repr=False, compare=False)
    suppressions: tuple[Suppression, ...] = field(default=(), repr=False, compare=False)
    warn: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    tracing: bool = False

    def channel(self, name: str) -> Channel:
        """Return the channel with this name.

        Raises:
            UnknownChannel: the contract does not declare it; the error lists the declared names.

        """
        try:
            return self.channels[name]
        except KeyError:
            raise UnknownChannel(name, self.channels) from None

    def chosen(self, names: Iterable[str]) -> list[Channel]:
        """Return the channels with these names, or all channels if no name is given.

        Raises:
            UnknownChannel: the contract does not declare one of them.

        """
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
        """The limits of each channel, by channel name."""
        return {name: channel.limits for name, channel in self.channels.items()}
