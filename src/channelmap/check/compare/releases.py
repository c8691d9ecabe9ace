"""The channels and schemas of one version of a contract, as plain values that can be compared and stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from channelmap.check.compare.normal import digest, normal, opaque
from channelmap.contract import Contract, EventType, Validate
from channelmap.environment import shown
from channelmap.validation import Schema, Validator
from channelmap.validation.structure import CannotBundle, bundle, reachable_documents


@dataclass(frozen=True, eq=False)
class ReleasedType:
    """One event type of a release.

    Attributes:
        made: the schema of the whole event in the form of `normal`, or what brings it into that form.
        accepts: events that it was shown to accept.
        validator: what judges the events, where the contract itself was read.

    """

    made: Schema | Callable[[], Schema] = True
    accepts: tuple[Any, ...] = ()
    validator: Validator | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReleasedType) and self.accepts == other.accepts and self.says_the_same(other)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def schema(self) -> Schema:
        """The schema in the form of `normal`; `True` where there is none."""
        return self.made() if callable(self.made) else self.made

    @cached_property
    def digest(self) -> str:
        """Equal for schemas that say the same."""
        return digest(self.schema)

    @cached_property
    def written(self) -> Mapping[str, Any] | None:
        """The schema as it was written and all that it refers to, by their URIs, where the contract itself was read."""
        return None if self.validator is None else reachable_documents(self.validator)

    def says_the_same(self, other: "ReleasedType") -> bool:
        """Whether both schemas say the same; nothing is rewritten to find that out of two that are written alike."""
        if self.validator is not None and self.validator is other.validator:
            return True
        return (self.written is not None and self.written == other.written) or self.digest == other.digest


@dataclass(frozen=True, slots=True)
class ReleasedChannel:
    """One channel of a release.

    Attributes:
        validate: what a bad verdict means.
        expiry: seconds after which an event that still waits is dropped; `None` for never.
        events: the event types by name.

    """

    validate: Validate = "enforce"
    expiry: float | None = None
    events: Mapping[str, ReleasedType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a contract that is deployed, or is to be.

    Attributes:
        name: what messages call it: a tag, a path.
        channels: by name.

    """

    name: str
    channels: Mapping[str, ReleasedChannel] = field(default_factory=dict)


def release_of(contract: Contract, name: str) -> Release:
    """Take a contract for the release of that name; its channels are called as they were written."""
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
        return normal(bundle(validator))
    except CannotBundle:
        return opaque(reachable_documents(validator))
