"""A host that fails slowly is skipped for a while, and the time of servers is known without asking each time."""

import asyncio

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client import CircuitBreaker, ConnectionPool, ServerClocks, Topology, read_hosts
from tests.layers.redis_drill import run
from tests.layers.redis_servers import Server


class Loop:
    """Replaces the clock of the event loop."""

    now = 100.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def hosts() -> list[Topology]:
    return read_hosts(["redis://one", "redis://two"])


def ask(breaker: CircuitBreaker, loop: Loop, host: Topology, error: Exception, after: float) -> None:
    """Ask a host that fails after so many seconds."""
    with breaker.asking(host, skip=True):
        loop.now += after
        raise error


def fail(breaker: CircuitBreaker, loop: Loop, host: Topology, after: float) -> None:
    with pytest.raises(LayerUnavailable, match="no answer"):
        ask(breaker, loop, host, LayerUnavailable(host.url, "no answer"), after)


def test_a_host_that_failed_slowly_is_skipped_for_four_times_as_long(hosts: list[Topology]) -> None:
    async def main() -> None:
        breaker, loop = CircuitBreaker(), Loop()
        breaker._loop = loop  # type: ignore[assignment]  # only `time` is called
        lost, other = hosts
        fail(breaker, loop, lost, after=5.0)
        loop.now += 19.9
        asked = []
        with pytest.raises(LayerUnavailable) as caught, breaker.asking(lost, skip=True):
            asked.append(lost)
        assert (caught.value.url, caught.value.reason) == (lost.url, "no answer")
        with breaker.asking(other, skip=True):
            asked.append(other)
        loop.now += 0.1
        with breaker.asking(lost, skip=True):
            asked.append(lost)
        assert asked == [other, lost]

    asyncio.run(main())


def test_a_host_that_fails_at_once_is_asked_each_time(hosts: list[Topology]) -> None:
    async def main() -> None:
        breaker, loop = CircuitBreaker(), Loop()
        breaker._loop = loop  # type: ignore[assignment]
        for _ in range(3):
            fail(breaker, loop, hosts[0], after=0.0)

    asyncio.run(main())


def test_an_answer_ends_the_skipping_and_a_lone_host_is_never_skipped(hosts: list[Topology]) -> None:
    async def main() -> None:
        breaker, loop = CircuitBreaker(), Loop()
        breaker._loop = loop  # type: ignore[assignment]
        fail(breaker, loop, hosts[0], after=5.0)
        with breaker.asking(hosts[0], skip=False):
            pass
        with breaker.asking(hosts[0], skip=True):
            pass

    asyncio.run(main())


def test_other_errors_are_no_failures_of_the_host(hosts: list[Topology]) -> None:
    async def main() -> None:
        breaker, loop = CircuitBreaker(), Loop()
        breaker._loop = loop  # type: ignore[assignment]
        with pytest.raises(ValueError, match="wrong"):
            ask(breaker, loop, hosts[0], ValueError("wrong"), after=5.0)
        with breaker.asking(hosts[0], skip=True):
            pass

    asyncio.run(main())


def test_the_time_of_a_server_is_asked_for_once_a_minute(server: Server) -> None:
    async def main() -> None:
        pool = ConnectionPool()
        (one,) = read_hosts([server.url])
        clocks, loop = ServerClocks(pool), Loop()
        clocks._loop = loop  # type: ignore[assignment]  # only `time` is called
        assert clocks.is_stale(one)
        await clocks.ask(one, "key")
        secs, micros = server.client.time()
        theirs = secs + micros / 1e6
        assert theirs - 10 < clocks.time_of(one) <= theirs
        before = clocks.time_of(one)
        loop.now += 59.9
        assert not clocks.is_stale(one)
        assert clocks.time_of(one) == pytest.approx(before + 59.9)
        loop.now += 0.1
        assert clocks.is_stale(one)
        await pool.close()

    run(main())
