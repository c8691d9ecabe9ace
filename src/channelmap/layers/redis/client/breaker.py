"""A circuit breaker: a host that does not answer must not hold up the others."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client.topology import Topology

#: A failed host is skipped for this many times as long as its failure took.
_SKIP_TIMES = 4


class CircuitBreaker:
    """Skips a host that failed slowly for several times as long as the failure took.

    A host that fails at once costs nothing, so it is asked each time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: The loop's time until which a host is skipped, and its error.
        self._failed: dict[Topology, tuple[float, LayerUnavailable]] = {}

    @contextmanager
    def asking(self, topology: Topology, *, skip: bool) -> Iterator[None]:
        """Ask a host something.

        Args:
            topology: the host.
            skip: whether to raise at once while the host is to be skipped.

        Raises:
            LayerUnavailable: the host failed, now or a moment ago.

        """
        until, problem = self._failed.get(topology, (0.0, None))
        if skip and problem is not None and self._loop.time() < until:
            raise LayerUnavailable(problem.url, problem.reason)
        start = self._loop.time()
        try:
            yield
        except LayerUnavailable as error:
            end = self._loop.time()
            self._failed[topology] = (end + _SKIP_TIMES * (end - start), error)
            raise
        self._failed.pop(topology, None)
