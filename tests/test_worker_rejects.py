"""A worker buries the events that the gate rejects in batches: none is lost, and nobody waits for them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from channelmap import AsyncConsumer, Worker
from channelmap.asgi import Event
from channelmap.contract import Channel, EventType
from channelmap.errors import LayerUnavailable
from channelmap.gate import Gate
from channelmap.layer import DeadLetter, Delivery
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service

Until = Callable[..., Awaitable[None]]


class Consumer(AsyncConsumer):
    """Holds on to its event until it is released."""

    seen: list[int]
    release: asyncio.Event

    async def job(self, event: Event) -> None:
        self.seen.append(event["n"])
        await self.release.wait()


@pytest.fixture
def consumer() -> Any:
    return type("Consumer", (Consumer,), {"seen": [], "release": asyncio.Event()})


class Burying(MemoryChannelLayer):
    """A memory layer that notes how many letters are written at once, and can be cut off while it writes."""

    def __init__(self) -> None:
        super().__init__(dead_letters=10_000)
        self.batches: list[int] = []
        self.failures = 0

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        if self.failures:
            self.failures -= 1
            raise LayerUnavailable("memory://", "cut off by the test")
        await super().bury_many(buried)
        self.batches.append(len(buried))


def serve(consumer: Any, layer: MemoryChannelLayer, service: Service | None = None, *, burst: bool = False) -> Worker:
    application = Gate(Channel("a", "a.B", {"job": EventType("job")}), consumer.as_asgi())
    return Worker(application, {"a": service or Service()}, layer, burst=burst)


def job(number: int) -> Event:
    return {"type": "job", "n": number}


def bad(number: int) -> Event:
    return {"type": "unknown", "n": number}


async def buried(layer: MemoryChannelLayer) -> list[Any]:
    return [letter.event and letter.event["n"] for letter in await layer.dead_letters("a")]


@pytest.mark.parametrize("service", [Service(), Service(retry=RetryPolicy()), Service(concurrency=3)])
def test_of_many_rejected_events_each_has_its_letter_in_their_order(service: Service, consumer: Any) -> None:
    layer = Burying()
    consumer.release.set()

    async def main() -> list[Any]:
        await layer.send_many("a", [job(n) if n % 10 == 5 else bad(n) for n in range(1_000)])
        await asyncio.wait_for(serve(consumer, layer, service, burst=True).serve(), 20)
        assert await layer.take("a", 1, lease=0, wait=False) == []
        return await buried(layer)

    assert asyncio.run(main()) == [n for n in range(1_000) if n % 10 != 5]
    assert sorted(consumer.seen) == list(range(5, 1_000, 10))
    assert sum(layer.batches) == 900
    assert max(layer.batches) > 1


def test_a_worker_that_stops_writes_the_letters_of_what_it_has_rejected(consumer: Any, until: Until) -> None:
    layer = Burying()
    layer.failures = 1

    async def main() -> list[Any]:
        await layer.send("a", bad(1))
        worker = serve(consumer, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: layer.failures == 0)
        worker.stop(20)
        await serving
        return await buried(layer)

    assert asyncio.run(main()) == [1]


class Refusing(MemoryChannelLayer):
    """A memory layer that cannot write some letters, cannot settle and cannot delay, though it is there."""

    def __init__(self) -> None:
        super().__init__(dead_letters=10_000)
        self.refuses: Callable[[DeadLetter], bool] = lambda _: False
        self.faults: set[str] = set()

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        if any(self.refuses(letter) for _, letter in buried):
            raise RecursionError("maximum recursion depth exceeded")
        await super().bury_many(buried)

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        if self.refuses(letter):
            raise ValueError("cannot be written")
        await super().bury(delivery, letter)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        if "settle" in self.faults:
            raise RuntimeError("cannot settle")
        await super().settle(deliveries)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        if "retry" in self.faults:
            raise RuntimeError("cannot delay")
        await super().retry(delivery, delay)


BOTH = pytest.mark.parametrize("service", [Service(), Service(retry=RetryPolicy(attempts=1))])


def drain(consumer: Any, layer: MemoryChannelLayer, service: Service, events: list[Event]) -> list[DeadLetter]:
    consumer.release.set()

    async def main() -> list[DeadLetter]:
        await layer.send_many("a", events)
        await asyncio.wait_for(serve(consumer, layer, service, burst=True).serve(), 20)
        assert await layer.take("a", 1, lease=0, wait=False) == []
        return await layer.dead_letters("a")

    return asyncio.run(main())


@BOTH
def test_of_a_letter_that_cannot_be_written_in_full_the_bytes_are_kept(service: Service, consumer: Any) -> None:
    layer = Refusing()
    layer.refuses = lambda letter: letter.event == bad(1)

    letters = drain(consumer, layer, service, [bad(0), bad(1), bad(2), job(3)])

    assert [letter.event for letter in letters] == [bad(0), bad(1), bad(2)]
    assert "could not be written in full" in letters[1].reason
    assert [letter.code for letter in letters] == ["unroutable"] * 3
    assert consumer.seen == [3]


@BOTH
def test_an_event_whose_letter_cannot_be_written_at_all_is_dropped_aloud_and_blocks_nobody(
    service: Service, consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer = Refusing()
    layer.refuses = lambda letter: b"rotten" in letter.body

    letters = drain(consumer, layer, service, [bad(0), {"type": "rotten"}, bad(2), job(3)])

    assert [letter.event for letter in letters] == [bad(0), bad(2)]
    assert consumer.seen == [3]
    (line,) = (record for record in caplog.records if record.levelname == "CRITICAL")
    assert line.getMessage() == "channel 'a': dropped an event of type 'rotten': its dead letter cannot be kept"


@BOTH
def test_a_failed_event_whose_letter_cannot_be_written_blocks_nobody(service: Service, consumer: Any) -> None:
    layer = Refusing()
    layer.refuses = lambda letter: bool(letter.traceback)

    (letter,) = drain(consumer, layer, service, [{"type": "job"}, job(3)])

    assert (letter.code, letter.event, letter.traceback) == ("failed", {"type": "job"}, "")
    assert consumer.seen == [3]


def test_a_worker_that_stops_says_what_it_cannot_write(
    consumer: Any, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    layer = Refusing()
    layer.refuses = lambda letter: b"unknown" in letter.body
    consumer.release.set()

    async def main() -> None:
        await layer.send_many("a", [job(0), bad(1)])
        worker = serve(consumer, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: consumer.seen == [0])
        worker.stop(20)
        await serving

    asyncio.run(main())
    assert "dropped an event of type 'unknown'" in caplog.text
