"""A contract with three channels, and consumers that note what they do."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

CONTRACT = """\
version: 1
layer: sqlite:///channels.db
channels:
  orders:
    consumer: {module}.Orders
    delivery: at-least-once
    retry: {{attempts: 2, delay: 60, jitter: 0}}
    events:
      paid: {{schema: {{type: object, properties: {{id: {{type: integer}}}}, required: [id]}}}}
  mail:
    consumer: {module}.Mail
    events: {{sent: true, again: true}}
  chat:
    consumer: {module}.Chat
    events: {{said: true, joined: true}}
"""
CONSUMERS = """\
import threading
from channelmap import AsyncConsumer, Reject, Retry, SyncConsumer, current_delivery, get_channel_layer

seen = []
errors = []


def note(consumer, event):
    delivery = current_delivery()
    seen.append((consumer.scope["channel"], event["type"], event.get("id"), delivery.attempt, threading.get_ident()))
    if errors:
        raise errors.pop(0)


class Orders(SyncConsumer):
    def paid(self, event):
        note(self, event)
        get_channel_layer().send_sync("mail", {"type": "sent", "id": event["id"]})


class Mail(AsyncConsumer):
    async def sent(self, event):
        note(self, event)

    async def again(self, event):
        note(self, event)
        await self.channel_layer.send("mail", event, delay=60)


class Chat(AsyncConsumer):
    async def said(self, event):
        note(self, event)
"""


@pytest.fixture
def shop(project: Path, consumer_module: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    """Return the module of the consumers of `channels.yaml` in the working directory."""
    path, finders = sys.path[:], sys.meta_path[:]
    module = consumer_module(CONSUMERS)
    (project / "channels.yaml").write_text(CONTRACT.format(module=module.__name__))
    yield module
    sys.path[:], sys.meta_path[:] = path, finders
