"""A chat over WebSockets, in the style of Channels' tutorial, beside channelmap's layer and worker."""

import signal
from collections.abc import Callable

import pytest

from tests.layers.redis_servers import VOLATILE, Server, running

from .projects import Project

Wait = Callable[..., None]

SETTINGS = """\
ALLOWED_HOSTS = ["*"]
CHANNEL_LAYERS = {"default": {"BACKEND": "channelmap.django.ChannelLayer"}}
"""

CHANNELS = """\
version: 1
layer: {url}
channels:
  announcements:
    consumer: shop.chat.Announcements
    events: {{announce: {{schema: {{properties: {{text: {{type: string}}}}}}}}}}
"""

CHAT = """\
import json
from asgiref.sync import async_to_sync
from channels.consumer import SyncConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, JsonWebsocketConsumer, WebsocketConsumer
from channels.layers import get_channel_layer

class Blocking(WebsocketConsumer):
    def connect(self):
        self.room = "room_" + self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()

    def disconnect(self, code):
        async_to_sync(self.channel_layer.group_discard)(self.room, self.channel_name)

    def receive(self, text_data=None, bytes_data=None):
        message = {"type": "chat.message", "text": json.loads(text_data)["text"]}
        async_to_sync(self.channel_layer.group_send)(self.room, message)

    def chat_message(self, event):
        self.send(text_data=json.dumps({"text": event["text"]}))

class Asynchronous(AsyncWebsocketConsumer):
    async def connect(self):
        self.room = "room_" + self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        message = {"type": "chat.message", "text": json.loads(text_data)["text"]}
        await self.channel_layer.group_send(self.room, message)

    async def chat_message(self, event):
        await self.send(text_data=json.dumps({"text": event["text"]}))

class Counting(JsonWebsocketConsumer):
    groups = ["room_lobby"]
    seen = 0

    def chat_message(self, event):
        self.seen += 1
        self.send_json({"text": event["text"], "seen": self.seen})

class Announcements(SyncConsumer):
    def announce(self, event):
        message = {"type": "chat.message", "text": event["text"]}
        async_to_sync(get_channel_layer().group_send)("room_lobby", message)
"""

#: Without `channels.testing`, which needs daphne.
TALK = """\
import asyncio, json
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.urls import path
from shop.chat import Asynchronous, Blocking, Counting

class Person(ApplicationCommunicator):
    def __init__(self, router, path):
        super().__init__(router, {"type": "websocket", "path": path, "headers": [], "subprotocols": []})

    async def connect(self):
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(10))["type"] == "websocket.accept"

    async def say(self, text):
        await self.send_input({"type": "websocket.receive", "text": json.dumps({"text": text})})

    async def hear(self):
        return json.loads((await self.receive_output(10))["text"])

    async def leave(self):
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(10)

async def talk():
    router = URLRouter([
        path("blocking/<room>", Blocking.as_asgi()),
        path("async/<room>", Asynchronous.as_asgi()),
        path("counting", Counting.as_asgi()),
    ])
    people = [Person(router, name) for name in ("blocking/lobby", "async/lobby", "counting")]
    elsewhere = Person(router, "async/elsewhere")
    for person in (*people, elsewhere):
        await person.connect()
    heard = []
    for text, speaker in (("hello", people[0]), ("hi", people[1])):
        await speaker.say(text)
        heard.append([await person.hear() for person in people])
    await get_channel_layer().send("announcements", {"type": "announce", "text": "closing time"})
    heard.append([await person.hear() for person in people])
    heard.append(await elsewhere.receive_nothing(0.05))
    for person in (*people, elsewhere):
        await person.leave()
    return heard

result = asyncio.run(talk())
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_people_and_a_worker_talk_in_one_room(shop: Project, kind: str, wait_until: Wait) -> None:
    shop.set(SETTINGS)
    server = Server(shop.directory / "server", *VOLATILE)
    with running(server):
        url = server.url if kind == "redis" else "sqlite:///channels.db"
        shop.write({"channels.yaml": CHANNELS.format(url=url), "shop/chat.py": CHAT})
        worker = shop.start("runworker")
        wait_until(lambda: "; ready" in worker.errors, "the worker")
        heard = shop.shell(TALK)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.errors
    assert "WARNING" not in worker.errors
    assert heard == [
        [{"text": "hello"}, {"text": "hello"}, {"text": "hello", "seen": 1}],
        [{"text": "hi"}, {"text": "hi"}, {"text": "hi", "seen": 2}],
        [{"text": "closing time"}, {"text": "closing time"}, {"text": "closing time", "seen": 3}],
        True,
    ]
