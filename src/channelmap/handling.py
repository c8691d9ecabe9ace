"""The interface of handlers to their delivery: `current_delivery`, `Retry`, `Reject` and `StopConsumer`.

A worker sets `current_holder` for each instance of an application. Any ASGI application may end with `Retry` or
`Reject`: the worker retries the event or gives it up.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from channelmap.errors import quoted

if TYPE_CHECKING:
    from channelmap.layer import Delivery

#: Maximum delay of a retry in seconds: a year.
MAX_RETRY_DELAY_SECS = 365 * 86_400


class Holder(Protocol):
    """An object with the current delivery of one instance of an application, or None.

    Attributes:
        current: the delivery.
        timed_out: whether its handler was cancelled because it took longer than the channel's timeout.

    """

    current: "Delivery | None"
    timed_out: bool


#: Set by a worker in the context of each instance, and inherited by the code that it calls.
current_holder: ContextVar[Holder | None] = ContextVar("current_holder", default=None)

AroundHandler = Callable[[], AbstractContextManager[None]]

#: Set by a gate that traces: returns the context manager in which a consumer runs the handler of the event that it has
#: received last.
around_handler: ContextVar[AroundHandler | None] = ContextVar("around_handler", default=None)


def handler_manager() -> AbstractContextManager[None]:
    """Return the context manager in which to run a handler; call it in the handler's own context."""
    around = around_handler.get()
    if around is None:
        return nullcontext()
    # An application that the handler runs itself has other events.
    around_handler.set(None)
    return around()


@dataclass(frozen=True, slots=True)
class CurrentDelivery:
    """The delivery of a handler's current event.

    Attributes:
        id: the event's id, the same for every delivery.
        channel: the channel's name.
        attempt: number of the attempt, from 1.
        sent: send time, in seconds since the epoch.

    """

    id: str
    channel: str
    attempt: int
    sent: float


def current_delivery() -> CurrentDelivery | None:
    """Return the delivery of the calling handler; `None` outside a handler and for private events.

    This also works in functions and tasks that the handler waits for, and in the threads of `sync_to_async` and
    `asyncio.to_thread`.
    Channels' own worker has no deliveries: `None`.
    """
    holder = current_holder.get()
    delivery = None if holder is None else holder.current
    if delivery is None:
        return None
    return CurrentDelivery(delivery.id, delivery.channel, delivery.attempt, delivery.sent)


class StopConsumer(Exception):
    """Raised by a handler to end its consumer instance; the event counts as handled."""


class Retry(Exception):
    """Raised by a handler to have its event retried later, on at-least-once channels.

    The retry counts as an attempt. After the last attempt the event becomes a dead letter with the code `failed`; on
    an at-most-once channel this happens at once.

    Args:
        after: exact delay in seconds; `None` for the retry policy of the channel.
        reason: the reason, for the log and the dead letter.

    Raises:
        TypeError: `after` is not a number, or `reason` is not text.
        ValueError: `after` is negative, NaN or longer than a year.

    """

    after: float | None = None
    reason: str = ""

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        _check_after(after)
        _check_reason("Retry", reason)
        super().__init__(after, reason)
        self.after = after
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Reject(Exception):
    """Raised by a handler to give up its event, which becomes a dead letter with the code `rejected-by-handler`.

    Args:
        reason: the reason, for the log and the dead letter.

    Raises:
        TypeError: `reason` is not text.
        ValueError: `reason` is empty.

    """

    reason: str = ""

    def __init__(self, reason: str) -> None:
        _check_reason("Reject", reason)
        if not reason.strip():
            raise ValueError("Reject(reason): expected a reason, got empty text; the dead letter says it")
        super().__init__(reason)
        self.reason = reason


def checked(error: BaseException) -> BaseException:
    """Return the exception of a handler, or the error for a `Retry` or `Reject` with invalid values.

    A subclass may not have called the constructor, and attributes may be set later.
    """
    try:
        if isinstance(error, Retry):
            return Retry(error.after, error.reason)
        if isinstance(error, Reject):
            return Reject(error.reason)
    except Exception as wrong:  # noqa: BLE001  (an attribute of a subclass may raise anything)
        return wrong
    return error


def _check_after(after: object) -> None:
    if after is None:
        return
    if not isinstance(after, int | float) or isinstance(after, bool):
        hint = ""
        if isinstance(after, str):
            hint = "; the reason is the second argument: Retry(reason='…')"
        elif isinstance(after, timedelta):
            hint = "; write after=delay.total_seconds()"
        raise TypeError(f"Retry(after=…): expected seconds as an int or a float, got {_type_of(after)}{hint}")
    if not 0 <= after <= MAX_RETRY_DELAY_SECS:
        got = "a negative number" if after < 0 else "a larger number" if after > 0 else "NaN"
        hint = "without 'after', the back-off of the channel decides"
        raise ValueError(f"Retry(after=…): expected 0 to {MAX_RETRY_DELAY_SECS:,} seconds (a year), got {got}; {hint}")


def _check_reason(whose: str, reason: object) -> None:
    if not isinstance(reason, str):
        raise TypeError(f"{whose}(reason): expected text, got {_type_of(reason)}")


def _type_of(value: object) -> str:
    return f"a value of type {quoted(type(value).__name__)}"
