"""What a handler may ask and say about its event: which one it is; that it is to be tried later, or never again.

A worker sets `current_holder` for each instance of an application. A handler raises `Retry` or `Reject`, and the worker
obeys; any ASGI application may do so: the exception that ends it counts.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from channelmap.errors import quoted

if TYPE_CHECKING:
    from channelmap.layer import Delivery

#: Seconds after which an event may be tried again, at most: a year.
LONGEST_AFTER = 365 * 86_400


class Holder(Protocol):
    """Has the delivery that one instance of an application handles, if it handles one."""

    current: "Delivery | None"


#: Set by a worker in the context of each instance, which inherits it to the code that it calls; `None` hides it there.
current_holder: ContextVar[Holder | None] = ContextVar("current_holder", default=None)


@dataclass(frozen=True, slots=True)
class CurrentDelivery:
    """The delivery of the event that a handler handles.

    Attributes:
        id: the event's id, the same however often it is delivered.
        channel: where it was taken.
        attempt: 1 the first time it is delivered.
        sent: when it was sent, in seconds since the epoch.

    """

    id: str
    channel: str
    attempt: int
    sent: float


def current_delivery() -> CurrentDelivery | None:
    """Return the delivery whose handler calls this, itself or below; `None` outside a handler and for private events.

    This also works in tasks that the handler waits for, and in the threads of `sync_to_async` and `asyncio.to_thread`.
    Channels' own worker has no deliveries: `None`.
    """
    holder = current_holder.get()
    delivery = None if holder is None else holder.current
    if delivery is None:
        return None
    return CurrentDelivery(delivery.id, delivery.channel, delivery.attempt, delivery.sent)


class Retry(Exception):
    """Raised by a handler to have its event tried again later; at-least-once channels only.

    It counts as an attempt. After the last one the event becomes a dead letter, with the code `failed`. On an
    at-most-once channel it becomes one at once.

    Args:
        after: seconds until then, exactly; `None` for the channel's own back-off.
        reason: why, for the log and the dead letter.

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
    """Raised by a handler to give its event up: it becomes a dead letter with the code `rejected-by-handler`.

    Args:
        reason: why, for the log and the dead letter.

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
    """Return the exception that a handler raised, or the error that a `Retry` or `Reject` with wrong values deserves.

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
    if not 0 <= after <= LONGEST_AFTER:
        got = "a negative number" if after < 0 else "a larger number" if after > 0 else "NaN"
        hint = "without 'after', the back-off of the channel decides"
        raise ValueError(f"Retry(after=…): expected 0 to {LONGEST_AFTER:,} seconds (a year), got {got}; {hint}")


def _check_reason(whose: str, reason: object) -> None:
    if not isinstance(reason, str):
        raise TypeError(f"{whose}(reason): expected text, got {_type_of(reason)}")


def _type_of(value: object) -> str:
    return f"a value of type {quoted(type(value).__name__)}"
