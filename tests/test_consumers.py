"""Consumers keep Channels' behaviour, word for word."""

import asyncio
import contextvars
import threading
from contextlib import suppress
from typing import Any, Generic, TypeVar

import pytest
from asgiref.local import Local

from channelmap import AsyncConsumer, StopConsumer, SyncConsumer
from channelmap.asgi import Application, AtHand, Event, Receive, Scope, Send, at_hand_of, forward, offer
from channelmap.consumers import get_handler_name, handlers_of

SCOPE = {"type": "channel", "channel": "a"}
T = TypeVar("T")


class Over(Exception):
    """The test's server has no more events."""


def serve(application: Application, *events: Event, at_hand: list[Event] | None = None) -> None:
    """Run an application as a server would that has these events and then breaks off."""
    waiting = list(events)

    async def receive() -> Event:
        if not waiting:
            raise Over
        return waiting.pop(0)

    async def send(event: Event) -> None:
        raise NotImplementedError("You must implement application_send()")

    if at_hand is not None:
        offer(receive, lambda: at_hand.pop(0) if at_hand else None)

    async def main() -> None:
        with suppress(Over):
            await application(dict(SCOPE), receive, send)

    asyncio.run(main())


def test_a_handler_name_is_the_type_with_underscores_for_dots() -> None:
    assert get_handler_name({"type": "a.b-c"}) == "a_b-c"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "Incoming message has no 'type' attribute"),
        ({"type": ".x"}, "Malformed type in message (leading underscore)"),
        ({"type": "_x"}, "Malformed type in message (leading underscore)"),
        ({"type": 4}, "Incoming message has a 'type' attribute that is not a string"),
    ],
)
def test_an_event_that_names_no_handler_is_refused_in_channels_words(event: Event, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        get_handler_name(event)

    assert str(caught.value) == message


class Recorder(AsyncConsumer):
    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs

    seen: list[Any] = []

    async def seen_by(self, event: Event) -> None:
        self.seen.append((self, event))

    async def stop(self, event: Event) -> None:
        raise StopConsumer

    async def send_back(self, event: Event) -> None:
        await self.send({"type": "anything"})


@pytest.mark.parametrize("event_type", ["x.y", "dispatch", "send", "as.asgi", "channel.name", "delivery"])
def test_a_type_without_a_handler_of_the_users_own_raises(event_type: str) -> None:
    with pytest.raises(ValueError, match=f"^No handler for message type {event_type}$"):
        serve(Recorder.as_asgi(), {"type": event_type})


def test_as_asgi_keeps_class_name_and_arguments_and_makes_an_instance_for_each_call() -> None:
    Recorder.seen = []
    application: Any = Recorder.as_asgi(a=3)

    serve(application, {"type": "seen.by"}, {"type": "seen.by"})
    serve(application, {"type": "seen.by"})

    assert application.consumer_class is Recorder
    assert application.consumer_initkwargs == {"a": 3}
    assert application.__name__ == "Recorder"
    first, second, third = (consumer for consumer, _ in Recorder.seen)
    assert first is second
    assert first is not third
    assert first.kwargs == {"a": 3}
    assert first.scope == SCOPE


def test_stop_consumer_ends_the_instance_in_good_order() -> None:
    serve(Recorder.as_asgi(), {"type": "stop"}, {"type": "no.handler.for.this"})


def test_a_server_that_takes_nothing_back_says_so_in_asgirefs_words() -> None:
    with pytest.raises(NotImplementedError, match=r"^You must implement application_send\(\)$"):
        serve(Recorder.as_asgi(), {"type": "send.back"})


def test_without_a_layer_there_is_no_channel_name() -> None:
    class Named(AsyncConsumer):
        async def look(self, event: Event) -> None:
            assert self.channel_layer is None
            _ = self.channel_name

    with pytest.raises(AttributeError, match="channel_name"):
        serve(Named.as_asgi(), {"type": "look"})


class Threaded(SyncConsumer):
    threads: list[tuple[int, int]] = []

    def note(self, event: Event) -> None:
        self.threads.append((threading.get_ident(), event["n"]))

    async def wrong(self, event: Event) -> None: ...


def test_sync_handlers_run_off_the_event_loop_in_one_thread_of_the_instance() -> None:
    Threaded.threads = []

    serve(Threaded.as_asgi(), {"type": "note", "n": 1}, {"type": "note", "n": 2})

    idents = {ident for ident, _ in Threaded.threads}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_a_sync_consumers_thread_goes_on_with_what_is_at_hand() -> None:
    Threaded.threads = []
    at_hand: list[Event] = [{"type": "note", "n": 2}, {"type": "note", "n": 3}]

    serve(Threaded.as_asgi(), {"type": "note", "n": 1}, {"type": "note", "n": 4}, at_hand=at_hand)

    assert [n for _, n in Threaded.threads] == [1, 2, 3, 4]


def test_an_async_handler_of_a_sync_consumer_is_an_error_and_not_silence() -> None:
    with pytest.raises(TypeError, match=r"^Threaded\.wrong is async: derive the class from AsyncConsumer$"):
        serve(Threaded.as_asgi(), {"type": "wrong"})


def test_handlers_are_the_public_methods_that_the_users_classes_define() -> None:
    class Mixin:
        async def from_mixin(self, event: Event) -> None: ...

        @staticmethod
        async def static(event: Event) -> None: ...

    class Own(Mixin, AsyncConsumer, Generic[T]):
        attribute = 3

        class Nested: ...

        async def own(self, event: Event) -> None: ...

        async def _private(self, event: Event) -> None: ...

        async def dispatch(self, event: Event) -> None:
            await super().dispatch(event)

    assert handlers_of(Own) == {"from_mixin", "static", "own"}


def test_what_a_base_class_of_channels_or_of_typing_defines_is_no_handler() -> None:
    def public(_self: object, _event: Event) -> None: ...

    for module, handlers in (("channels.generic", set()), ("typing", set()), ("shop", {"public"})):
        base = type("Base", (), {"__module__": module, "public": public})
        assert handlers_of(type("Own", (base, SyncConsumer), {"__module__": "shop"})) == handlers


def test_a_sync_handler_may_send_to_the_server() -> None:
    class Sending(SyncConsumer):
        def job(self, event: Event) -> None:
            self.send({"type": "answer", "to": event["n"]})

    sent: list[Event] = []

    async def receive() -> Event:
        if sent:
            raise Over
        return {"type": "job", "n": 1}

    async def send(event: Event) -> None:
        sent.append(event)

    async def main() -> None:
        with suppress(Over):
            await Sending.as_asgi()(dict(SCOPE), receive, send)

    asyncio.run(main())
    assert sent == [{"type": "answer", "to": 1}]


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
#: Keeps what Django's `translation.activate` and `timezone.activate` set.
LANGUAGE = Local()


class AsyncSetter(AsyncConsumer):
    """Notes what it finds in the context, and then sets it, or does not."""

    seen: list[str] = []

    async def look(self, event: Event) -> None:
        self.seen.append(note())

    async def put(self, event: Event) -> None:
        self.seen.append(note())
        change()

    async def put_and_fail(self, event: Event) -> None:
        change()
        raise Over

    async def leave(self, event: Event) -> None:
        raise SystemExit(3)


class SyncSetter(SyncConsumer):
    """The same, in a thread."""

    seen: list[str] = []

    def look(self, event: Event) -> None:
        self.seen.append(note())

    def put(self, event: Event) -> None:
        self.seen.append(note())
        change()


def note() -> str:
    return f"{VARIABLE.get()} {getattr(LANGUAGE, 'value', None)}"


def change() -> None:
    VARIABLE.set("set")
    LANGUAGE.value = "de"


@pytest.mark.parametrize("consumer", [AsyncSetter, SyncSetter])
@pytest.mark.parametrize("at_hand", [False, True])
def test_what_a_handler_sets_in_the_context_does_not_reach_the_next_event(consumer: Any, at_hand: bool) -> None:  # noqa: FBT001
    own: Any = type("Own", (consumer,), {"seen": []})
    events: list[Event] = [{"type": name} for name in ("look", "put", "look", "put", "put", "look")]
    if at_hand:
        serve(own.as_asgi(), events[0], at_hand=events[1:])
    else:
        serve(own.as_asgi(), *events)
    fresh = "unset None"
    serve(own.as_asgi(), {"type": "put"}, at_hand=[{"type": "look"}])
    assert own.seen.pop() == fresh
    assert consumer is AsyncSetter or own.seen.pop() == fresh
    expected = 1 if at_hand and consumer is AsyncSetter else len(events)
    assert own.seen == [fresh] * expected


def test_a_handler_in_a_context_of_its_own_may_fail_stop_or_leave_like_any_other() -> None:
    own: Any = type("Own", (AsyncSetter,), {"seen": []})
    with pytest.raises(RuntimeError, match="Own raised SystemExit"):
        serve(own.as_asgi(), {"type": "put"}, {"type": "look"}, {"type": "leave"})
    assert len(own.seen) == 2


@pytest.mark.parametrize("has_at_hand", [True, False])
def test_a_middleware_keeps_with_one_line_what_the_servers_receive_offers(*, has_at_hand: bool) -> None:
    threads: list[int] = []

    class Threaded(SyncConsumer):
        def note(self, event: Event) -> None:
            threads.append(event["n"])

    inner = Threaded.as_asgi()

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def numbered() -> Event:
            return number(await receive())

        def numbered_at_hand(at_hand: AtHand) -> AtHand:
            return lambda: (event := at_hand()) and number(event)

        def number(event: Event) -> Event:
            return event | {"n": event["n"] + 10}

        await inner(scope, forward(receive, numbered, numbered_at_hand), send)

    at_hand: list[Event] | None = [{"type": "note", "n": 2}] if has_at_hand else None
    serve(middleware, {"type": "note", "n": 1}, {"type": "note", "n": 3}, at_hand=at_hand)
    assert threads == ([11, 12, 13] if has_at_hand else [11, 13])
    assert not at_hand


def test_a_forwarded_receive_without_a_step_of_its_own_hands_on_what_is_at_hand() -> None:
    events: list[Event] = [{"type": "note"}]

    async def receive() -> Event:
        return {}

    async def own() -> Event:
        return await receive()

    offer(receive, lambda: events.pop() if events else None)
    at_hand = at_hand_of(forward(receive, own))
    assert at_hand is not None
    assert [at_hand(), at_hand()] == [{"type": "note"}, None]
