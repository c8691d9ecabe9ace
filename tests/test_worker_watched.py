"""What stops working in a worker says so, and one channel's trouble is not another's."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from channelmap import AsyncConsumer, Worker
from channelmap.asgi import Event
from channelmap.layer import DeadLetter, Delivery
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.terms import Retry, Service
from channelmap.worker import Timing

Until = Callable[..., Awaitable[None]]
LEASED = Service(retry=Retry())


class Panic(BaseException):
    """What a native library raises when its own code is wrong."""


class Troubled(MemoryChannelLayer):
    """A memory layer whose calls can fail or hang for one channel, and that counts renewals."""

    def __init__(self) -> None:
        super().__init__()
        self.buries_with: BaseException | None = None
        self.renews_with: Exception | None = None
        self.hangs_on = ""
        self.renewals: Counter[str] = Counter()

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        error, self.buries_with = self.buries_with, None
        if error is not None:
            raise error
        await super().bury_many(buried)

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        channel = deliveries[0].channel
        self.renewals[channel] += 1
        if channel == self.hangs_on:
            await asyncio.Event().wait()
        error, self.renews_with = self.renews_with, None
        if error is not None:
            raise error
        await super().renew(deliveries, lease)


class Consumer(AsyncConsumer):
    """Handles a `slow` event until it is released."""

    seen: list[int]
    release: asyncio.Event

    async def job(self, event: Event) -> None:
        self.seen.append(event["n"])

    async def slow(self, event: Event) -> None:
        self.seen.append(event["n"])
        await self.release.wait()

    async def fail(self, event: Event) -> None:
        raise ValueError("boom")


@pytest.fixture
def consumer() -> Any:
    return type("Consumer", (Consumer,), {"seen": [], "release": asyncio.Event()})


def event(number: int, event_type: str = "job") -> Event:
    return {"type": event_type, "n": number}


def test_a_slot_that_ends_stops_the_worker_aloud_and_loses_nothing(
    consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer = Troubled()
    layer.buries_with = Panic("a panic of a library")

    async def main() -> Worker:
        await layer.send_many("a", [event(0), event(1, "fail"), event(2)])
        worker = Worker(consumer.as_asgi(), ["a"], layer)
        await asyncio.wait_for(worker.serve(), 20)
        assert [letter.event for letter in await layer.dead_letters()] == [event(1, "fail")]
        assert [delivery.event for delivery in await layer.take("a", 9, wait=False)] == [event(2)]
        return worker

    assert asyncio.run(main()).broken
    assert consumer.seen == [0]
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert line.getMessage() == ("a slot ended unexpectedly (Panic: a panic of a library): stopping the worker")


def test_a_worker_that_stops_in_good_order_is_not_broken(consumer: Any, until: Until) -> None:
    layer = Troubled()

    async def main() -> Worker:
        await layer.send("a", event(0))
        worker = Worker(consumer.as_asgi(), {"a": LEASED}, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: consumer.seen == [0])
        worker.stop()
        await asyncio.wait_for(serving, 20)
        return worker

    assert not asyncio.run(main()).broken


@pytest.mark.parametrize("error", [RuntimeError("no idea"), OSError("gone")])
def test_a_renewal_that_fails_is_logged_and_tried_again(
    consumer: Any, until: Until, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    layer = Troubled()
    layer.renews_with = error

    async def main() -> None:
        await layer.send("a", event(0, "slow"))
        worker = Worker(consumer.as_asgi(), {"a": LEASED}, layer, timing=Timing(lease=0.03))
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: layer.renewals["a"] >= 3)
        consumer.release.set()
        worker.stop()
        await asyncio.wait_for(serving, 20)
        assert not worker.broken

    asyncio.run(main())
    assert f"channel 'a': cannot renew its leases: {error}" in caplog.text


def test_a_renewal_that_hangs_holds_up_no_other_channel(consumer: Any, until: Until) -> None:
    layer = Troubled()
    layer.hangs_on = "a"

    async def main() -> None:
        for channel in "ab":
            await layer.send(channel, event(0, "slow"))
        worker = Worker(consumer.as_asgi(), {"a": LEASED, "b": LEASED}, layer, timing=Timing(lease=0.03))
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: layer.renewals["b"] >= 5)
        assert layer.renewals["a"]
        consumer.release.set()
        worker.stop()
        await asyncio.wait_for(serving, 20)

    asyncio.run(main())


def test_events_that_were_handled_before_a_slow_one_are_settled_while_it_runs(consumer: Any, until: Until) -> None:
    layer = Troubled()

    async def main() -> None:
        await layer.send_many("a", [*(event(n) for n in range(300)), event(300, "slow"), event(301)])
        worker = Worker(consumer.as_asgi(), {"a": LEASED}, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: consumer.seen == list(range(301)))
        await until(lambda: len(layer._leases["a"]) == 1)
        consumer.release.set()
        await until(lambda: consumer.seen == list(range(302)))
        worker.stop()
        await asyncio.wait_for(serving, 20)

    asyncio.run(main())
