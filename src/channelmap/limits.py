"""Settings of a channel that contract and transport share: its limits in the layer, and how a worker serves it.

The contract sets these values and the transport obeys them, so neither imports the other.
"""

import random
from dataclasses import dataclass


def letters_kept(capacity: int) -> int:
    """Return the default number of dead letters kept per channel: every waiting event can fail.

    >>> letters_kept(10_000), letters_kept(5)
    (10000, 1000)
    """
    return max(capacity, 1_000)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many events and dead letters a layer keeps on a channel, and for how long.

    Attributes:
        capacity: maximum number of waiting events; a send beyond it raises `ChannelFull`.
        expiry: seconds after which a waiting event is dropped; `None` for never.
        dead_letters: maximum number of dead letters; the oldest are dropped first, and 0 keeps none.
        durable: `send` returns only once the event is on disk, if the layer supports that.

    """

    capacity: int = 10_000
    expiry: float | None = None
    dead_letters: int = 10_000
    durable: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed event is retried on an at-least-once channel.

    Attributes:
        attempts: maximum number of attempts before the event becomes a dead letter.
        delay: seconds before the second attempt.
        backoff: factor by which the delay grows with each attempt.
        max_delay: upper bound of the delay, in seconds.
        jitter: fraction of the delay, from 0 to 1, by which it is randomly shortened or lengthened, so that events that
            failed together are not retried together.

    """

    attempts: int = 5
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.2

    def delay_after(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt; the first attempt has number 1.

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
        concurrency: instances of the application per process, that is, events handled at the same time.
        timeout: maximum seconds for one handler call; `None` for no limit.
        retry: retry policy of at-least-once delivery; `None` means at-most-once.
        warn_after: seconds after which a handler that still runs is logged; `None` for no warning.

    """

    concurrency: int = 1
    timeout: float | None = None
    retry: RetryPolicy | None = None
    warn_after: float | None = 60.0
