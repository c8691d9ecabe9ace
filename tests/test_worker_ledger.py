"""Every delivery has one owner until the layer has heard of it, and leases outlive a blocked event loop."""

import asyncio
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from channelmap import AsyncConsumer, SyncConsumer, Worker
from channelmap.asgi import Event
from channelmap.contract import Channel, EventType
from channelmap.errors import LayerUnavailable
from channelmap.gate import Gate
from channelmap.layer import DeadLetter, Delivery
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import Timing

Until = Callable[..., Awaitable[None]]
LEASED = Service(retry=RetryPolicy(attempts=2, delay=0.001))


class Watched(MemoryChannelLayer):
    """A memory layer that fails now and then, and compares a worker's ledger with what it has handed out."""

    worker: Worker

    def __init__(self, seed: int) -> None:
        super().__init__(dead_letters=10_000)
        self.chance = random.Random(seed)
        self.out: set[Delivery] = set()
        self.looks = 0
        self.problems: list[str] = []
        self.is_burying = False

    def look_at_the_ledger(self) -> None:
        held = [delivery for inbox in self.worker._inboxes for delivery in inbox.ledger.unsettled()]
        self.problems += [f"{delivery} twice" for delivery, count in Counter(held).items() if count > 1]
        self.problems += [f"{delivery} forgotten" for delivery in self.out.difference(held)]
        self.problems += [f"{delivery} not struck out" for delivery in set(held) - self.out]
        self.looks += 1

    async def trouble(self) -> None:
        await asyncio.sleep(0)
        self.look_at_the_ledger()
        if self.chance.random() < 0.02:
            raise LayerUnavailable("memory://", "away for a moment")

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        taken = await super().take(channel, limit, lease=lease, wait=wait)
        self.out.update(taken)
        return taken

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        if not self.is_burying:
            await self.trouble()
            self.out.difference_update(deliveries)
        await super().settle(deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        await self.trouble()
        await super().give_back(deliveries)
        self.out.difference_update(deliveries)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        await self.trouble()
        await super().retry(delivery, delay)
        self.out.discard(delivery)

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        await self.trouble()
        self.is_burying = True
        for delivery, letter in buried:
            await super().bury(delivery, letter)
            self.out.discard(delivery)
        self.is_burying = False


class Handler:
    """What both kinds of consumer do."""

    def handle(self, event: Event) -> None:
        if event["type"] == "fail":
            raise ValueError("boom")


class Async(AsyncConsumer, Handler):
    async def job(self, event: Event) -> None:
        self.handle(event)

    async def slow(self, event: Event) -> None:
        await asyncio.sleep(0)

    async def fail(self, event: Event) -> None:
        self.handle(event)


class Sync(SyncConsumer, Handler):
    def job(self, event: Event) -> None:
        self.handle(event)

    def slow(self, event: Event) -> None:
        threading.Event().wait(0)

    def fail(self, event: Event) -> None:
        self.handle(event)


@pytest.mark.parametrize("consumer", [Async, Sync])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_the_ledger_holds_exactly_what_the_layer_has_handed_out(consumer: Any, seed: int) -> None:
    layer = Watched(seed)
    types = ["job"] * 20 + ["slow", "fail", "unknown"]
    events: list[Event] = [{"type": layer.chance.choice(types), "n": n} for n in range(500)]
    channel = Channel("a", "a.B", {name: EventType(name) for name in ("job", "slow", "fail")})

    async def main() -> None:
        await layer.send_many("a", events)
        service = Service(retry=LEASED.retry, concurrency=1 + seed % 3)
        timing = Timing(return_after=0.0005)
        layer.worker = Worker(Gate(channel, consumer.as_asgi()), {"a": service}, layer, burst=True, timing=timing)
        await asyncio.wait_for(layer.worker.serve(), 30)
        assert not layer.worker.broken
        assert await layer.waiting("a") == 0

    asyncio.run(main())
    assert not layer.problems
    assert not layer.out
    assert layer.looks
    letters = asyncio.run(layer.dead_letters("a"))
    dead = [event for event in events if event["type"] in {"fail", "unknown"}]
    assert sorted(letter.event["n"] for letter in letters if letter.event) == [event["n"] for event in dead]


STALLED = """
import asyncio, threading
from channelmap import AsyncConsumer, Worker
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import Timing

class Consumer(AsyncConsumer):
    async def job(self, event):
        threading.Event().wait()

async def main():
    layer = MemoryChannelLayer()
    await layer.send("a", {"type": "job"})
    timing = Timing(lease=0.03, stall_after=0.1)
    await Worker(Consumer.as_asgi(), {"a": Service(retry=RetryPolicy())}, layer, timing=timing).serve()

asyncio.run(main())
"""


def test_a_process_whose_event_loop_does_not_turn_any_more_ends_with_its_stacks() -> None:
    process = subprocess.run([sys.executable, "-c", STALLED], capture_output=True, text=True, check=False, timeout=30)
    assert process.returncode == 71
    assert "the event loop has been blocked for 0 s: exiting; its leases will expire" in process.stderr
    assert "in job" in process.stderr


def test_a_worker_at_most_once_needs_no_thread_for_leases(until: Until) -> None:
    async def main() -> None:
        worker = Worker(Async.as_asgi(), ["a"], MemoryChannelLayer())
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: all(slot.idle for slot in worker._slots) and worker._slots)
        assert "channelmap-renewal" not in {thread.name for thread in threading.enumerate()}
        worker.stop()
        await asyncio.wait_for(serving, 20)

    asyncio.run(main())


@pytest.mark.parametrize("consumer", [Async, Sync])
@pytest.mark.parametrize(("channels", "concurrency", "limit"), [(1, 1, 200), (4, 3, 500), (1, 1, 1)])
def test_a_worker_stops_when_it_has_handled_as_many_events_as_it_may(
    consumer: Any, channels: int, concurrency: int, limit: int
) -> None:
    layer = MemoryChannelLayer()
    names = [f"channel-{number}" for number in range(channels)]
    seen: Counter[str] = Counter()

    class Counted(consumer):  # type: ignore[misc]
        def handle(self, event: Event) -> None:
            seen["events"] += 1
            super().handle(event)

    async def main() -> int:
        for name in names:
            await layer.send_many(name, [{"type": "fail" if n % 10 == 3 else "job", "n": n} for n in range(1_000)])
        services = dict.fromkeys(names, Service(concurrency=concurrency))
        worker = Worker(Counted.as_asgi(), services, layer, max_events=limit)
        await asyncio.wait_for(worker.serve(), 30)
        assert worker.reached_max_events
        return sum([await layer.waiting(name) for name in names])

    left = asyncio.run(main())
    assert seen["events"] == channels * 1_000 - left
    assert limit <= seen["events"] <= limit * 1.1 + channels * concurrency - 1
