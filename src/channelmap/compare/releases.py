"""What one version of a contract lets through, as plain values: what two versions are compared by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from channelmap.compare.normal import digest, normal, opaque
from channelmap.contract import Contract, EventType, Validate
from channelmap.environment import shown
from channelmap.validation import Schema
from channelmap.validation.structure import Entangled, documents, standalone


@dataclass(frozen=True)
class ReleasedType:
    """One event type of a release.

    Attributes:
        schema: the schema of the whole event in the form of `normal`; `True` where there is none.
        accepts: events that it was shown to accept.

    """

    schema: Schema = True
    accepts: tuple[Any, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Equal for schemas that say the same."""
        return digest(self.schema)


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
    """A version of a contract that somebody runs, or is about to.

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
    try:
        schema = normal(standalone(event_type.validator))
    except Entangled:
        schema = opaque(documents(event_type.validator))
    return ReleasedType(schema, accepts)
