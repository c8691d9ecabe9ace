"""A handler of any kind may retry or reject its event, itself or in code that it calls; with a real SQLite file."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from channelmap import AsyncConsumer, DeadLetter, Reject, Retry, SyncConsumer, Worker
from channelmap.asgi import Application, Event, Receive, Scope, Send
from channelmap.layers.sqlite import SQLiteChannelLayer
from channelmap.limits import RetryPolicy, Service


def handle(event: Event) -> None:
    """Do what the event says: any code below a handler."""
    if "retry" in event:
        raise Retry(after=event["retry"], reason="busy")
    if "reject" in event:
        raise Reject("gone")


async def handle_later(event: Event) -> None:
    await asyncio.sleep(0)
    handle(event)


def own_application(seen: list[int]) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            seen.append(event["n"])
            handle(event)

    return application


def async_consumer(seen: list[int]) -> Application:
    class Async(AsyncConsumer):
        async def direct(self, event: Event) -> None:
            seen.append(event["n"])
            await handle_later(event)

        async def elsewhere(self, event: Event) -> None:
            seen.append(event["n"])
            await sync_to_async(handle)(event)

    return Async.as_asgi()


def sync_consumer(seen: list[int]) -> Application:
    class Sync(SyncConsumer):
        def direct(self, event: Event) -> None:
            seen.append(event["n"])
            handle(event)

        def elsewhere(self, event: Event) -> None:
            seen.append(event["n"])
            async_to_sync(handle_later)(event)

    return Sync.as_asgi()


KINDS = pytest.mark.parametrize("make", [async_consumer, sync_consumer, own_application])
Make = Callable[[list[int]], Application]


def serve(path: Path, application: Application, service: Service, events: list[Event]) -> list[DeadLetter]:
    async def main() -> list[DeadLetter]:
        layer = SQLiteChannelLayer(f"sqlite:///{path}")
        await layer.send_many("a", events)
        await asyncio.wait_for(Worker(application, {"a": service}, layer, burst=True).serve(), 30)
        letters = await layer.dead_letters("a")
        await layer.close()
        return letters

    return asyncio.run(main())


def story(letters: list[DeadLetter]) -> list[tuple[int, str, str, int, str]]:
    return [((one.event or {})["n"], one.code, one.reason, one.attempts, one.traceback) for one in letters]


@KINDS
@pytest.mark.parametrize("event_type", ["direct", "elsewhere"])
@pytest.mark.parametrize("timeout", [None, 20.0])
def test_every_kind_of_application_may_retry_and_reject(
    tmp_path: Path, make: Make, event_type: str, timeout: float | None
) -> None:
    seen: list[int] = []
    outcomes: list[Event] = [{}, {"retry": 0}, {}, {"reject": True}, {}]
    events = [{"type": event_type, "n": number} | outcome for number, outcome in enumerate(outcomes)]
    service = Service(timeout=timeout, retry=RetryPolicy(attempts=3, delay=3_600))

    letters = serve(tmp_path / "a.db", make(seen), service, events)

    assert sorted(story(letters)) == [(1, "failed", "busy", 3, ""), (3, "rejected-by-handler", "gone", 1, "")]
    assert sorted(seen) == [0, 1, 1, 1, 2, 3, 4]


@KINDS
def test_at_most_once_every_kind_of_application_may_reject_and_none_may_retry(tmp_path: Path, make: Make) -> None:
    seen: list[int] = []
    events: list[Event] = [{"type": "direct", "n": 0, "retry": 0}, {"type": "direct", "n": 1, "reject": True}]

    letters = serve(tmp_path / "a.db", make(seen), Service(), events)

    reason = (
        "its handler raised Retry (busy), but the channel is at-most-once: no event is delivered again; "
        "set 'delivery: at-least-once'"
    )
    assert story(letters) == [(0, "failed", reason, 1, ""), (1, "rejected-by-handler", "gone", 1, "")]
    assert seen == [0, 1]
