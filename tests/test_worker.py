"""The worker moves events into an application, and whatever goes wrong costs one event and nothing else."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from channelmap import AsyncConsumer, ChannelNameRouter, StopConsumer, SyncConsumer, Worker, load_router
from channelmap.asgi import Application, Event
from channelmap.layer import current_layer
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service

Until = Callable[..., Awaitable[None]]
Services = Mapping[str, Service] | Sequence[str]


def job(number: int, event_type: str = "job") -> Event:
    return {"type": event_type, "n": number}


@asynccontextmanager
async def working(
    application: Application,
    layer: MemoryChannelLayer,
    channels: Services = ("a",),
    deadline: float = 1_000.0,
) -> AsyncIterator[Worker]:
    """A worker that serves while the block runs, and is stopped at its end."""
    current_layer.set(layer)
    worker = Worker(application, channels, layer)
    serving = asyncio.ensure_future(worker.serve())
    try:
        yield worker
    finally:
        worker.stop(deadline)
        # Whatever the deadline: a worker ends as soon as it can.
        await asyncio.wait_for(serving, 20)


def burst(
    application: Application,
    events: list[Event],
    service: Service | None = None,
    layer: MemoryChannelLayer | None = None,
) -> MemoryChannelLayer:
    """Send events to channel `a`, let a worker serve what is there, and return the layer."""
    layer = layer or MemoryChannelLayer()

    async def main() -> None:
        current_layer.set(layer)
        await layer.send_many("a", events)
        worker = Worker(application, {"a": service or Service()}, layer, burst=True)
        await asyncio.wait_for(worker.serve(), 30)

    asyncio.run(main())
    return layer


class Mute(Exception):
    """An exception whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Untexted(Exception):
    """An exception whose text is not text."""

    def __str__(self) -> Any:
        return 5  # noqa: PLE0307  (that is what is wrong with it)


class Jobs(AsyncConsumer):
    """Notes what it handles; fails, stops, exits or answers when it is told to."""

    seen: list[Any]

    async def job(self, event: Event) -> None:
        self.seen.append(event["n"])

    async def fail(self, event: Event) -> None:
        raise ValueError("boom")

    async def stop(self, event: Event) -> None:
        self.seen.append(event["n"])
        raise StopConsumer

    async def leave(self, event: Event) -> None:
        raise SystemExit(3)

    async def interrupt(self, event: Event) -> None:
        raise KeyboardInterrupt

    async def mute(self, event: Event) -> None:
        raise Mute

    async def untexted(self, event: Event) -> None:
        raise Untexted

    async def exhausted(self, event: Event) -> None:
        next(iter(()))

    async def give(self, event: Event) -> AsyncIterator[Event]:
        yield event

    async def answer(self, event: Event) -> None:
        await self.send({"type": "anything"})

    async def who(self, event: Event) -> None:
        self.seen.append((id(self), self.scope["type"], self.scope["channel"], self.channel_name))


@pytest.fixture
def jobs() -> Any:
    """A consumer class of the test's own."""
    return type("Jobs", (Jobs,), {"seen": []})


def test_events_are_handled_in_order_by_one_instance(jobs: Any) -> None:
    burst(jobs.as_asgi(), [job(n) for n in range(2_000)])

    assert jobs.seen == list(range(2_000))


def test_an_instance_keeps_its_scope_and_its_channel_name_from_event_to_event(jobs: Any) -> None:
    burst(jobs.as_asgi(), [job(1, "who"), job(2, "who")])

    first, second = jobs.seen
    assert first == second
    assert first[1:3] == ("channel", "a")
    assert first[3].startswith("specific.")


def test_a_failing_handler_costs_its_own_event_and_nothing_else(jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    events = [job(n, "fail" if n == 6 else "job") for n in range(1, 51)]

    layer = burst(jobs.as_asgi(), events)

    assert jobs.seen == [n for n in range(1, 51) if n != 6]
    (letter,) = asyncio.run(layer.dead_letters())
    assert (letter.channel, letter.code, letter.event, letter.reason) == ("a", "failed", events[5], "ValueError: boom")
    assert 'raise ValueError("boom")' in letter.traceback
    (record,) = caplog.records
    assert record.getMessage() == "channel 'a': 'fail' failed: ValueError: boom; kept as a dead letter"
    assert record.exc_info


@pytest.mark.parametrize(
    ("event_type", "reason"),
    [
        ("nothing.handles.this", "ValueError: No handler for message type nothing.handles.this"),
        ("dispatch", "ValueError: No handler for message type dispatch"),
        ("answer", "NotImplementedError: You must implement application_send()"),
        ("leave", "RuntimeError: the application called sys.exit(3)"),
        ("interrupt", "RuntimeError: the application raised KeyboardInterrupt"),
        ("mute", "Mute: its text is not available"),
        ("untexted", "Untexted: its text is not available"),
        ("exhausted", "RuntimeError: coroutine raised StopIteration"),
        ("give", "TypeError: Jobs.give is a generator: it must not contain 'yield'"),
    ],
)
def test_whatever_an_application_raises_is_the_failure_of_that_event(jobs: Any, event_type: str, reason: str) -> None:
    layer = burst(jobs.as_asgi(), [job(1), job(2, event_type), job(3)])

    assert jobs.seen == [1, 3]
    assert [(letter.code, letter.reason) for letter in asyncio.run(layer.dead_letters())] == [("failed", reason)]


@pytest.mark.parametrize(
    ("event_type", "reason"),
    [
        ("interrupt", "RuntimeError: the application raised KeyboardInterrupt"),
        ("mute", "Mute: its text is not available"),
        ("exhausted", "RuntimeError: SyncJobs raised StopIteration"),
        ("give", "TypeError: SyncJobs.give is a generator: it must not contain 'yield'"),
    ],
)
def test_whatever_a_sync_handler_raises_is_the_failure_of_that_event(event_type: str, reason: str) -> None:
    seen = []

    class SyncJobs(SyncConsumer):
        def job(self, event: Event) -> None:
            seen.append(event["n"])

        def interrupt(self, event: Event) -> None:
            raise KeyboardInterrupt

        def mute(self, event: Event) -> None:
            raise Mute

        def exhausted(self, event: Event) -> None:
            next(iter(()))

        def give(self, event: Event) -> Iterator[Event]:
            yield event

    layer = burst(SyncJobs.as_asgi(), [job(1), job(2, event_type), job(3)])

    assert seen == [1, 3]
    assert [(letter.code, letter.reason) for letter in asyncio.run(layer.dead_letters())] == [("failed", reason)]


def test_a_thread_that_cannot_be_started_costs_no_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    failures = 2
    start = threading.Thread.start

    class Threaded(SyncConsumer):
        def job(self, event: Event) -> None:
            seen.append(event["n"])

    def fail_at_first(thread: threading.Thread) -> None:
        nonlocal failures
        if thread.name.startswith("Threaded") and failures:
            failures -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_at_first)
    layer = burst(Threaded.as_asgi(), [job(1), job(2)])

    assert seen == [1, 2]
    assert asyncio.run(layer.dead_letters()) == []
    message = "channel 'a': the application ended before it took an event: RuntimeError: can't start new thread"
    assert [record.getMessage() for record in caplog.records] == [message] * 2


def test_stop_consumer_settles_the_event_and_a_fresh_instance_goes_on(
    jobs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer = burst(jobs.as_asgi(), [job(1), job(2, "stop"), job(3)])

    assert jobs.seen == [1, 2, 3]
    assert asyncio.run(layer.dead_letters()) == []
    assert caplog.records == []


def test_an_event_without_a_type_is_unreadable_and_ends_nothing(jobs: Any) -> None:
    layer = burst(jobs.as_asgi(), [job(1), {"x": 1}, {"type": ""}, job(2)])

    assert jobs.seen == [1, 2]
    assert [(letter.code, letter.reason, letter.event) for letter in asyncio.run(layer.dead_letters())] == [
        ("unreadable", "the event has no type", {"x": 1}),
        ("unreadable", "the event has no type", {"type": ""}),
    ]


@pytest.mark.parametrize("base", ["AsyncConsumer", "SyncConsumer"])
def test_what_the_gate_refuses_becomes_a_dead_letter_with_its_reasons(
    base: str, consumer_module: Callable[[str], ModuleType], contract_file: Callable[..., Path]
) -> None:
    module = consumer_module(
        f"""
        class Jobs({base}):
            seen = []

            {"async " if base == "AsyncConsumer" else ""}def job(self, event):
                self.seen.append(event["id"])
        """
    )
    router = load_router(contract_file(f"{module.__name__}.Jobs"))
    good = [{"type": "job", "id": n} for n in range(100)]
    bad: list[Event] = [{"type": "job", "id": "one"}, {"type": "jo", "id": 1}, {"type": "job", "id": b"1"}]
    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send_many("jobs", [*good[:50], *bad, *good[50:]])
        await asyncio.wait_for(Worker(router, ["jobs"], layer, burst=True).serve(), 30)

    asyncio.run(main())

    assert module.Jobs.seen == list(range(100))
    letters = asyncio.run(layer.dead_letters("jobs"))
    assert [(letter.code, letter.event) for letter in letters] == list(
        zip(["invalid", "unroutable", "invalid"], bad, strict=True)
    )
    assert [len(letter.violations) for letter in letters] == [1, 0, 1]
    assert letters[0].violations[0].startswith("$.id ")


def test_in_burst_mode_what_handlers_send_is_served_too() -> None:
    class Chain(AsyncConsumer):
        seen: list[int] = []

        async def job(self, event: Event) -> None:
            self.seen.append(event["n"])
            if event["n"] < 5:
                await self.channel_layer.send("b" if event["n"] % 2 else "a", job(event["n"] + 1))

    layer = MemoryChannelLayer()

    async def main() -> None:
        current_layer.set(layer)
        await layer.send("a", job(0))
        router = ChannelNameRouter({"a": Chain.as_asgi(), "b": Chain.as_asgi()})
        await asyncio.wait_for(Worker(router, ["a", "b"], layer, burst=True).serve(), 30)

    asyncio.run(main())

    assert Chain.seen == [0, 1, 2, 3, 4, 5]


class Overlap(AsyncConsumer):
    """Notes how many of its handlers run at the same time."""

    running: Counter[str]
    most: Counter[str]
    release: asyncio.Event

    async def job(self, event: Event) -> None:
        channel = self.scope["channel"]
        for key in (channel, "all"):
            self.running[key] += 1
            self.most[key] = max(self.most[key], self.running[key])
        await self.release.wait()
        for key in (channel, "all"):
            self.running[key] -= 1


@pytest.fixture
def overlap() -> Any:
    return type("Overlap", (Overlap,), {"running": Counter(), "most": Counter(), "release": asyncio.Event()})


def test_one_channel_handles_one_event_at_a_time_and_two_channels_overlap(overlap: Any, until: Until) -> None:
    layer = MemoryChannelLayer()

    async def main() -> None:
        for channel in ("a", "a", "b", "b"):
            await layer.send(channel, job(1))
        async with working(overlap.as_asgi(), layer, ["a", "b"]):
            await until(lambda: overlap.running["all"] == 2)
            overlap.release.set()
        assert overlap.most == {"a": 1, "b": 1, "all": 2}

    asyncio.run(main())


def test_with_concurrency_so_many_events_of_a_channel_are_handled_at_once(overlap: Any, until: Until) -> None:
    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send_many("a", [job(n) for n in range(10)])
        async with working(overlap.as_asgi(), layer, {"a": Service(concurrency=3)}):
            await until(lambda: overlap.running["a"] == 3)
            assert await layer.waiting("a") == 7
            overlap.release.set()
            await until(lambda: overlap.running["a"] == 0)
        assert overlap.most["a"] == 3

    asyncio.run(main())


def test_sync_handlers_of_two_channels_do_not_wait_for_one_another(until: Until) -> None:
    both = threading.Barrier(2, timeout=20)

    class Meeting(SyncConsumer):
        met: list[int] = []

        def job(self, event: Event) -> None:
            self.met.append(both.wait())

    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send("a", job(1))
        await layer.send("b", job(1))
        async with working(Meeting.as_asgi(), layer, ["a", "b"]):
            await until(lambda: len(Meeting.met) == 2)

    asyncio.run(main())


def test_a_sync_handler_sends_through_the_workers_own_loop(until: Until) -> None:
    class Sender(SyncConsumer):
        loops: list[Any] = []

        def job(self, event: Event) -> None:
            async_to_sync(self.note)(event)
            async_to_sync(self.channel_layer.send)("b", event)

        async def note(self, event: Event) -> None:
            self.loops.append(asyncio.get_running_loop())

    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send_many("a", [job(1), job(2)])
        async with working(Sender.as_asgi(), layer):
            assert [(await layer.receive("b"))["n"], (await layer.receive("b"))["n"]] == [1, 2]
        assert set(Sender.loops) == {asyncio.get_running_loop()}

    asyncio.run(main())


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_a_handler_over_its_timeout_fails_and_the_next_event_is_handled(base: Any, until: Until) -> None:
    release, done = threading.Event(), []

    class Slow(base):  # type: ignore[misc]
        if base is AsyncConsumer:

            async def hang(self, event: Event) -> None:
                await asyncio.Event().wait()

            async def job(self, event: Event) -> None:
                done.append(event["n"])
        else:

            def hang(self, event: Event) -> None:  # type: ignore[misc]
                release.wait(20)

            def job(self, event: Event) -> None:  # type: ignore[misc]
                done.append(event["n"])

    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send_many("a", [job(1), job(2, "hang"), job(3)])
        async with working(Slow.as_asgi(), layer, {"a": Service(timeout=0.05)}):
            await until(lambda: done == [1, 3])
        (letter,) = await layer.dead_letters()
        assert (letter.code, letter.event) == ("failed", job(2, "hang"))
        assert letter.reason == "the handler took longer than 0.05 s"

    try:
        asyncio.run(main())
    finally:
        release.set()


def test_at_least_once_what_a_crashed_worker_had_in_hand_comes_again(jobs: Any) -> None:
    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send_many("a", [job(1), job(2)])
        await layer.take("a", 2, lease=0.001)
        await asyncio.wait_for(layer_has("a", layer), 20)
        worker = Worker(jobs.as_asgi(), {"a": Service(retry=RetryPolicy())}, layer, burst=True)
        await worker.serve()

    async def layer_has(channel: str, layer: MemoryChannelLayer) -> None:
        await layer.give_back(await layer.take(channel, 2, lease=30))

    asyncio.run(main())

    assert sorted(jobs.seen) == [1, 2]


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_a_consumer_that_tells_its_channel_name_is_reached_by_it_and_by_its_groups(base: Any, until: Until) -> None:
    class Member(base):  # type: ignore[misc]
        seen: list[Any] = []

        if base is AsyncConsumer:

            async def join(self, event: Event) -> None:
                await self.channel_layer.group_add("g", self.channel_name)
                self.seen.append("joined")

            async def job(self, event: Event) -> None:
                self.seen.append(event["n"])
        else:

            def join(self, event: Event) -> None:  # type: ignore[misc]
                async_to_sync(self.channel_layer.group_add)("g", self.channel_name)
                self.seen.append("joined")

            def job(self, event: Event) -> None:  # type: ignore[misc]
                self.seen.append(event["n"])

    layer = MemoryChannelLayer()

    async def main() -> None:
        await layer.send_many("a", [{"type": "join"}, job(1)])
        async with working(Member.as_asgi(), layer):
            await until(lambda: Member.seen == ["joined", 1])
            await layer.group_send("g", job(2))
            await until(lambda: Member.seen == ["joined", 1, 2])
            await layer.send("a", job(3))
            await until(lambda: Member.seen == ["joined", 1, 2, 3])

    asyncio.run(main())


def test_a_worker_without_a_layer_is_refused_in_channels_words() -> None:
    with pytest.raises(ValueError, match="^Channel layer is not valid$"):
        Worker(Jobs.as_asgi(), ["a"], None)  # type: ignore[arg-type]


def test_a_workers_log_holds_no_payload(jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    burst(jobs.as_asgi(), [{"type": "fail", "secret": "hunter2"}, {"secret": "hunter2"}])

    assert caplog.records
    assert "hunter2" not in caplog.text
