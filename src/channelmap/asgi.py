"""The shapes of ASGI, in which everything here speaks: an application is called with scope, receive, send.

Our worker's `receive` offers more than ASGI asks for, as `ReceiveAtHand` says. An application or a middleware that
knows nothing of it works; one that passes `forward(receive, own)` on keeps it.
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
    """A `receive` that can also be asked from a thread, without a step through the event loop for each event.

    Attributes:
        at_hand: returns the next event if one is there that needs no waiting, else `None`. As with `receive()`, to
            ask for it says that the last event is done.

    """

    at_hand: AtHand

    async def __call__(self) -> Event:
        """Wait for the next event."""
        ...


def at_hand_of(receive: Receive) -> AtHand | None:
    """Return the `at_hand` of a server's `receive`, if it offers one."""
    return getattr(receive, "at_hand", None)


def forward(receive: Receive, own: OwnReceive, through: Callable[[AtHand], AtHand] | None = None) -> OwnReceive:
    """Let a middleware's own `receive` offer what the server's offers, and return it.

    Args:
        receive: the server's.
        own: the middleware's, which calls the server's.
        through: makes the middleware's own `at_hand`, which calls the server's; `None` for the server's as it is.

    """
    at_hand = at_hand_of(receive)
    if at_hand is None:
        return own
    return offer(own, at_hand if through is None else through(at_hand))


def offer(receive: OwnReceive, at_hand: AtHand) -> OwnReceive:
    """Let a `receive` have an `at_hand`, and return it."""
    cast("ReceiveAtHand", receive).at_hand = at_hand
    return receive
