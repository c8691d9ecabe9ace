"""Consumers that the files beside this directory name."""

import functools
from typing import Any

from channels.consumer import AsyncConsumer as ChannelsConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

import channelmap
from channelmap import Retry
from channelmap.consumers import AsyncConsumer, SyncConsumer


def decorated(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(self: Any, event: Any) -> Any:
        return handler(self, event)

    return wrapper


def with_session(handler: Any) -> Any:
    @functools.wraps(handler)
    async def wrapper(self: Any, event: Any) -> None:
        await handler(self, event, "session")

    return wrapper


class Good(AsyncConsumer):
    async def made(self, event: Any) -> None: ...

    def plain(self, event: Any) -> None: ...


class Yielding(AsyncConsumer):
    async def made(self, event: Any) -> Any:
        yield event

    async def read(self, event: Any) -> None:
        async for _ in self.made(event):
            pass


class Several(Good):
    async def made_now(self, event: Any) -> None: ...

    async def more(self, event: Any) -> None: ...

    @decorated
    async def wrapped(self, event: Any) -> None: ...


class Arguments(AsyncConsumer):
    async def none(self) -> None: ...

    async def two(self, event: Any, more: Any) -> None: ...

    async def named(self, *, event: Any) -> None: ...

    @staticmethod
    async def static(event: Any, more: Any) -> None: ...

    async def rest(self, *events: Any) -> None: ...

    async def optional(self, event: Any, more: Any = None) -> None: ...


class SyncArguments(SyncConsumer):
    def none(self) -> None: ...


class Retrying(AsyncConsumer):
    async def made(self, event: Any) -> None:
        if event:
            raise Retry(after=30)

    async def caught(self, event: Any) -> None:
        try:
            raise Retry  # noqa: TRY301
        except Retry:
            pass


class SyncRetrying(SyncConsumer):
    def made(self, event: Any) -> None:
        raise channelmap.Retry(reason="busy")


class Sync(SyncConsumer):
    def gone(self, event: Any) -> None: ...

    async def made(self, event: Any) -> None: ...


class OfChannels(ChannelsConsumer):  # type: ignore[misc]
    async def made(self, event: Any) -> None: ...


class Helping(AsyncConsumer):
    """Has methods that look like handlers, and are none."""

    class Meta: ...

    async def made(self, event: Any) -> None:
        await self.store(event)

        async def later() -> None:
            await self.clean(event)

        await later()

    async def store(self, event: Any) -> None: ...

    async def clean(self, image: Any) -> None: ...

    async def ready(self) -> None: ...

    async def between(self, first: Any, second: Any) -> None: ...

    def count(self, event: Any) -> int:
        return len(event)

    @with_session
    async def injected(self, event: Any, session: Any) -> None: ...

    async def _hidden(self, event: Any) -> None: ...

    summed = functools.wraps(functools.partial(sum, ()))(lambda _: 0)

    @property
    def size(self) -> int:
        return 0

    @staticmethod
    async def static(event: Any) -> None: ...

    @classmethod
    async def of_class(cls, event: Any) -> None: ...


class Shared(SyncConsumer):
    def gone(self, event: Any) -> None: ...


class Sharing(Shared):
    def made(self, event: Any) -> None: ...


class Answered(AsyncConsumer):
    """Is sent answers on its private channel, which no contract declares."""

    async def made(self, event: Any) -> None:
        event["answer-to"] = self.channel_name

    async def answer(self, event: Any) -> None: ...


class Socket(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None: ...

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None: ...

    async def made(self, event: Any) -> None: ...


class Anything:
    """Finds its handlers in a way of its own."""

    @classmethod
    def as_asgi(cls) -> Any: ...


class Plain: ...


class Application:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


application = Application()
made = Good.as_asgi()
number = 5


async def function(scope: Any, receive: Any, send: Any) -> None: ...


async def two_arguments(scope: Any, receive: Any) -> None: ...


def not_async(scope: Any, receive: Any, send: Any) -> None: ...
