"""What both halves must know of a channel: how the layer keeps it (Limits), how the worker serves it (Service).

The contract fills these in, the transport obeys them, and neither needs to know the other.
"""

import random
from dataclasses import dataclass


def letters_kept(capacity: int) -> int:
    """Return how many dead letters a channel keeps unless it says otherwise: all that may wait can fail.

    >>> letters_kept(10_000), letters_kept(5)
    (10000, 1000)
    """
    return max(capacity, 1_000)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a channel a layer keeps.

    Attributes:
        capacity: events that may wait; one more raises `ChannelFull`.
        expiry: seconds after which an event that still waits is dropped; `None` for never.
        dead_letters: the newest so many dead letters are kept; 0 keeps none.
        durable: an event is on disk when `send` returns, where the layer can do that.

    """

    capacity: int = 10_000
    expiry: float | None = None
    dead_letters: int = 10_000
    durable: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failed event is tried again, where delivery is at-least-once.

    Attributes:
        attempts: how often it is tried in all before it becomes a dead letter.
        delay: seconds before the second attempt.
        backoff: by how much the delay grows with each further one.
        max_delay: seconds above which it does not grow.
        jitter: the share of the delay, from 0 to 1, by which it is shortened or lengthened at random, so that events
            that failed together are not tried again together.

    """

    attempts: int = 5
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.2

    def delay_after(self, attempt: int) -> float:
        """Return the seconds to wait after the attempt of that number (the first is 1) failed.

        >>> [RetryPolicy(delay=1, backoff=3, max_delay=20, jitter=0).delay_after(n) for n in (1, 2, 3, 4)]
        [1.0, 3.0, 9.0, 20.0]
        """
        try:
            delay = min(self.delay * self.backoff ** (attempt - 1), self.max_delay)
        except OverflowError:
            delay = self.max_delay
        return delay * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311


@dataclass(frozen=True, slots=True)
class Service:
    """How a worker serves a channel.

    Attributes:
        concurrency: instances of the application, so events handled at the same time, per process.
        timeout: seconds that one handler call may take; `None` for no limit.
        retry: set where delivery is at-least-once; `None` is at-most-once.

    """

    concurrency: int = 1
    timeout: float | None = None
    retry: RetryPolicy | None = None
