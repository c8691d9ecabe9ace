"""The handlers of a run: each notes when it begins and ends an event, and works and raises what the event says."""

import asyncio
import time

from channelmap import AsyncConsumer, Reject, Retry, SyncConsumer, current_delivery
from channelmap.asgi import Event
from storm.history import Pen

_pen = Pen()


def _end(event: Event) -> None:
    delivery = current_delivery()
    # Only at its first attempt: an event whose retry the layer has not heard of comes again as the same attempt.
    if event["retry"] and delivery is not None and delivery.attempt == 1:
        _pen.note("retry", event["channel"], event["id"], event["retry"])
        raise Retry(after=event["retry"], reason="the event says so")
    if event["reject"]:
        _pen.note("reject", event["channel"], event["id"])
        raise Reject("the event says so")
    _pen.note("end", event["channel"], event["id"])


class Async(AsyncConsumer):
    async def job(self, event: Event) -> None:
        _pen.note("begin", event["channel"], event["id"])
        await asyncio.sleep(event["work"])
        _end(event)


class Sync(SyncConsumer):
    def job(self, event: Event) -> None:
        _pen.note("begin", event["channel"], event["id"])
        time.sleep(event["work"])
        _end(event)
