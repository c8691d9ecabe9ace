"""Consumer classes with one handler method per event type, compatible with Django Channels.

A consumer is an ASGI application that calls `receive()`, and then the handler named by the event's type, in a loop. So
its next `receive()` settles the previous event. This module depends on no schema, file or worker.
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
from channelmap.handling import (
    CurrentDelivery,
    StopConsumer,
    around_handler,
    current_delivery,
    current_holder,
    handler_manager,
)
from channelmap.layer import current_layer
from channelmap.threads import in_shared_thread

#: Seconds between two attempts to receive from a private channel while the layer is unavailable.
_RETRY_SECS = 1.0


def handler_name(event_type: str) -> str:
    """Return the name of the handler method for an event type.

    >>> handler_name("image.uploaded")
    'image_uploaded'
    """
    return event_type.replace(".", "_")


def get_handler_name(event: Event) -> str:
    """Return the name of the handler method for an event; raise Channels' ValueError for an invalid type."""
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
    """Return the names of the handlers of a consumer class: the public methods that user classes define.

    Methods of framework base classes, such as `dispatch` and `send`, are not handlers, even if a user class overrides
    them.
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
    """Return whether a handler is a generator function, so that calling it does not run it."""
    return inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler)


def _is_framework(cls: type) -> bool:
    return cls is object or cls.__module__ in {__name__, "typing"} or cls.__module__.startswith("channels.")


def _is_method(value: object) -> bool:
    if isinstance(value, (staticmethod, classmethod, functools.partialmethod)):
        return True
    return callable(value) and not isinstance(value, type)


class _Consumer:
    """Base of both consumer classes: instantiation, lookup of handlers, private channel."""

    scope: Scope
    base_send: Send
    _private_channel: str = ""
    _uses_private_channel: bool = False

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Application:
        """Return an ASGI application that creates a new instance, with these arguments, for each call."""

        async def app(scope: Scope, receive: Receive, send: Send) -> Any:
            return await cls(**initkwargs)(scope, receive, send)

        app.consumer_class = cls  # type: ignore[attr-defined]
        app.consumer_initkwargs = initkwargs  # type: ignore[attr-defined]
        return functools.update_wrapper(app, cls, updated=())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle events until a handler raises; StopConsumer ends the instance without an error."""
        self.scope = scope
        self.base_send = send
        self._handlers: dict[str, Callable[[Event], Any]] = {}
        #: The context in which handlers start. Once a handler has changed a context variable, each later handler runs
        #: in a copy.
        self._context = contextvars.copy_context()
        #: The same for private events, which are not deliveries.
        self._private_context = self._context.copy()
        self._private_context.run(current_holder.set, None)
        self._private_context.run(around_handler.set, None)
        self.channel_layer = current_layer.get()
        if self.channel_layer is not None:
            self._private_channel = await self.channel_layer.new_channel()
        with contextlib.suppress(StopConsumer):
            await self._consume(receive)

    @property
    def channel_name(self) -> str:
        """The name of the instance's private channel, whose events this instance handles, one at a time.

        The instance receives private events once this property was read.
        """
        if not self._private_channel:
            raise AttributeError("channel_name: this consumer has no channel layer")
        self._uses_private_channel = True
        return self._private_channel

    @property
    def delivery(self) -> CurrentDelivery | None:
        """The delivery of the current event; `None` for private events, and under Channels' own worker."""
        return current_delivery()

    async def _consume(self, receive: Receive) -> None:
        raise NotImplementedError

    async def _consume_with_private(
        self, receive: Receive, dispatch: Callable[[contextvars.Context, Event], Awaitable[None]]
    ) -> NoReturn:
        """Handle events of the server and private events, one at a time; those of the server come first.

        `receive` is not called while a private event is handled, because a call settles the previous event and may
        return the next one.
        """
        layer = self.channel_layer
        assert layer is not None
        private: asyncio.Future[Event] | None = None
        try:
            while True:
                private = private or asyncio.ensure_future(receive_private(layer, self._private_channel))
                receiving = asyncio.ensure_future(receive())
                try:
                    await asyncio.wait({receiving, private}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    event = await _cancel_or_result(receiving)
                if event is not None:
                    await dispatch(self._context, event)
                if private.done():
                    event, private = private.result(), None
                    await dispatch(self._private_context, event)
        finally:
            if private is not None:
                await _cancel_or_result(private)

    def _handler(self, event: Event) -> Callable[[Event], Any]:
        """Find the handler for an event type, and cache it for `dispatch`."""
        name = get_handler_name(event)
        handler = self._handlers[event["type"]] = self._find_handler(name, event)
        return handler

    def _find_handler(self, name: str, event: Event) -> Callable[[Event], Any]:
        own: type = type(self)
        if name not in handlers_of(own):
            raise ValueError(f"No handler for message type {event['type']}")
        handler: Callable[[Event], Any] = getattr(self, name)
        if is_generator(handler):
            # A call would run no code, and the event would count as handled.
            raise TypeError(f"{own.__name__}.{name} is a generator: it must not contain 'yield'")
        return handler


async def receive_private(layer: Any, channel: str) -> Event:
    """Wait for an event on a consumer's private channel, and retry while the layer is unavailable.

    An error would end the consumer, and its current event would count as failed.
    """
    while True:
        try:
            event: Event = await layer.receive(channel)
        except LayerUnavailable:
            await asyncio.sleep(_RETRY_SECS)
        else:
            return event


async def _cancel_or_result(receiving: "asyncio.Future[Event]") -> Event | None:
    """Cancel a pending receive; return its event if it has completed meanwhile, else None."""
    receiving.cancel()
    await asyncio.wait({receiving})
    return None if receiving.cancelled() else receiving.result()


class AsyncConsumer(_Consumer):
    """A consumer whose handlers are `async def`; they run in the worker's event loop."""

    #: For compatibility with Channels; not used, because consumers always have the worker's layer.
    channel_layer_alias: ClassVar[str] = "default"

    async def _consume(self, receive: Receive) -> None:
        dispatch, context, copy = self.dispatch, self._context, contextvars.copy_context
        if around_handler.get() is None:
            while copy() == context and not self._uses_private_channel:
                await dispatch(await receive())
        while not self._uses_private_channel:
            await self._dispatch_isolated(self._context, await receive())
        await self._consume_with_private(receive, self._dispatch_isolated)

    async def _dispatch_isolated(self, context: contextvars.Context, event: Event) -> None:
        """Call the handler in a copy of a context; what it sets in context variables does not reach the next event."""
        await asyncio.create_task(self._dispatch_in_task(event), context=context.copy())

    async def _dispatch_in_task(self, event: Event) -> None:
        try:
            with handler_manager():
                await self.dispatch(event)
        except (SystemExit, KeyboardInterrupt) as error:
            # A task raises these in the event loop, which would end.
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
    """A consumer whose handlers are plain `def`; they run in a thread of the instance.

    If the server's `receive` offers `at_hand`, the thread takes prefetched events itself, without a hop through the
    event loop for each event.
    """

    channel_layer_alias: ClassVar[str] = "default"

    async def _consume(self, receive: Receive) -> None:
        at_hand, self._dispatch = at_hand_of(receive), self.dispatch
        if around_handler.get() is not None:
            self._dispatch = functools.partial(self._dispatch_isolated, self._context)
        is_shared = in_shared_thread.get()
        executor = None if is_shared else ThreadPoolExecutor(1, thread_name_prefix=type(self).__name__)
        handle_all = sync_to_async(self._handle_all, thread_sensitive=is_shared, executor=executor)
        dispatch_isolated = sync_to_async(self._dispatch_isolated, thread_sensitive=is_shared, executor=executor)
        try:
            # Start the thread before taking an event: if it cannot start, no event has failed.
            await handle_all(None)
            while not self._uses_private_channel:
                await handle_all(await receive(), at_hand)
            await self._consume_with_private(receive, dispatch_isolated)
        finally:
            if executor is not None:
                # Do not wait: a handler that was cut off would block the event loop until it ends.
                executor.shutdown(wait=False)

    def _handle_all(self, event: Event | None, at_hand: AtHand | None = None) -> None:
        dispatch, copy = self._dispatch, contextvars.copy_context
        before = copy()
        while event is not None:
            dispatch(event)
            if copy() != before:
                dispatch = self._dispatch = functools.partial(self._dispatch_isolated, self._context)
            event = at_hand() if at_hand is not None and not self._uses_private_channel else None

    def _dispatch_isolated(self, context: contextvars.Context, event: Event) -> None:
        """Call the handler in a copy of a context; what it sets in context variables does not reach the next event."""
        context.copy().run(self._dispatch_in_copy, event)

    def _dispatch_in_copy(self, event: Event) -> None:
        with handler_manager():
            self.dispatch(event)

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
