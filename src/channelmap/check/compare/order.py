"""In which order senders and consumers of a new release are to be deployed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Order = Literal["any", "consumers-first", "senders-first", "not-in-one-step"]


@dataclass(frozen=True, slots=True)
class Hurdles:
    """Who cannot go on as before: new consumers refuse old events, or old consumers refuse new ones.

    What nobody knows is a hurdle too.
    """

    senders: bool = False
    consumers: bool = False

    def __or__(self, other: "Hurdles") -> "Hurdles":
        return Hurdles(self.senders or other.senders, self.consumers or other.consumers)


@dataclass(frozen=True, slots=True)
class DeployOrder:
    """The order of deployment.

    Attributes:
        order: which.
        hurdles: why.
        drain: seconds after which no old event waits any more; `None` for never.

    """

    order: Order
    hurdles: Hurdles
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


def together(orders: Iterable[DeployOrder]) -> DeployOrder:
    """Choose the order that suits several channels, or several releases."""
    several = list(orders)
    hurdles = Hurdles()
    for each in several:
        hurdles |= each.hurdles
    drained = [each.drain for each in several if each.hurdles.senders]
    return order_of(hurdles, None if None in drained else max((each for each in drained if each), default=0))


def order_of(hurdles: Hurdles, drain: float | None) -> DeployOrder:
    """Choose the order that clears the hurdles.

    Args:
        hurdles: who cannot go on as before.
        drain: seconds that an old event may wait; `None` forever.

    """
    orders: dict[tuple[bool, bool], Order] = {
        (False, False): "any",
        (False, True): "consumers-first",
        (True, False): "senders-first",
        (True, True): "not-in-one-step",
    }
    return DeployOrder(orders[hurdles.senders, hurdles.consumers], hurdles, drain)
