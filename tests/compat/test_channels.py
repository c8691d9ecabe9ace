"""Compatibility with the real `channels`: our router under its worker, and its consumers under ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from channels.worker import Worker as ChannelsWorker
from django.db import models

from channelmap import Reject, Retry, Worker, current_delivery, load_router
from channelmap.asgi import Event
from channelmap.check.rules import check
from channelmap.consumers import handlers_of
from channelmap.layers import open_backend
from channelmap.layers.memory import MemoryChannelLayer
from channelmap.limits import RetryPolicy, Service
from channelmap.loader import load

Until = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def fresh_layer() -> Any:
    """Give Channels' consumers, which look up their layer by its alias, a new layer for each test."""
    layer = MemoryChannelLayer()
    channel_layers.set("default", layer)
    return layer


@asynccontextmanager
async def channels_worker(application: Any, layer: Any) -> AsyncIterator[None]:
    serving = asyncio.ensure_future(ChannelsWorker(application, ["jobs"], layer).arun())
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@asynccontextmanager
async def our_worker(application: Any, layer: Any) -> AsyncIterator[None]:
    worker = Worker(application, ["jobs"], layer)
    serving = asyncio.ensure_future(worker.serve())
    try:
        yield
    finally:
        worker.stop(5)
        await serving


@pytest.mark.parametrize("make_layer", [InMemoryChannelLayer, MemoryChannelLayer])
@pytest.mark.parametrize("base", ["AsyncConsumer", "SyncConsumer"])
def test_our_router_validates_under_channels_own_worker(  # noqa: PLR0917
    make_layer: Any,
    base: str,
    consumer_module: Callable[[str], ModuleType],
    contract_file: Callable[..., Path],
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = consumer_module(
        f"""
        class Jobs({base}):
            seen = []

            {"async " if base == "AsyncConsumer" else ""}def job(self, event):
                self.seen.append((event["id"], self.scope, self.delivery))
        """
    )
    router = ProtocolTypeRouter({"channel": load_router(contract_file(f"{module.__name__}.Jobs"))})

    async def main() -> None:
        layer = make_layer()
        async with channels_worker(router, layer):
            for event_id in (1, "two", 3):
                await layer.send("jobs", {"type": "job", "id": event_id})
            await until(lambda: len(module.Jobs.seen) == 2)

    asyncio.run(main())

    assert module.Jobs.seen == [
        (1, {"type": "channel", "channel": "jobs"}, None),
        (3, {"type": "channel", "channel": "jobs"}, None),
    ]
    assert [record.name for record in caplog.records] == ["channelmap.gate"]


class Kind(models.TextChoices):
    JOB = "job", "A job"


class Level(models.IntegerChoices):
    LOW = 1, "rather low"


@pytest.mark.parametrize("validate", ["enforce", "warn"])
@pytest.mark.parametrize("base", ["AsyncConsumer", "SyncConsumer"])
@pytest.mark.parametrize("start_worker", [channels_worker, our_worker])
def test_choices_members_sent_through_channels_own_layer_reach_the_handler_as_plain_values(  # noqa: PLR0917
    validate: str,
    base: str,
    start_worker: Any,
    consumer_module: Callable[[str], ModuleType],
    contract_file: Callable[..., Path],
    until: Until,
) -> None:
    module = consumer_module(
        f"""
        class Jobs({base}):
            seen = []

            {"async " if base == "AsyncConsumer" else ""}def job(self, event):
                self.seen.append(repr(event))
        """
    )
    router = load_router(contract_file(f"{module.__name__}.Jobs", options=f"validate: {validate}"))

    async def main() -> None:
        layer: Any = open_backend("channels.layers.InMemoryChannelLayer", {})
        for _ in range(20):
            await layer.inner.send("jobs", {"type": Kind.JOB, "id": Level.LOW})
        async with start_worker(router, layer.inner if start_worker is channels_worker else layer):
            await until(lambda: len(module.Jobs.seen) == 20)

    asyncio.run(main())

    assert module.Jobs.seen == ["{'type': 'job', 'id': 1}"] * 20


class Notes:
    """Handlers for Channels' sync and async consumers."""

    seen: list[Any]


class AsyncNotes(Notes, AsyncConsumer):
    async def job(self, event: Event) -> None:
        self.seen.append(event["id"])

    async def fail(self, event: Event) -> None:
        raise ValueError("boom")

    async def retry(self, event: Event) -> None:
        self.seen.append(current_delivery())
        raise Retry(after=0, reason="busy")

    async def reject(self, event: Event) -> None:
        raise Reject("gone")

    async def stop(self, event: Event) -> None:
        raise StopConsumer

    async def join(self, event: Event) -> None:
        await self.channel_layer.group_add("g", self.channel_name)
        self.seen.append("joined")


class SyncNotes(Notes, SyncConsumer):
    def job(self, event: Event) -> None:
        self.seen.append(event["id"])

    def fail(self, event: Event) -> None:
        raise ValueError("boom")

    def retry(self, event: Event) -> None:
        self.seen.append(current_delivery())
        raise Retry(after=0, reason="busy")

    def reject(self, event: Event) -> None:
        raise Reject("gone")

    def stop(self, event: Event) -> None:
        raise StopConsumer

    def join(self, event: Event) -> None:
        async_to_sync(self.channel_layer.group_add)("g", self.channel_name)
        self.seen.append("joined")


@pytest.mark.parametrize("consumer", [AsyncNotes, SyncNotes])
def test_channels_consumers_run_under_our_worker_and_lose_nothing(
    consumer: Any, fresh_layer: MemoryChannelLayer, until: Until
) -> None:
    consumer.seen = []
    router = ProtocolTypeRouter({"channel": ChannelNameRouter({"jobs": consumer.as_asgi()})})

    async def main() -> None:
        async with our_worker(router, fresh_layer):
            await fresh_layer.send("jobs", {"type": "job", "id": 1})
            await fresh_layer.send("jobs", {"type": "fail"})
            await fresh_layer.send("jobs", {"type": "job", "id": 2})
            await fresh_layer.send("jobs", {"type": "stop"})
            await fresh_layer.send("jobs", {"type": "job", "id": 3})
            await until(lambda: consumer.seen == [1, 2, 3])
            await fresh_layer.send("jobs", {"type": "join"})
            await until(lambda: consumer.seen[-1] == "joined")
            await fresh_layer.group_send("g", {"type": "job", "id": 4})
            await until(lambda: consumer.seen[-1] == 4)
        (letter,) = await fresh_layer.dead_letters()
        assert (letter.code, letter.event) == ("failed", {"type": "fail"})

    asyncio.run(main())


@pytest.mark.parametrize("consumer", [AsyncNotes, SyncNotes])
def test_channels_consumers_can_use_their_delivery_retry_and_reject_under_our_worker(
    consumer: Any, fresh_layer: MemoryChannelLayer
) -> None:
    consumer.seen = []

    async def main() -> None:
        await fresh_layer.send_many("jobs", [{"type": "retry"}, {"type": "reject"}])
        service = Service(retry=RetryPolicy(attempts=2))
        await Worker(consumer.as_asgi(), {"jobs": service}, fresh_layer, burst=True).serve()
        letters = await fresh_layer.dead_letters()
        assert {(one.code, one.reason, one.attempts, one.traceback) for one in letters} == {
            ("failed", "busy", 2, ""), ("rejected-by-handler", "gone", 1, ""),
        }  # fmt: skip

    asyncio.run(main())
    assert [(delivery.channel, delivery.attempt) for delivery in consumer.seen] == [("jobs", 1), ("jobs", 2)]


def test_channels_own_layer_serves_our_worker_through_an_adapter(fresh_layer: Any, until: Until) -> None:
    AsyncNotes.seen = []
    layer = open_backend("channels.layers.InMemoryChannelLayer", {"capacity": 10})

    async def main() -> None:
        async with our_worker(AsyncNotes.as_asgi(), layer):
            await layer.send("jobs", {"type": "job", "id": 1})
            await until(lambda: AsyncNotes.seen == [1])

    asyncio.run(main())


@pytest.mark.parametrize("consumer", [AsyncNotes, SyncNotes])
def test_the_check_knows_the_handlers_of_channels_consumers(consumer: type) -> None:
    assert handlers_of(consumer) == {"job", "fail", "retry", "reject", "stop", "join"}


def test_a_contract_of_channels_consumers_passes_the_check(
    project: Path, consumer_module: Callable[[str], ModuleType], contract_file: Callable[..., Path]
) -> None:
    module = consumer_module(
        """
        from channels.consumer import SyncConsumer as ChannelsSyncConsumer

        class Jobs(ChannelsSyncConsumer):
            def job(self, event): ...
        """
    )

    assert check(load(contract_file(f"{module.__name__}.Jobs"))) == ()


STUCK = """
    import threading
    from channels.consumer import SyncConsumer

    release, seen = threading.Event(), []

    class Jobs(SyncConsumer):
        def stuck(self, event):
            release.wait()

        def job(self, event):
            seen.append(self.scope["channel"])
"""
STUCK_CONTRACT = """
version: 1
layer: memory://
channels:
  a: {{consumer: {module}.Jobs, timeout: 0.05, events: {{stuck: true, job: true}}}}
  b: {{consumer: {module}.Jobs, events: {{job: true}}}}
"""


def test_a_stuck_handler_of_channels_sync_consumer_blocks_no_other_handler(
    project: Path, consumer_module: Callable[[str], ModuleType], until: Until
) -> None:
    module: Any = consumer_module(STUCK)
    (project / "channels.yaml").write_text(STUCK_CONTRACT.format(module=module.__name__))
    contract = load(project / "channels.yaml")
    layer = MemoryChannelLayer()

    async def main() -> None:
        services = {name: channel.service for name, channel in contract.channels.items()}
        worker = Worker(load_router(contract), services, layer)
        serving = asyncio.ensure_future(worker.serve())
        await layer.send("a", {"type": "stuck"})
        await layer.send("a", {"type": "job"})
        await until(lambda: module.seen == ["a"])
        await layer.send("b", {"type": "job"})
        await until(lambda: module.seen == ["a", "b"])
        assert [letter.reason for letter in await layer.dead_letters()] == ["the handler took longer than 0.05 s"]
        module.release.set()
        worker.stop()
        await asyncio.wait_for(serving, 20)

    asyncio.run(main())
