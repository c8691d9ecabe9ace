"""The channels and schemas of one version of a contract, as plain values that can be compared and stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from channelmap.check.compare.normal_form import digest, normalize, opaque_reference
from channelmap.contract import Contract, EventType, Validate
from channelmap.environment import shown
from channelmap.validation import Schema, Validator
from channelmap.validation.structure import CannotBundle, bundle, reachable_documents


@dataclass(frozen=True, eq=False)
class ReleasedType:
    """One event type of a release.

    Attributes:
        schema_or_factory: the schema of the whole event in normal form, or a function that returns it.
        accepts: examples of events that it accepts.
        validator: validates the events, if the contract itself was read.

    """

    schema_or_factory: Schema | Callable[[], Schema] = True
    accepts: tuple[Any, ...] = ()
    validator: Validator | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReleasedType) and self.accepts == other.accepts and self.is_equivalent(other)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def schema(self) -> Schema:
        """The schema in normal form; `True` if there is none."""
        return self.schema_or_factory() if callable(self.schema_or_factory) else self.schema_or_factory

    @cached_property
    def digest(self) -> str:
        """The digest of the schema in normal form."""
        return digest(self.schema)

    @cached_property
    def written(self) -> Mapping[str, Any] | None:
        """The schema and those that it refers to, as written, by URI; `None` if the contract itself was not read."""
        return None if self.validator is None else reachable_documents(self.validator)

    def is_equivalent(self, other: "ReleasedType") -> bool:
        """Whether both schemas have the same normal form; equal texts are not normalized to find out."""
        if self.validator is not None and self.validator is other.validator:
            return True
        return (self.written is not None and self.written == other.written) or self.digest == other.digest


@dataclass(frozen=True, slots=True)
class ReleasedChannel:
    """One channel of a release.

    Attributes:
        validate: what happens to an invalid event.
        expiry: seconds after which a waiting event is dropped; `None` for never.
        events: the event types by name.

    """

    validate: Validate = "enforce"
    expiry: float | None = None
    events: Mapping[str, ReleasedType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a contract that is or will be deployed.

    Attributes:
        name: its name in messages, such as a tag or a path.
        channels: by name.

    """

    name: str
    channels: Mapping[str, ReleasedChannel] = field(default_factory=dict)


def release_of(contract: Contract, name: str) -> Release:
    """Return a contract as a release; environment variables in names of channels are not replaced."""
    return Release(
        name,
        {
            shown(channel.name): ReleasedChannel(
                channel.validate,
                channel.limits.expiry,
                {event_type.name: _released(event_type) for event_type in channel.events.values()},
            )
            for channel in contract.channels.values()
        },
    )


def _released(event_type: EventType) -> ReleasedType:
    accepts = tuple(example.event for example in event_type.accepts)
    if event_type.validator is None:
        return ReleasedType(True, accepts)  # noqa: FBT003  (a schema)
    return ReleasedType(partial(_schema_of, event_type.validator), accepts, event_type.validator)


def _schema_of(validator: Validator) -> Schema:
    try:
        return normalize(bundle(validator))
    except CannotBundle:
        return opaque_reference(reachable_documents(validator))
