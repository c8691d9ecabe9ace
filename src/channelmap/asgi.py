"""Types of ASGI: an application is called with scope, receive and send.

The worker's `receive` has an extension, `ReceiveAtHand`. Applications and middleware work without it. A middleware
keeps the extension by passing on `forward(receive, own)`.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeVar, cast

Event = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[Any]]

AtHand = Callable[[], Event | None]
OwnReceive = TypeVar("OwnReceive", bound=Receive)


class ReceiveAtHand(Protocol):
    """A `receive` that can also be called from a thread, without a hop through the event loop for each event.

    Attributes:
        at_hand: function that returns the next event if one is prefetched, else `None`. Like `receive()`, a call
            settles the previous event.

    """

    at_hand: AtHand

    async def __call__(self) -> Event:
        """Wait for the next event."""
        ...


def at_hand_of(receive: Receive) -> AtHand | None:
    """Return the `at_hand` of a server's `receive`, or `None`."""
    return getattr(receive, "at_hand", None)


def forward(receive: Receive, own: OwnReceive, through: Callable[[AtHand], AtHand] | None = None) -> OwnReceive:
    """Add the server's `at_hand` to a middleware's own `receive`, and return that.

    Args:
        receive: the `receive` of the server.
        own: the `receive` of the middleware, which calls that of the server.
        through: function that wraps the server's `at_hand`; `None` to use it unchanged.

    """
    at_hand = at_hand_of(receive)
    if at_hand is None:
        return own
    return offer(own, at_hand if through is None else through(at_hand))


def offer(receive: OwnReceive, at_hand: AtHand) -> OwnReceive:
    """Add an `at_hand` to a `receive`, and return it."""
    cast("ReceiveAtHand", receive).at_hand = at_hand
    return receive
