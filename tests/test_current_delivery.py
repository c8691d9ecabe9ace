"""A handler, and whatever it calls, may ask which delivery it handles; nothing else sees one."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from channelmap import AsyncConsumer, CurrentDelivery, Retry, SyncConsumer, Worker, current_delivery
from channelmap.asgi import Application, Event, Receive, Scope, Send
from channelmap.layer import current_layer
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.layers.sqlite import SQLiteChannelLayer
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import Timing
from tests.turned_clock import TurnedClock
from tests.worker.scripted import Stage, play

Until = Callable[..., Awaitable[None]]
Seen = list[CurrentDelivery | None]
LEASED = Service(retry=RetryPolicy(attempts=2))


def serve(application: Application, events: list[Event], service: Service = LEASED, **options: Any) -> None:
    """Let a worker serve events of a channel `a` that memory holds."""

    async def main() -> None:
        layer = options.pop("layer", None) or MemoryChannelLayer()
        current_layer.set(layer)
        await layer.send_many("a", events)
        await asyncio.wait_for(Worker(application, {"a": service}, layer, burst=True, **options).serve(), 30)
        await layer.close()

    asyncio.run(main())


async def ask_later() -> CurrentDelivery | None:
    await asyncio.sleep(0)
    return current_delivery()


def async_consumer(seen: Seen) -> Application:
    class Async(AsyncConsumer):
        async def job(self, event: Event) -> None:
            seen.extend(
                [
                    self.delivery,
                    current_delivery(),
                    await ask_later(),
                    await asyncio.create_task(ask_later()),
                    await asyncio.to_thread(current_delivery),
                    await sync_to_async(current_delivery)(),
                    await sync_to_async(current_delivery, thread_sensitive=False)(),
                ]
            )
            raise Retry(after=0)

    return Async.as_asgi()


def sync_consumer(seen: Seen) -> Application:
    class Sync(SyncConsumer):
        def job(self, event: Event) -> None:
            seen.extend([self.delivery, current_delivery(), async_to_sync(ask_later)()])
            raise Retry(after=0)

    return Sync.as_asgi()


def own_application(seen: Seen) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await receive()
            seen.extend([current_delivery(), await asyncio.to_thread(current_delivery)])
            raise Retry(after=0)

    return application


@pytest.mark.parametrize("make", [async_consumer, sync_consumer, own_application])
@pytest.mark.parametrize("timeout", [None, 20.0])
def test_a_handler_and_all_that_it_calls_see_its_delivery(
    make: Callable[[Seen], Application], timeout: float | None, tmp_path: Path
) -> None:
    seen: Seen = []
    file = SQLiteChannelLayer(f"sqlite:///{tmp_path}/a.db")
    service = Service(timeout=timeout, retry=RetryPolicy(attempts=2))

    serve(make(seen), [{"type": "job"}], service, layer=file)

    (letter,) = asyncio.run(SQLiteChannelLayer(f"sqlite:///{tmp_path}/a.db").dead_letters())
    half = len(seen) // 2
    for attempt, deliveries in enumerate((seen[:half], seen[half:]), 1):
        assert set(deliveries) == {CurrentDelivery(letter.event_id, "a", attempt, letter.sent)}


def test_a_delivery_has_the_id_of_its_event() -> None:
    seen: Seen = []

    async def scene(on: Stage) -> None:
        event = {"type": "job", "then": lambda: seen.append(current_delivery())}
        on.layer.put("a", event, raw_id=bytes(range(12)), attempt=2)
        await on.start()

    play(scene)
    assert seen == [CurrentDelivery("000102030405060708090a0b", "a", 2, 0.0)]


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_each_of_the_events_that_an_instance_handles_has_its_own_delivery(base: Any) -> None:
    seen: list[tuple[int, str]] = []

    class Jobs(base):  # type: ignore[misc]
        if base is AsyncConsumer:

            async def job(self, event: Event) -> None:
                seen.append((event["n"], self.delivery.id))
        else:

            def job(self, event: Event) -> None:  # type: ignore[misc]
                seen.append((event["n"], self.delivery.id))

    async def scene(on: Stage) -> None:
        on.application = Jobs.as_asgi()
        for number in range(200):
            on.layer.put("a", {"type": "job", "n": number}, raw_id=number.to_bytes(12))
        await on.start({"a": Service()}, burst=True)
        async with asyncio.timeout(20):
            while not on.running.done():
                await on.turn(1)

    play(scene)
    assert seen == [(number, f"{number:024x}") for number in range(200)]


def test_outside_of_a_handler_there_is_no_delivery() -> None:
    seen: Seen = [current_delivery()]

    class Jobs(AsyncConsumer):
        def __init__(self) -> None:
            seen.append(current_delivery())

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def watched() -> Event:
                # The worker settles before it waits: this runs while the instance has nothing to handle.
                asyncio.get_running_loop().call_soon(lambda: seen.append(current_delivery()))
                return await receive()

            await super().__call__(scope, watched, send)

        async def job(self, event: Event) -> None: ...

    serve(Jobs.as_asgi(), [{"type": "job"}])

    assert seen[0] is seen[1] is seen[-1] is None


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_a_private_event_has_no_delivery_even_if_it_is_handled_right_behind_another(base: Any, until: Until) -> None:
    public: Seen = []
    private: Seen = []
    threads: set[int] = set()

    class Jobs(base):  # type: ignore[misc]
        if base is AsyncConsumer:

            async def job(self, event: Event) -> None:
                public.append(self.delivery)
                await self.channel_layer.send(self.channel_name, {"type": "told"})

            async def told(self, event: Event) -> None:
                private.extend([self.delivery, await asyncio.to_thread(current_delivery)])
        else:

            def job(self, event: Event) -> None:  # type: ignore[misc]
                threads.add(threading.get_ident())
                public.append(self.delivery)
                async_to_sync(self.channel_layer.send)(self.channel_name, {"type": "told"})

            def told(self, event: Event) -> None:  # type: ignore[misc]
                threads.add(threading.get_ident())
                private.extend([self.delivery, async_to_sync(ask_later)()])

    async def main() -> None:
        layer = MemoryChannelLayer()
        current_layer.set(layer)
        await layer.send_many("a", [{"type": "job"}] * 50)
        worker = Worker(Jobs.as_asgi(), ["a"], layer)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: len(private) == 100)
        worker.stop()
        await serving

    asyncio.run(main())
    assert private == [None] * 100
    assert None not in public
    assert len(public) == 50
    assert len(threads) == (base is SyncConsumer)


def test_a_thread_that_outlives_its_handler_sees_no_other_delivery(until: Until) -> None:
    seen: list[tuple[str, CurrentDelivery | None]] = []
    hanging, release, looked = threading.Event(), threading.Event(), threading.Event()

    class Jobs(SyncConsumer):
        def hang(self, event: Event) -> None:
            seen.append(("hang", self.delivery))
            hanging.set()
            release.wait(20)
            seen.append(("late", self.delivery))
            looked.set()

        def job(self, event: Event) -> None:
            release.set()
            looked.wait(20)
            seen.append(("job", self.delivery))

    async def main() -> None:
        clock, layer = TurnedClock(), MemoryChannelLayer()
        await layer.send_many("a", [{"type": "hang"}, {"type": "job"}])
        worker = Worker(Jobs.as_asgi(), {"a": Service(timeout=5)}, layer, timing=Timing(clock=clock))
        serving = asyncio.ensure_future(worker.serve())
        await until(hanging.is_set)
        await clock.turn(5)
        await until(lambda: len(seen) == 3)
        worker.stop()
        await until(serving.done)
        await serving

    try:
        asyncio.run(main())
    finally:
        release.set()
        looked.set()
    assert [(who, delivery is None) for who, delivery in seen] == [("hang", False), ("late", True), ("job", False)]


def test_the_ledger_keeps_one_place_for_each_slot_however_many_instances_there_were() -> None:
    async def scene(on: Stage) -> None:
        on.layer.fill("a", [{"type": "job", "fails": "boom"}] * 50)
        await on.start({"a": Service(concurrency=2)})
        assert len(on.layer.letters) == 50
        (inbox,) = on.worker._inboxes
        assert len(inbox.ledger.holders) == 2

    play(scene)


def test_a_delivery_is_a_value() -> None:
    first, second = CurrentDelivery("00", "a", 1, 0.5), CurrentDelivery("00", "a", 1, 0.5)
    assert first == second
    with pytest.raises(AttributeError):
        first.attempt = 2  # type: ignore[misc]
