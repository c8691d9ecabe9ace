"""The order in which to deploy senders and consumers of a new release."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Order = Literal["any", "consumers-first", "senders-first", "not-in-one-step"]


@dataclass(frozen=True, slots=True)
class Breaks:
    """Whether a release breaks the senders or consumers of the previous one, or may break them.

    Attributes:
        senders: new consumers reject old events.
        consumers: old consumers reject new events.

    """

    senders: bool = False
    consumers: bool = False

    def __or__(self, other: "Breaks") -> "Breaks":
        return Breaks(self.senders or other.senders, self.consumers or other.consumers)


@dataclass(frozen=True, slots=True)
class DeployOrder:
    """The order of deployment.

    Attributes:
        order: the order.
        breaks: the reason for it.
        drain: seconds after which no event of the old release waits; `None` if events do not expire.

    """

    order: Order
    breaks: Breaks
    drain: float | None

    def __str__(self) -> str:
        match self.order:
            case "any":
                return "senders and consumers may be deployed in any order"
            case "consumers-first":
                return "deploy consumers first, then senders"
            case "senders-first":
                return f"deploy senders first, {self._wait}, then deploy consumers"
        return "not deployable in one step: add the new shape beside the old one, or a new event type"

    @property
    def _wait(self) -> str:
        if self.drain is None:
            return "wait until nothing old is queued (events wait forever here)"
        return f"wait until nothing old is queued (at most {self.drain:g} s)"


def combined_order(orders: Iterable[DeployOrder]) -> DeployOrder:
    """Choose the order that suits several channels, or several releases."""
    several = list(orders)
    breaks = Breaks()
    for each in several:
        breaks |= each.breaks
    drained = [each.drain for each in several if each.breaks.senders]
    return order_of(breaks, None if None in drained else max((each for each in drained if each), default=0))


def order_of(breaks: Breaks, drain: float | None) -> DeployOrder:
    """Choose the order in which nothing breaks.

    Args:
        breaks: what the release would break.
        drain: seconds that an old event may wait; `None` if events do not expire.

    """
    orders: dict[tuple[bool, bool], Order] = {
        (False, False): "any",
        (False, True): "consumers-first",
        (True, False): "senders-first",
        (True, True): "not-in-one-step",
    }
    return DeployOrder(orders[breaks.senders, breaks.consumers], breaks, drain)
