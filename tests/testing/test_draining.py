"""`drain` handles what waits in this process, and raises what handlers raise."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from channelmap import EventRejected, Reject, Retry, UnknownChannel
from channelmap.imports import ImportProblem
from channelmap.testing import adrain, drain, memory_layer, sent_events
from channelmap.testing.memory import TestLayer

from .private_events import joining, require_private_events


@pytest.fixture
def layer(shop: ModuleType) -> Iterator[TestLayer]:
    with memory_layer() as layer:
        yield layer


def paid(number: int) -> dict[str, Any]:
    return {"type": "paid", "id": number}


def sent(number: int) -> dict[str, Any]:
    return {"type": "sent", "id": number}


def seen(shop: ModuleType) -> list[tuple[str, int]]:
    return [(channel, number) for channel, _, number, *_ in shop.seen]


def test_events_are_handled_in_the_order_of_their_sends_with_those_that_handlers_send(
    layer: TestLayer, shop: ModuleType
) -> None:
    layer.send_sync("mail", sent(1))
    layer.send_sync("orders", paid(2))
    layer.send_sync("mail", sent(3))
    handled = drain()
    assert handled == [sent(1), paid(2), sent(3), sent(2)]
    assert [one.channel for one in handled] == ["mail", "orders", "mail", "mail"]
    assert seen(shop) == [("mail", 1), ("orders", 2), ("mail", 3), ("mail", 2)]
    assert sent_events() == []
    assert drain() == []
    assert asyncio.run(layer.counts(["orders"]))["orders"].leased == 0


def test_sync_handlers_run_in_the_calling_thread(layer: TestLayer, shop: ModuleType) -> None:
    def send_and_drain() -> None:
        layer.send_sync("orders", paid(1))
        drain("orders")

    send_and_drain()
    thread = threading.Thread(target=send_and_drain)
    thread.start()
    thread.join()
    assert [thread_id for *_, thread_id in shop.seen] == [threading.get_ident(), thread.ident]


def test_only_the_events_of_the_named_channel_are_handled(layer: TestLayer) -> None:
    layer.send_sync("mail", sent(1))
    layer.send_sync("orders", paid(2))
    assert drain("orders") == [paid(2)]
    assert sent_events() == [sent(1), sent(2)]


def test_a_misspelt_channel_is_an_error(layer: TestLayer) -> None:
    with pytest.raises(UnknownChannel, match="did you mean 'mail'"):
        drain("mial")


def test_it_raises_the_exception_of_the_handler_itself_and_the_rest_still_waits(
    layer: TestLayer, shop: ModuleType
) -> None:
    for channel, event in (("mail", sent(1)), ("mail", sent(2)), ("orders", paid(3))):
        error = LookupError("no such customer")
        shop.errors.append(error)
        layer.send_sync(channel, event)
        with pytest.raises(LookupError) as caught:
            drain(channel)
        assert caught.value is error
    layer.send_sync("mail", sent(4))
    assert drain("mail") == [sent(4)]


def test_a_failed_event_is_where_a_worker_would_have_put_it(layer: TestLayer, shop: ModuleType) -> None:
    layer.send_sync("orders", paid(1))
    shop.errors.extend([ValueError("once"), ValueError("twice")])
    with pytest.raises(ValueError, match="once"):
        drain()
    (retried,) = sent_events()
    assert retried == paid(1)
    assert retried.attempt == 2
    assert retried.due is not None
    assert drain() == []
    with pytest.raises(ValueError, match="twice"):
        drain(scheduled=True)
    assert [attempt for *_, attempt, _ in shop.seen] == [1, 2]
    assert sent_events() == []
    (letter,) = asyncio.run(layer.dead_letters())
    assert (letter.code, letter.reason, letter.attempts) == ("failed", "ValueError: twice", 2)


def test_an_at_most_once_event_is_a_dead_letter_after_its_first_failure(layer: TestLayer, shop: ModuleType) -> None:
    layer.send_sync("mail", sent(1))
    shop.errors.append(Retry(after=1))
    with pytest.raises(Retry):
        drain()
    assert sent_events() == []
    (letter,) = asyncio.run(layer.dead_letters("mail"))
    assert letter.code == "failed"


def test_retry_is_raised_and_its_event_is_due_after_its_delay(layer: TestLayer, shop: ModuleType) -> None:
    layer.send_sync("orders", paid(1))
    shop.errors.append(Retry(after=5_000))
    with pytest.raises(Retry):
        drain()
    (retried,) = sent_events()
    layer.send_sync("mail", sent(2), delay=4_000)
    layer.send_sync("mail", sent(3), delay=6_000)
    assert [one["id"] for one in sent_events()] == [2, 1, 3]
    assert drain("orders", scheduled=True) == [paid(1)]
    assert retried.attempt == 2


def test_reject_is_raised_and_its_event_is_a_dead_letter(layer: TestLayer, shop: ModuleType) -> None:
    layer.send_sync("orders", paid(1))
    shop.errors.append(Reject("the customer is gone"))
    with pytest.raises(Reject, match="the customer is gone"):
        drain()
    (letter,) = asyncio.run(layer.dead_letters())
    assert (letter.code, letter.reason, letter.event) == ("rejected-by-handler", "the customer is gone", paid(1))


def test_an_event_that_the_gate_rejects_is_raised_and_a_dead_letter(layer: TestLayer, shop: ModuleType) -> None:
    async def send_to_group() -> None:
        await layer.group_add("all", "orders")
        await layer.group_send("all", {"type": "paid", "id": "one"})
        await layer.group_send("all", {"type": "payd"})

    asyncio.run(send_to_group())
    with pytest.raises(EventRejected, match=r"\$.id expected integer, got string"):
        drain()
    with pytest.raises(EventRejected, match="did you mean 'paid'"):
        drain()
    assert shop.seen == []
    assert [letter.code for letter in asyncio.run(layer.dead_letters())] == ["invalid", "unroutable"]


def test_scheduled_events_wait_until_they_are_due_or_asked_for(layer: TestLayer) -> None:
    layer.send_sync("mail", sent(1), delay=60)
    layer.send_sync("mail", sent(2), delay=30)
    layer.send_sync("mail", sent(3), delay=0.0)
    assert drain() == [sent(3)]
    assert drain(scheduled=True) == [sent(2), sent(1)]


def test_what_handlers_schedule_meanwhile_stays(layer: TestLayer) -> None:
    layer.send_sync("mail", {"type": "again"}, delay=60)
    assert drain(scheduled=True) == [{"type": "again"}]
    assert [one.due is not None for one in sent_events()] == [True]


def test_a_paused_channel_is_left_out(layer: TestLayer) -> None:
    layer.send_sync("mail", sent(1))
    asyncio.run(layer.pause("mail"))
    assert drain() == []
    asyncio.run(layer.resume("mail"))
    assert drain() == [sent(1)]


def test_in_an_event_loop_it_is_awaited(layer: TestLayer, shop: ModuleType) -> None:
    async def test() -> None:
        await layer.send("orders", paid(1))
        with pytest.raises(RuntimeError, match="write: await adrain"):
            drain()
        assert await adrain() == [paid(1), sent(1)]
        shop.errors.append(KeyError("sku"))
        await layer.send("mail", sent(2))
        with pytest.raises(KeyError, match="sku"):
            await adrain()

    asyncio.run(test())
    threads = [thread_id for *_, thread_id in shop.seen]
    assert threads[1:] == [threading.get_ident()] * 2


def test_a_consumer_that_cannot_start_costs_no_event(
    layer: TestLayer, shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.send_sync("mail", sent(1))
    with monkeypatch.context() as patch:
        patch.delattr(shop, "Mail")
        with pytest.raises(ImportProblem, match="has no 'Mail'"):
            drain()

        async def ends(scope: Any, receive: Any, send: Any) -> None: ...

        patch.setattr(shop, "Mail", ends, raising=False)
        with pytest.raises(RuntimeError, match="channel 'mail': the application ended before it took an event"):
            drain()

        async def fails(scope: Any, receive: Any, send: Any) -> None:
            raise OSError("no settings")

        patch.setattr(shop, "Mail", fails)
        with pytest.raises(OSError, match="no settings"):
            drain()
    assert drain() == [sent(1)]


def test_any_asgi_application_may_handle_the_events(
    layer: TestLayer, shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []

    async def one_event(scope: Any, receive: Any, send: Any) -> None:
        assert scope == {"type": "channel", "channel": "mail"}
        events.append(await receive())

    monkeypatch.setattr(shop, "Mail", one_event)
    layer.send_sync("mail", sent(1))
    layer.send_sync("mail", sent(2))
    assert drain() == events == [sent(1), sent(2)]


def test_a_cancelled_handler_has_failed(layer: TestLayer, shop: ModuleType) -> None:
    layer.send_sync("mail", sent(1))
    shop.errors.append(asyncio.CancelledError())
    with pytest.raises(RuntimeError, match="channel 'mail': the application was cancelled"):
        drain()
    assert [letter.code for letter in asyncio.run(layer.dead_letters())] == ["failed"]


@pytest.mark.parametrize("base", ["SyncConsumer", "AsyncConsumer"])
def test_private_events_are_handled_between_the_others(
    project: Path, consumer_module: Callable[[str], ModuleType], base: str
) -> None:
    require_private_events(project, consumer_module(joining("channelmap", base)))
