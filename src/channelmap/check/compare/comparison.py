"""Compare two releases: which channels and event types were added, removed or changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from channelmap.check.compare.order import Breaks, DeployOrder, combined_order, order_of
from channelmap.check.compare.releases import Release, ReleasedChannel
from channelmap.check.compare.verdicts import Compatibility, compare_event_type


@dataclass(frozen=True, slots=True)
class TypeComparison:
    """An event type that both releases have.

    Attributes:
        channel: the channel's name.
        event_type: its name.
        senders: whether the new release accepts events of the old one: from running senders, and queued ones.
        consumers: whether the old release, whose consumers still run, accepts events of the new one.

    """

    channel: str
    event_type: str
    senders: Compatibility
    consumers: Compatibility


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two releases.

    Attributes:
        old: the running release.
        new: the release that is to replace it.
        types: the event types of both, in the order of the new release.
        strict: whether all events that the schemas accept were compared, not only those that they describe.

    """

    old: Release
    new: Release
    types: tuple[TypeComparison, ...]
    strict: bool = False

    @property
    def removed_channels(self) -> tuple[str, ...]:
        """Channels that only the old release has."""
        return _only_in(self.old.channels, self.new.channels)

    @property
    def added_channels(self) -> tuple[str, ...]:
        """Channels that only the new release has."""
        return _only_in(self.new.channels, self.old.channels)

    @property
    def removed_types(self) -> tuple[tuple[str, str], ...]:
        """Channel and name of the event types that only the old release has, of channels that both have."""
        return _types_only_in(self.old, self.new)

    @property
    def added_types(self) -> tuple[tuple[str, str], ...]:
        """Channel and name of the event types that only the new release has, of channels that both have."""
        return _types_only_in(self.new, self.old)

    @property
    def newly_enforced(self) -> tuple[str, ...]:
        """Channels that only validated with a warning, or not at all, and now reject."""
        both = ((name, self.old.channels.get(name), channel) for name, channel in self.new.channels.items())
        return tuple(name for name, old, new in both if old and old.validate != "enforce" == new.validate)

    @property
    def orders(self) -> dict[str, DeployOrder]:
        """The order of deployment for each channel where it matters."""
        breaks: dict[str, Breaks] = {}
        for channel in self.added_channels:
            breaks[channel] = Breaks(consumers=True)
        for channel in (*self.removed_channels, *self.newly_enforced, *(name for name, _ in self.removed_types)):
            breaks[channel] = Breaks(senders=True)
        for channel, _ in self.added_types:
            breaks[channel] = breaks.get(channel, Breaks()) | Breaks(consumers=True)
        for found in self.types:
            own = Breaks(senders=not found.senders.is_safe, consumers=not found.consumers.is_safe)
            breaks[found.channel] = breaks.get(found.channel, Breaks()) | own
        return {
            name: order_of(each, self._expiry(name)) for name, each in breaks.items() if each.senders or each.consumers
        }

    @property
    def order(self) -> DeployOrder:
        """The order of deployment for the whole release."""
        return combined_order(self.orders.values())

    def _expiry(self, channel: str) -> float | None:
        """Return how long an event of either release may wait on a channel."""
        there = [release.channels[channel].expiry for release in (self.old, self.new) if channel in release.channels]
        return None if None in there else max(each for each in there if each is not None)


def compare(old: Release, new: Release, *, strict: bool = False) -> Comparison:
    """Compare every event type that both releases have, in both directions.

    Args:
        old: the running release.
        new: the release that is to replace it.
        strict: compare all events that the schemas accept. Otherwise only the described ones are compared: then a new
            optional property does not break anything, although an open object accepted any value of it before.

    """
    types = [
        TypeComparison(
            channel,
            name,
            compare_event_type(name, before, after, strict=strict),
            compare_event_type(name, after, before, strict=strict),
        )
        for channel, declared in new.channels.items()
        for name, after in declared.events.items()
        if (before := old.channels.get(channel, _NO_CHANNEL).events.get(name)) is not None
    ]
    return Comparison(old, new, tuple(types), strict)


_NO_CHANNEL = ReleasedChannel()


def _only_in(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in one if name not in other)


def _types_only_in(one: Release, other: Release) -> tuple[tuple[str, str], ...]:
    return tuple(
        (channel, name)
        for channel, declared in one.channels.items()
        if channel in other.channels
        for name in _only_in(declared.events, other.channels[channel].events)
    )
