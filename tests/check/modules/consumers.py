"""Consumers that the files beside this directory name."""

import functools
from typing import Any

from channels.consumer import AsyncConsumer as ChannelsConsumer

from channelmap.consumers import AsyncConsumer, SyncConsumer


def decorated(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(self: Any, event: Any) -> Any:
        return handler(self, event)

    return wrapper


class Good(AsyncConsumer):
    async def made(self, event: Any) -> None: ...

    async def made_now(self, event: Any) -> None: ...

    async def more(self, event: Any) -> None: ...

    @decorated
    async def wrapped(self, event: Any) -> None: ...

    def plain(self, event: Any) -> None: ...


class Sync(SyncConsumer):
    def gone(self, event: Any) -> None: ...

    async def made(self, event: Any) -> None: ...


class OfChannels(ChannelsConsumer):  # type: ignore[misc]
    async def made(self, event: Any) -> None: ...


class Plain: ...


class Application:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


application = Application()
made = Good.as_asgi()
number = 5


async def function(scope: Any, receive: Any, send: Any) -> None: ...


async def two_arguments(scope: Any, receive: Any) -> None: ...


def not_async(scope: Any, receive: Any, send: Any) -> None: ...
