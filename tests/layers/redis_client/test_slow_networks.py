"""A slow connection is not a server that does not answer; a server that stops in the middle is."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer
from tests.layers.conformance import event
from tests.layers.redis_drill import run
from tests.layers.redis_servers import TLS, Relay, Server

#: Seconds that a command may go without an answer: of a server that is slow, and of one that is dead.
SLOW, DEAD = 1.0, 0.4
LARGE = {**event(1), "text": "x" * 4_000_000}


@pytest.fixture(params=["redis", "rediss"])
def relay(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Relay]:
    with (Relay(server) if request.param == "redis" else TLS(tmp_path, server)).running() as relay:
        yield relay


def opened(relay: Relay, timeout: float) -> Any:
    trust = f"&ssl_ca_certs={relay.certificate}" if isinstance(relay, TLS) else ""
    return open_layer(f"{relay.url}?socket_timeout={timeout}{trust}")


def sends(layer: Any, *events: dict[str, Any]) -> list[Awaitable[None]]:
    """Send events in an event loop, and the same outside of it."""
    return [
        send for one in events for send in (layer.send("jobs", one), asyncio.to_thread(layer.send_sync, "jobs", one))
    ]


async def slowly(length: int) -> None:
    """Make a large event take twice as long as an answer may; what has been read ahead (by TLS) is far less."""
    await asyncio.sleep(2 * SLOW * length / 4_000_000)


def in_the_middle(passed_on: Callable[[int], Awaitable[object]]) -> Callable[[int], Awaitable[object]]:
    """Read as fast as may be until more than small commands have come, and then no more."""
    total = 0

    async def stop(length: int) -> None:
        nonlocal total
        total += length
        if total > 200_000:
            await passed_on(length)

    return stop


def test_a_large_event_over_a_slow_connection_arrives(relay: Relay) -> None:
    async def main() -> list[Any]:
        layer = opened(relay, SLOW)
        await asyncio.gather(*sends(layer, event(0)))
        relay.pace = slowly
        await asyncio.gather(*sends(layer, LARGE))
        relay.pace = None
        taken = [delivery.event for delivery in await layer.take("jobs", 9)]
        await layer.close()
        return taken

    assert run(main()) == [event(0)] * 2 + [LARGE] * 2


def test_many_large_events_over_a_slow_connection_arrive(server: Server) -> None:
    """None of them is large by itself, but what goes out with one command is."""

    async def main(relay: Relay) -> list[int]:
        layer = opened(relay, SLOW)
        await layer.send("jobs", event(0))
        relay.pace = slowly
        await layer.send_many("jobs", [{**event(number), "text": "x" * 40_000} for number in range(1, 100)])
        relay.pace = None
        taken = [delivery.event["id"] for delivery in await layer.take("jobs", 200)]
        await layer.close()
        return taken

    with Relay(server).running() as relay:
        assert run(main(relay)) == list(range(100))


def test_a_large_event_over_a_socket_arrives(server: Server) -> None:
    """The kernel does not say how much of it has been received."""

    async def main() -> list[Any]:
        layer = open_layer(f"unix://{server.socket}")
        await asyncio.gather(*sends(layer, LARGE))
        taken = [delivery.event for delivery in await layer.take("jobs", 9)]
        await layer.close()
        return taken

    assert run(main()) == [LARGE] * 2


def test_a_server_that_stops_reading_in_the_middle_is_taken_for_dead(relay: Relay) -> None:
    async def main() -> None:
        layer = opened(relay, DEAD)
        await asyncio.gather(*sends(layer, event(0)))
        relay.pace = in_the_middle(lambda length: asyncio.Event().wait())
        results = await asyncio.gather(*sends(layer, {**LARGE, "text": "x" * 9_000_000}), return_exceptions=True)
        assert [type(result) for result in results] == [LayerUnavailable] * 2
        await layer.close()

    run(main())


def test_a_server_that_reads_a_large_event_and_does_not_answer_is_taken_for_dead(relay: Relay) -> None:
    async def main() -> None:
        layer = opened(relay, DEAD)
        await asyncio.gather(*sends(layer, event(0)))
        relay.silent = True
        results = await asyncio.gather(*sends(layer, LARGE), return_exceptions=True)
        assert [type(result) for result in results] == [LayerUnavailable] * 2
        await layer.close()

    run(main())
