"""The handlers of a run: each notes when it begins and ends an event, and works as long as the event says."""

import asyncio
import time

from channelmap import AsyncConsumer, SyncConsumer
from channelmap.asgi import Event
from storm.history import Pen

_pen = Pen()


class Async(AsyncConsumer):
    async def job(self, event: Event) -> None:
        _pen.note("begin", event["channel"], event["id"])
        await asyncio.sleep(event["work"])
        _pen.note("end", event["channel"], event["id"])


class Sync(SyncConsumer):
    def job(self, event: Event) -> None:
        _pen.note("begin", event["channel"], event["id"])
        time.sleep(event["work"])
        _pen.note("end", event["channel"], event["id"])
