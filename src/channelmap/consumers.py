"""Consumers: a class with one handler method for each event type, in Channels' way and with its words.

A consumer is an ASGI application that asks for an event, calls the handler that the event's type names, and
asks again; so its next `receive()` says that the last event is done. Knows no schema, no file, no worker.
"""

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NoReturn

from asgiref.sync import async_to_sync, sync_to_async

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, Send, at_hand_of
from channelmap.errors import LayerUnavailable
from channelmap.handling import CurrentDelivery, current_delivery, current_holder
from channelmap.layer import current_layer

#: Seconds after which a consumer listens again to its private channel, when the layer was away.
_RETRY_SECS = 1.0


class StopConsumer(Exception):
    """Raised by a handler to end its consumer instance in good order; the event counts as handled."""


def handler_name(event_type: str) -> str:
    """Name the method that handles events of a type.

    >>> handler_name("image.uploaded")
    'image_uploaded'
    """
    return event_type.replace(".", "_")


def get_handler_name(event: Event) -> str:
    """Name the method that handles an event; ValueError, in Channels' words, when nothing may handle it."""
    if "type" not in event:
        raise ValueError("Incoming message has no 'type' attribute")
    if not isinstance(event["type"], str):
        raise ValueError("Incoming message has a 'type' attribute that is not a string")  # noqa: TRY004
    name = handler_name(event["type"])
    if name.startswith("_"):
        raise ValueError("Malformed type in message (leading underscore)")
    return name


@functools.cache
def handlers_of(consumer: "type[Any]") -> frozenset[str]:
    """Name the handlers of a consumer class: the public methods that the user's classes define.

    What a framework's own base class defines (`dispatch`, `send`) is no handler, whoever asks for it; a user's
    class that overrides it does not make it one.
    """
    own = [cls for cls in consumer.__mro__ if not _is_framework(cls)]
    reserved = {name for cls in consumer.__mro__ if _is_framework(cls) for name in vars(cls)}
    return frozenset(
        name
        for cls in own
        for name, value in vars(cls).items()
        if not name.startswith("_") and name not in reserved and _is_method(value)
    )


def is_generator(handler: object) -> bool:
    """Return whether calling a handler runs none of it, because it contains `yield`."""
    return inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler)


def _is_framework(cls: type) -> bool:
    return cls is object or cls.__module__ in {__name__, "typing"} or cls.__module__.startswith("channels.")


def _is_method(value: object) -> bool:
    if isinstance(value, (staticmethod, classmethod, functools.partialmethod)):
        return True
    return callable(value) and not isinstance(value, type)


class _Consumer:
    """What both kinds of consumer share: being built from a class, finding a handler, having a private channel."""

    scope: Scope
    base_send: Send
    _private_channel: str = ""
    _listens_in_private: bool = False

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Application:
        """Return an ASGI application that makes a fresh instance, with these arguments, for each call."""

        async def app(scope: Scope, receive: Receive, send: Send) -> Any:
            return await cls(**initkwargs)(scope, receive, send)

        app.consumer_class = cls  # type: ignore[attr-defined]
        app.consumer_initkwargs = initkwargs  # type: ignore[attr-defined]
        return functools.update_wrapper(app, cls, updated=())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle events until a handler raises; StopConsumer is the good end."""
        self.scope = scope
        self.base_send = send
        self._handlers: dict[str, Callable[[Event], Any]] = {}
        #: The context that each handler begins with. Nearly all leave it as it is; from the first that changed it on,
        #: each has a copy of its own.
        self._context = contextvars.copy_context()
        #: The same for private events, which are no deliveries.
        self._private_context = self._context.copy()
        self._private_context.run(current_holder.set, None)
        self.channel_layer = current_layer.get()
        if self.channel_layer is not None:
            self._private_channel = await self.channel_layer.new_channel()
        with contextlib.suppress(StopConsumer):
            await self._consume(receive)

    @property
    def channel_name(self) -> str:
        """The instance's private channel: what is sent there is handled here, one event at a time.

        Listening begins with the first look at the name: an instance that tells it to nobody waits for nobody.
        """
        if not self._private_channel:
            raise AttributeError("channel_name: this consumer has no channel layer")
        self._listens_in_private = True
        return self._private_channel

    @property
    def delivery(self) -> CurrentDelivery | None:
        """The delivery of the event that is handled; `None` for private events, and under Channels' own worker."""
        return current_delivery()

    async def _consume(self, receive: Receive) -> None:
        raise NotImplementedError

    async def _consume_both(
        self, receive: Receive, dispatch: Callable[[contextvars.Context, Event], Awaitable[None]]
    ) -> NoReturn:
        """Handle what the server has and what comes in private, one at a time, the server's first.

        The server is not asked while a private event is handled: to ask is to say that one is done, and to answer
        for what one gets.
        """
        layer = self.channel_layer
        assert layer is not None
        private: asyncio.Future[Event] | None = None
        try:
            while True:
                private = private or asyncio.ensure_future(receive_in_private(layer, self._private_channel))
                asked = asyncio.ensure_future(receive())
                try:
                    await asyncio.wait({asked, private}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    event = await _taken_back(asked)
                if event is not None:
                    await dispatch(self._context, event)
                if private.done():
                    event, private = private.result(), None
                    await dispatch(self._private_context, event)
        finally:
            if private is not None:
                await _taken_back(private)

    def _handler(self, event: Event) -> Callable[[Event], Any]:
        """Find the method for the first event of a type; those that follow cost `dispatch` no further call."""
        name = get_handler_name(event)
        handler = self._handlers[event["type"]] = self._find_handler(name, event)
        return handler

    def _find_handler(self, name: str, event: Event) -> Callable[[Event], Any]:
        own: type = type(self)
        if name not in handlers_of(own):
            raise ValueError(f"No handler for message type {event['type']}")
        handler: Callable[[Event], Any] = getattr(self, name)
        if is_generator(handler):
            # The event would count as handled.
            raise TypeError(f"{own.__name__}.{name} is a generator: it must not contain 'yield'")
        return handler


async def receive_in_private(layer: Any, channel: str) -> Event:
    """Wait for an event on a consumer's private channel, also while the layer is away.

    An error would end the consumer, and the event that it has just handled would count as failed.
    """
    while True:
        try:
            event: Event = await layer.receive(channel)
        except LayerUnavailable:
            await asyncio.sleep(_RETRY_SECS)
        else:
            return event


async def _taken_back(asked: "asyncio.Future[Event]") -> Event | None:
    """Take a question back; or take the answer, if it was faster."""
    asked.cancel()
    await asyncio.wait({asked})
    return None if asked.cancelled() else asked.result()


class AsyncConsumer(_Consumer):
    """A consumer whose handlers are `async def`; they run in the worker's event loop."""

    #: Kept for classes that were written for Channels; the worker's layer is the one that counts here.
    channel_layer_alias: ClassVar[str] = "default"

    async def _consume(self, receive: Receive) -> None:
        dispatch, context, copied = self.dispatch, self._context, contextvars.copy_context
        while copied() == context and not self._listens_in_private:
            await dispatch(await receive())
        while not self._listens_in_private:
            await self._dispatch_alone(self._context, await receive())
        await self._consume_both(receive, self._dispatch_alone)

    async def _dispatch_alone(self, context: contextvars.Context, event: Event) -> None:
        """Call the handler in a copy of a context; what it sets in context variables does not reach the next event."""
        await asyncio.create_task(self._dispatch_in_task(event), context=context.copy())

    async def _dispatch_in_task(self, event: Event) -> None:
        try:
            await self.dispatch(event)
        except (SystemExit, KeyboardInterrupt) as error:
            # A task passes these on to the event loop, which would end.
            raise RuntimeError(f"{type(self).__name__} raised {type(error).__name__}") from error

    async def dispatch(self, event: Event) -> None:
        """Call the handler that the event's type names; ValueError when there is none."""
        try:
            handler = self._handlers[event["type"]]
        except (KeyError, TypeError):
            handler = self._handler(event)
        await handler(event)

    async def send(self, event: Event) -> None:
        """Send to the server that runs the application. A worker takes nothing back: NotImplementedError."""
        await self.base_send(event)


class SyncConsumer(_Consumer):
    """A consumer whose handlers are plain `def`; they run in a thread that belongs to the instance alone.

    Where the server's `receive` offers `at_hand`, the thread goes on with whatever is at hand, without a hop
    through the event loop for each event.
    """

    channel_layer_alias: ClassVar[str] = "default"

    async def _consume(self, receive: Receive) -> None:
        at_hand, self._dispatch = at_hand_of(receive), self.dispatch
        executor = ThreadPoolExecutor(1, thread_name_prefix=type(self).__name__)
        drain = sync_to_async(self._drain, thread_sensitive=False, executor=executor)
        dispatch_alone = sync_to_async(self._dispatch_alone, thread_sensitive=False, executor=executor)
        try:
            # A thread that cannot be started is not the failure of an event: none is taken before it runs.
            await drain(None)
            while not self._listens_in_private:
                await drain(await receive(), at_hand)
            await self._consume_both(receive, dispatch_alone)
        finally:
            # Not waited for: a handler that was cut off would hold up the event loop until it ends.
            executor.shutdown(wait=False)

    def _drain(self, event: Event | None, at_hand: AtHand | None = None) -> None:
        dispatch, copied = self._dispatch, contextvars.copy_context
        before = copied()
        while event is not None:
            dispatch(event)
            if copied() != before:
                dispatch = self._dispatch = functools.partial(self._dispatch_alone, self._context)
            event = at_hand() if at_hand is not None and not self._listens_in_private else None

    def _dispatch_alone(self, context: contextvars.Context, event: Event) -> None:
        """Call the handler in a copy of a context; what it sets in context variables does not reach the next event."""
        context.copy().run(self.dispatch, event)

    def dispatch(self, event: Event) -> None:
        """Call the handler that the event's type names; ValueError when there is none."""
        try:
            handler = self._handlers[event["type"]]
        except (KeyError, TypeError):
            handler = self._handler(event)
        try:
            handler(event)
        except StopIteration as error:
            # A future cannot carry it: the caller would wait forever.
            raise RuntimeError(f"{type(self).__name__} raised StopIteration") from error

    def _find_handler(self, name: str, event: Event) -> Callable[[Event], Any]:
        handler = super()._find_handler(name, event)
        if inspect.iscoroutinefunction(handler):
            raise TypeError(f"{type(self).__name__}.{name} is async: derive the class from AsyncConsumer")
        return handler

    def send(self, event: Event) -> None:
        """Send to the server that runs the application. A worker takes nothing back: NotImplementedError."""
        async_to_sync(self.base_send)(event)
