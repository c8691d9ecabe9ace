"""What is on its way between layer and worker when something else happens is not lost, doubled or overtaken."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from channelmap import AsyncConsumer, StopConsumer, Worker
from channelmap.asgi import Event
from channelmap.errors import LayerUnavailable
from channelmap.layer import DeadLetter, Delivery, current_layer
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service

Until = Callable[..., Awaitable[None]]


def job(number: int, event_type: str = "job") -> Event:
    return {"type": event_type, "n": number}


class Halting(MemoryChannelLayer):
    """A memory layer whose verbs for deliveries can be held up, and made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.halted = 0
        self.failures = 0

    async def _halt(self) -> None:
        self.halted += 1
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise LayerUnavailable("memory://", "cut off by the test")

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        await self._halt()
        await super().give_back(deliveries)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        await self._halt()
        await super().settle(deliveries)

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self._halt()
        await super().bury(delivery, letter)


class Fickle(AsyncConsumer):
    """Is fast until event 2,000, and then waits: what was taken with it goes back."""

    seen: list[int]
    release: asyncio.Event

    async def job(self, event: Event) -> None:
        self.seen.append(event["n"])
        if event["n"] == 2_000:
            await self.release.wait()


@pytest.fixture
def fickle() -> Any:
    return type("Fickle", (Fickle,), {"seen": [], "release": asyncio.Event()})


def start(consumer: Any, layer: MemoryChannelLayer, service: Service | None = None, **options: Any) -> Any:
    current_layer.set(layer)
    worker = Worker(consumer.as_asgi(), {"a": service or Service()}, layer, **options)
    return worker, asyncio.ensure_future(worker.serve())


@pytest.mark.parametrize("burst", [True, False])
@pytest.mark.parametrize("failures", [0, 1])
def test_what_goes_back_is_not_overtaken_and_not_forgotten(
    fickle: Any, until: Until, *, burst: bool, failures: int
) -> None:
    async def main() -> None:
        layer = Halting()
        layer.failures = failures
        layer.open.clear()
        await layer.send_many("a", [job(n) for n in range(5_000)])
        worker, serving = start(fickle, layer, burst=burst)
        await until(lambda: layer.halted, "events on their way back")
        fickle.release.set()
        await until(lambda: len(fickle.seen) == 2_001)
        layer.open.set()
        await until(lambda: len(fickle.seen) == 5_000, "all events")
        worker.stop(20)
        await asyncio.wait_for(serving, 20)

    asyncio.run(main())

    assert fickle.seen == list(range(5_000))


def test_what_goes_back_while_the_worker_stops_arrives_also_at_the_second_try(fickle: Any, until: Until) -> None:
    async def main() -> int | None:
        layer = Halting()
        layer.failures = 1
        layer.open.clear()
        await layer.send_many("a", [job(n) for n in range(5_000)])
        worker, serving = start(fickle, layer)
        await until(lambda: layer.halted, "events on their way back")
        worker.stop(20)
        fickle.release.set()
        layer.open.set()
        await asyncio.wait_for(serving, 20)
        return await layer.waiting("a")

    assert asyncio.run(main()) == 5_000 - 2_001


def test_an_event_that_is_being_settled_when_the_worker_stops_does_not_come_again(fickle: Any, until: Until) -> None:
    async def main() -> list[Delivery]:
        layer = Halting()
        layer.open.clear()
        await layer.send("a", job(1))
        worker, serving = start(fickle, layer, Service(retry=RetryPolicy()))
        await until(lambda: layer.halted, "the settling")
        worker.stop(20)
        await asyncio.sleep(0)
        layer.open.set()
        await asyncio.wait_for(serving, 20)
        assert layer.halted > 1
        await layer.send("a", job(2))
        return await layer.take("a", 9, lease=0.001)

    assert [delivery.event for delivery in asyncio.run(main())] == [job(2)]


def test_of_unreadable_events_that_are_being_buried_when_the_worker_stops_none_is_lost(
    fickle: Any, until: Until
) -> None:
    async def main() -> list[Event | None]:
        layer = Halting()
        layer.open.clear()
        await layer.send_many("a", [*(job(n) for n in range(1_000)), *({"x": n} for n in range(20))])
        worker, serving = start(fickle, layer)
        await until(lambda: layer.halted, "the first letter")
        worker.stop(20)
        layer.open.set()
        await asyncio.wait_for(serving, 20)
        buried = [letter.event for letter in await layer.dead_letters()]
        assert buried
        left = [delivery.event for delivery in await layer.take("a", 2_000, wait=False)]
        return buried + [event for event in left if event and "x" in event]

    assert asyncio.run(main()) == [{"x": n} for n in range(20)]


def test_the_delay_before_a_retry_has_its_limit_however_many_there_were() -> None:
    assert RetryPolicy(backoff=10, max_delay=60, jitter=0).delay_after(100_000) == 60


class Private(AsyncConsumer):
    """Joins a group, and handles what comes by it."""

    seen: list[Any]
    begun: asyncio.Event
    release: asyncio.Event

    async def join(self, event: Event) -> None:
        await self.channel_layer.group_add("g", self.channel_name)
        self.seen.append("joined")

    async def job(self, event: Event) -> None:
        self.seen.append(event["n"])

    async def slow(self, event: Event) -> None:
        self.begun.set()
        await self.release.wait()
        self.seen.append("finished")

    async def fail(self, event: Event) -> None:
        self.begun.set()
        await self.release.wait()
        raise ValueError("boom")


@pytest.fixture
def private() -> Any:
    return type("Private", (Private,), {"seen": [], "begun": asyncio.Event(), "release": asyncio.Event()})


def test_a_handler_of_a_private_event_may_finish_when_the_worker_stops(private: Any, until: Until) -> None:
    async def main() -> None:
        layer = MemoryChannelLayer()
        await layer.send("a", {"type": "join"})
        worker, serving = start(private, layer)
        await until(lambda: private.seen == ["joined"])
        await layer.group_send("g", {"type": "slow"})
        await private.begun.wait()
        worker.stop(20)
        private.release.set()
        await asyncio.wait_for(serving, 20)

    asyncio.run(main())

    assert private.seen == ["joined", "finished"]


def test_a_private_event_that_fails_takes_no_event_of_the_channel_along(private: Any, until: Until) -> None:
    async def main() -> list[DeadLetter]:
        layer = MemoryChannelLayer()
        await layer.send("a", {"type": "join"})
        worker, serving = start(private, layer)
        await until(lambda: private.seen == ["joined"])
        await layer.group_send("g", {"type": "fail"})
        await private.begun.wait()
        await layer.send("a", job(7))
        private.release.set()
        await until(lambda: private.seen == ["joined", 7])
        worker.stop(20)
        await asyncio.wait_for(serving, 20)
        return await layer.dead_letters()

    assert asyncio.run(main()) == []


def test_a_handler_that_will_not_be_cancelled_fails_and_blames_no_other() -> None:
    class Stubborn(AsyncConsumer):
        async def job(self, event: Event) -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        async def bye(self, event: Event) -> None:
            raise StopConsumer

    async def main() -> list[DeadLetter]:
        layer = MemoryChannelLayer()
        await layer.send_many("a", [job(1), job(2, "bye"), job(3, "bye")])
        _, serving = start(Stubborn, layer, Service(timeout=0.02), burst=True)
        await asyncio.wait_for(serving, 20)
        return await layer.dead_letters()

    assert [(letter.event, letter.reason) for letter in asyncio.run(main())] == [
        (job(1), "the handler took longer than 0.02 s")
    ]
