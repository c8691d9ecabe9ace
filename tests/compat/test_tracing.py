"""Spans with the real `channels`: its consumers under our worker, and our gate under its worker."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.layers import channel_layers
from channels.worker import Worker as ChannelsWorker
from opentelemetry import trace

from channelmap import AsyncConsumer as OurAsyncConsumer
from channelmap.asgi import Event
from channelmap.layers.memory import MemoryChannelLayer
from tests.traces import JOB, Site, Spans, assert_delivers, attributes, consumer, error_type, note_nothing

Until = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _channels_layer() -> None:
    """Channels' consumers find their layer by its alias."""
    channel_layers.set("default", MemoryChannelLayer())


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_the_span_of_channels_own_consumer_lasts_until_it_asks_for_the_next_event(
    base: type[Any], tmp_path: Path, spans: Spans
) -> None:
    site = Site(tmp_path)
    current: list[tuple[bool, int]] = []

    def handle(_consumer: Any, event: Event) -> None:
        current.append((trace.get_current_span().is_recording(), len(spans("process"))))
        if event["id"] == 2:
            raise ValueError("boom")

    site.handle(consumer(base, handle), *({"type": "job", "id": n} for n in range(3)))

    assert current == [(False, 0), (False, 1), (False, 2)]
    assert [error_type(process) for process in spans("process")] == [None, None, "ValueError"]
    for send, process in zip(spans("send"), spans("process"), strict=True):
        assert_delivers(process, send)
        assert attributes(process)["messaging.message.id"] == attributes(send)["messaging.message.id"]
        assert process.start_time <= (process.end_time or 0)  # type: ignore[operator]


def test_a_handler_of_channels_own_consumer_that_takes_too_long_has_timed_out(tmp_path: Path, spans: Spans) -> None:
    site = Site(tmp_path, options="timeout: 0.05")

    class Jobs(AsyncConsumer):
        async def job(self, event: Event) -> None:
            await asyncio.Event().wait()

    site.handle(Jobs.as_asgi(), JOB)

    assert error_type(spans.only("process")) == "timeout"


@pytest.mark.parametrize("base", [OurAsyncConsumer, AsyncConsumer])
def test_the_gate_traces_under_channels_own_worker(base: type[Any], tmp_path: Path, spans: Spans, until: Until) -> None:
    site = Site(tmp_path)

    async def main() -> None:
        for n in range(2):
            await site.layer.send("jobs", {"type": "job", "id": n})
        worker = ChannelsWorker(site.router(consumer(base, note_nothing)), ["jobs"], site.layer)
        serving = asyncio.ensure_future(worker.arun())
        await until(lambda: len(spans("process")) == 2)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    site.run(main())

    process = spans("process")[0]
    assert_delivers(process, spans("send")[0])
    assert "channelmap.attempt" not in attributes(process)
    assert "messaging.message.id" not in attributes(process)
