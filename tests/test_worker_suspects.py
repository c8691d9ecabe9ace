"""One suspect at a time is handled in a process, and the layer hears of it before its handler starts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from channelmap import AsyncConsumer, SyncConsumer, Worker
from channelmap.asgi import Event, Receive, Scope, Send
from channelmap.contract import Channel, EventType
from channelmap.errors import LayerError
from channelmap.gate import Gate
from channelmap.layer import DeadLetter, Delivery
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import Timing

Until = Callable[..., Awaitable[None]]


def event(number: int, event_type: str = "job") -> Event:
    return {"type": event_type, "n": number}


class Telling(MemoryChannelLayer):
    """A memory layer that notes what it is told, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, int]] = []
        self.lost: set[int] = set()
        self.begins_with: list[Exception] = []

    def _note(self, what: str, deliveries: Sequence[Delivery]) -> None:
        self.told += [(what, one.event["n"]) for one in deliveries if one.event]

    async def begin(self, delivery: Delivery) -> bool:
        if self.begins_with:
            raise self.begins_with.pop()
        assert delivery.event
        if delivery.event["n"] in self.lost:
            await super().settle([delivery])
        self._note("begin", [delivery])
        return await super().begin(delivery)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        self._note("settle", deliveries)
        await super().settle(deliveries)

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        count = len(self.told)
        await super().bury_many(buried)
        # In memory a letter is kept by settling its event.
        del self.told[count:]
        self._note("bury", [delivery for delivery, _ in buried])

    async def retry(self, delivery: Delivery, delay: float) -> None:
        self._note("retry", [delivery])
        await super().retry(delivery, delay)

    async def send_suspects(self, channel: str, events: Sequence[Event]) -> None:
        """Send events, and let the lease of each run out."""
        await self.send_many(channel, events)
        await self.take(channel, len(events), lease=0)


class Consumer(AsyncConsumer):
    """Holds each `hold` event until it is released."""

    begun: list[int]
    release: asyncio.Event

    async def job(self, event: Event) -> None:
        self.begun.append(event["n"])

    async def hold(self, event: Event) -> None:
        self.begun.append(event["n"])
        await self.release.wait()
        self.release.clear()

    async def fail(self, event: Event) -> None:
        self.begun.append(event["n"])
        raise ValueError("boom")


class Blocking(SyncConsumer):
    """Handles in threads."""

    begun: list[int]

    def job(self, event: Event) -> None:
        self.begun.append(event["n"])


@pytest.fixture
def consumer() -> Any:
    return type("Consumer", (Consumer,), {"begun": [], "release": asyncio.Event()})


def service(concurrency: int = 1, attempts: int = 2, timeout: float | None = None) -> Service:
    return Service(concurrency=concurrency, retry=RetryPolicy(attempts=attempts, delay=60), timeout=timeout)


async def end(worker: Worker, serving: "asyncio.Future[None]", deadline: float = 20) -> None:
    worker.stop(deadline)
    await asyncio.wait_for(serving, 20)


async def burst(application: Any, layer: MemoryChannelLayer, services: dict[str, Service]) -> None:
    await asyncio.wait_for(Worker(application, services, layer, burst=True).serve(), 20)


def test_one_suspect_is_handled_at_a_time_on_all_channels_and_other_channels_go_on(consumer: Any, until: Until) -> None:
    async def main() -> list[int]:
        layer = Telling()
        for number, channel in enumerate("abc", 1):
            await layer.send_suspects(channel, [event(number * 10 + n, "hold") for n in range(3)])
        services = {channel: service(concurrency=2) for channel in "abcd"}
        worker = Worker(consumer.as_asgi(), services, layer)
        serving = asyncio.ensure_future(worker.serve())
        for count in range(1, 10):
            await until(lambda count=count: len(consumer.begun) == count)
            await layer.send("d", event(100 + count))
            await until(lambda count=count: consumer.begun[-1] == 100 + count)
            assert len(layer.told) == len(set(layer.told))
            assert [what for what, n in layer.told if n < 100].count("begin") == count
            consumer.begun.pop()
            consumer.release.set()
        await until(lambda: [what for what, n in layer.told if n < 100].count("settle") == 9)
        await end(worker, serving)
        return list(consumer.begun)

    begun = asyncio.run(main())
    assert sorted(begun) == [10, 11, 12, 20, 21, 22, 30, 31, 32]
    assert [n for n in begun if n < 20] == [10, 11, 12]


@pytest.mark.parametrize("last", ["job", "fail", "unknown", "hold"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_the_layer_knows_what_became_of_a_suspect_before_the_next_one_begins(
    consumer: Any, last: str, attempts: int
) -> None:
    application = Gate(
        Channel("a", "a.B", {name: EventType(name) for name in ("job", "fail", "hold")}), consumer.as_asgi()
    )

    async def main() -> list[tuple[str, int]]:
        layer = Telling()
        await layer.send_suspects("a", [event(1, last), event(2)])
        await layer.send_suspects("b", [event(3, last), event(4)])
        timeout = 0.01 if last == "hold" else None
        await burst(application, layer, {name: service(2, attempts, timeout) for name in "ab"})
        return layer.told

    told = asyncio.run(main())
    outcome = {"job": "settle", "unknown": "bury"}.get(last, "bury" if attempts == 1 else "retry")
    assert sorted(told) == sorted(
        [("begin", n) for n in (1, 2, 3, 4)] + [(outcome, 1), (outcome, 3), ("settle", 2), ("settle", 4)]
    )
    for (first, begun), (second, ended) in zip(told[::2], told[1::2], strict=True):
        assert (first, begun) == ("begin", ended)
        assert second != "begin"


def test_a_suspect_that_was_handled_in_a_thread_lets_the_next_one_begin() -> None:
    jobs: Any = type("Jobs", (Blocking,), {"begun": []})

    async def main() -> Telling:
        layer = Telling()
        await layer.send_suspects("a", [event(n) for n in range(5)])
        await layer.send_many("a", [event(n) for n in range(5, 50)])
        await burst(jobs.as_asgi(), layer, {"a": service(3)})
        return layer

    layer = asyncio.run(main())
    assert sorted(jobs.begun) == list(range(50))
    assert [n for what, n in layer.told if what == "begin"] == [0, 1, 2, 3, 4]


def test_suspects_that_wait_for_their_turn_when_the_worker_stops_come_again_as_they_were(
    consumer: Any, until: Until
) -> None:
    async def main() -> list[tuple[int, int, bool]]:
        layer = Telling()
        await layer.send_suspects("a", [event(n, "hold") for n in range(1, 5)])
        worker = Worker(consumer.as_asgi(), {"a": service(concurrency=3)}, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: consumer.begun and len(worker._inboxes[0].ledger.starting) == 2)
        worker.quiet()
        consumer.release.set()
        await end(worker, serving)
        assert consumer.begun == [1]
        taken = [one for _ in range(3) for one in await layer.take("a", 9, lease=60)]
        return [(one.event["n"], one.attempt, one.suspect) for one in taken if one.event]

    assert asyncio.run(main()) == [(2, 1, True), (3, 1, True), (4, 1, True)]


def test_a_suspect_that_is_being_begun_when_the_worker_stops_comes_again_as_not_begun(
    consumer: Any, until: Until
) -> None:
    class Halting(Telling):
        async def begin(self, delivery: Delivery) -> bool:
            await super().begin(delivery)
            await asyncio.Event().wait()
            return True

    async def main() -> tuple[int, bool]:
        layer = Halting()
        await layer.send_suspects("a", [event(1)])
        worker = Worker(consumer.as_asgi(), {"a": service()}, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: layer.told)
        await end(worker, serving)
        (again,) = await layer.take("a", 9, lease=0)
        (again,) = await layer.take("a", 9, lease=60)
        return again.attempt, again.suspect

    assert asyncio.run(main()) == (1, True)
    assert consumer.begun == []


def test_a_suspect_that_was_begun_after_the_worker_went_quiet_comes_again_as_not_begun(consumer: Any) -> None:
    class Quieting(Telling):
        worker: Worker

        async def begin(self, delivery: Delivery) -> bool:
            self.worker.quiet()
            return await super().begin(delivery)

    async def main() -> list[tuple[int, bool]]:
        layer = Quieting()
        await layer.send_suspects("a", [event(1)])
        layer.worker = Worker(consumer.as_asgi(), {"a": service()}, layer)
        await asyncio.wait_for(layer.worker.serve(), 20)
        await layer.take("a", 9, lease=0, wait=False)
        return [(again.attempt, again.suspect) for again in await layer.take("a", 9, lease=60, wait=False)]

    assert asyncio.run(main()) == [(1, True)]
    assert consumer.begun == []


def test_an_application_that_no_longer_waits_for_an_event_loses_no_suspect(until: Until) -> None:
    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        receiving = asyncio.ensure_future(receive())
        instances.append(receiving)
        await asyncio.wait([receiving])
        await asyncio.Event().wait()

    instances: list[asyncio.Future[Event]] = []

    async def main() -> list[tuple[int, bool]]:
        layer = Telling()
        await layer.send_suspects("a", [event(1), event(2)])
        worker = Worker(impatient, {"a": service(concurrency=2)}, layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: any(one.done() for one in instances) and worker._inboxes[0].ledger.starting)
        next(one for one in instances if not one.done()).cancel()
        await until(lambda: worker._inboxes[0].ledger.suspects)
        await end(worker, serving, 0)
        return [(one.event["n"], one.suspect) for one in await layer.take("a", 9, lease=60, wait=False) if one.event]

    assert asyncio.run(main()) == [(2, True)]


def test_a_suspect_whose_lease_has_ended_is_left_to_another_worker(
    consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        layer = Telling()
        layer.lost = {1}
        await layer.send_suspects("a", [event(1), event(2)])
        await burst(consumer.as_asgi(), layer, {"a": service()})

    asyncio.run(main())
    assert consumer.begun == [2]
    assert "channel 'a': the lease of an event ended before its handler started" in caplog.text


def test_a_layer_that_cannot_note_that_a_suspect_begins_blocks_no_channel(
    consumer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("channelmap.worker.backoff.FIRST_DELAY", 0.001)

    async def main() -> None:
        layer = Telling()
        layer.begins_with = [LayerError("memory://", "refused by the test") for _ in range(4)]
        await layer.send_suspects("a", [event(1), event(2)])
        await burst(consumer.as_asgi(), layer, {"a": service()})

    asyncio.run(main())
    assert consumer.begun == [1, 2]
    # Three tries for the first event, and one that fails for the second.
    tried = [record.getMessage().partition(":")[2] for record in caplog.records if "cannot" in record.getMessage()]
    assert [line.partition(",")[0] for line in tried] == [" cannot begin an event"] * 4
    assert ["giving up" in line for line in tried] == [False, False, True, False]
    assert "ended before its handler started" not in caplog.text


def test_the_lease_of_a_suspect_that_waits_for_its_turn_is_renewed(consumer: Any, until: Until) -> None:
    class Renewing(Telling):
        async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
            self._note("renew", deliveries)
            await super().renew(deliveries, lease)

    async def main() -> None:
        layer = Renewing()
        await layer.send_suspects("a", [event(1, "hold"), event(2, "hold")])
        worker = Worker(consumer.as_asgi(), {"a": service(concurrency=2)}, layer, timing=Timing(lease=0.03))
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: {("renew", 1), ("renew", 2)} <= set(layer.told))
        assert consumer.begun == [1]
        await end(worker, serving, 0)

    asyncio.run(main())


def test_an_event_beyond_the_attempts_that_killed_nobody_becomes_a_dead_letter_with_a_true_reason(
    consumer: Any,
) -> None:
    async def main() -> list[DeadLetter]:
        layer = Telling()
        await layer.send("a", event(1))
        (delivery,) = await layer.take("a", 1, lease=60)
        await layer.retry(delivery, 0)
        await burst(consumer.as_asgi(), layer, {"a": service(attempts=1)})
        return await layer.dead_letters()

    (letter,) = asyncio.run(main())
    assert (letter.attempts, letter.reason) == (2, "it was delivered as attempt 2, after its last one")
    assert consumer.begun == []
