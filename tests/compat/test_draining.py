"""`channelmap.testing.drain` with consumers of the real Channels."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import channels.consumer
import pytest

from channelmap.testing import drain, memory_layer
from tests.testing.private_events import joining, require_private_events


@pytest.mark.parametrize("base", ["SyncConsumer", "AsyncConsumer"])
def test_private_events_are_handled_between_the_others(
    project: Path, consumer_module: Callable[[str], ModuleType], base: str
) -> None:
    require_private_events(project, consumer_module(joining("channels.consumer", base)))


def test_their_layer_is_that_of_the_test_and_afterwards_that_of_the_settings(
    project: Path, consumer_module: Callable[[str], ModuleType]
) -> None:
    module = consumer_module(
        "from channels.consumer import AsyncConsumer as Base\n\n"
        "class Jobs(Base):\n"
        "    async def job(self, event):\n"
        "        assert self.scope == {'type': 'channel', 'channel': 'jobs'}\n"
        "        await self.channel_layer.send('results', {'type': 'result'})\n"
    )
    consumer = f"{module.__name__}.Jobs"
    (project / "channels.yaml").write_text(
        "version: 1\nchannels:\n"
        f"  jobs: {{consumer: {consumer}, events: {{job: true}}}}\n"
        f"  results: {{consumer: {consumer}, events: {{result: true}}}}\n"
    )
    usual = channels.consumer.get_channel_layer
    with memory_layer() as layer:
        layer.send_sync("jobs", {"type": "job"})
        with pytest.raises(ValueError, match="No handler for message type result"):
            drain()
        assert [letter.channel for letter in asyncio.run(layer.dead_letters())] == ["results"]
    assert channels.consumer.get_channel_layer is usual
