"""A worker in the process of the test, which handles one event at a time and raises what handlers raise.

Gate, router and consumers are those of a real worker. Sync handlers run in the thread of asgiref's thread-sensitive
calls. For `drain` this is the thread of the caller, so a handler sees the database transaction of a Django test.
"""

import asyncio
import math
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

from asgiref.sync import async_to_sync

from channelmap.asgi import Application, Event, Scope
from channelmap.contract import Channel
from channelmap.errors import EventRejected, one_line, quoted, text_of
from channelmap.handling import Reject, Retry, checked, current_holder
from channelmap.imports import prepare_imports
from channelmap.layer import Delivery, current_layer, letter_for
from channelmap.routing import load_router
from channelmap.testing.memory import SentEvent, TestLayer, contract_path, current_test_layer, names_of
from channelmap.threads import in_shared_thread
from channelmap.worker.slot import CAUSE_OF_CODE

#: Seconds of a lease, longer than any test.
_LEASE = 86_400.0


class InProcessWorker:
    """Handles the events of a layer in memory, in this process; the fixture `channelmap_worker` is one.

    Args:
        layer: the layer of `memory_layer`.

    """

    def __init__(self, layer: TestLayer) -> None:
        self._layer = layer

    def drain(self, channel: str | None = None, *, scheduled: bool = False) -> list[SentEvent]:
        """Handle what waits; see the function `drain`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # Thread-sensitive calls run in this thread meanwhile.
            return async_to_sync(self.adrain)(channel, scheduled=scheduled)
        raise RuntimeError("drain() was called in an event loop; write: await adrain()")

    async def adrain(self, channel: str | None = None, *, scheduled: bool = False) -> list[SentEvent]:
        """Handle what waits; see the function `adrain`."""
        names = names_of(self._layer.contract, channel)
        if scheduled:
            self._layer.layer.release_scheduled(names)
        return await self._handle(names)

    def handle_one(self, channel: str) -> None:
        """Handle one event of a channel; raise what `drain` raises."""
        async_to_sync(self._handle)([channel], limit=1)

    async def _handle(self, names: Sequence[str], limit: float = math.inf) -> list[SentEvent]:
        contract, handled = self._layer.contract, list[SentEvent]()
        prepare_imports(str(contract_path(contract)))
        async with _Instances(self._layer) as instances:
            while len(handled) < limit and (name := self._layer.layer.next_channel(names)):
                handled += await instances.handle_next(contract.channels[name])
                await instances.handle_private_events()
        return handled


def drain(channel: str | None = None, *, scheduled: bool = False) -> list[SentEvent]:
    """Handle what waits, in this process, until nothing waits, also what handlers send meanwhile.

    Events are handled one at a time, in the order of their sends. Sync handlers run in the calling thread, so they see
    the transaction of a Django `TestCase`; async handlers run in an event loop. Concurrency and timeouts of a channel
    do not apply, and paused channels are left out.

    Args:
        channel: handle only the events of this channel; `None` for all channels.
        scheduled: handle also events that are not due yet: those that were sent with a delay or are retried. Events
            that handlers schedule meanwhile stay.

    Returns:
        The handled events, in order.

    Raises:
        Exception: what a handler has raised, also `Retry` and `Reject`. Its event is then where a worker would put it,
            that is scheduled for its next attempt if the channel is at-least-once and attempts are left, otherwise a
            dead letter. Further events still wait.
        EventRejected: the gate has rejected an event, which is now a dead letter.
        UnknownChannel: the contract declares no such channel.
        ImportProblem: a consumer cannot be imported.
        RuntimeError: there is no layer in memory, or the caller runs in an event loop: use `adrain`.

    """
    return InProcessWorker(current_test_layer("drain")).drain(channel, scheduled=scheduled)


async def adrain(channel: str | None = None, *, scheduled: bool = False) -> list[SentEvent]:
    """Do the same as `drain` in the running event loop.

    Sync handlers run in the thread of asgiref's thread-sensitive calls: under Django's test runner the thread of the
    test's transaction, otherwise a thread of asgiref.
    """
    return await InProcessWorker(current_test_layer("adrain")).adrain(channel, scheduled=scheduled)


class _Instances:
    """One instance of the consumer of each channel that has had an event."""

    def __init__(self, layer: TestLayer) -> None:
        self._layer = layer
        self._instances: dict[str, _Instance] = {}
        self._lent = ExitStack()
        self._has_lent = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._lent.close()
        tasks = [instance.task for instance in self._instances.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def handle_private_events(self) -> None:
        """Wait until instances have handled the events of their private channels; raise what their handlers raise."""
        for instance in [*self._instances.values()]:
            while not instance.task.done() and instance.has_private_work():  # noqa: ASYNC110  (threads handle them, too)
                # Without a timer, because a test may have stopped the clock.
                await asyncio.sleep(0)
            instance.raise_error()

    async def handle_next(self, channel: Channel) -> list[SentEvent]:
        """Take the next event of a channel and have it handled; return it, or nothing if it was gone."""
        instance = await self._ready(channel)
        memory = self._layer.layer
        lease = _LEASE if channel.service.retry else None
        for delivery in await memory.take(channel.name, 1, lease=lease, wait=False):
            try:
                rejected = await instance.handle(delivery)
            except BaseException as error:
                await self._put_away(channel, delivery, error)
                raise
            if rejected is not None:
                code = CAUSE_OF_CODE.get(rejected.code, "invalid")
                await memory.bury(delivery, letter_for(delivery, code, str(rejected), rejected.violations))
                raise rejected
            await memory.settle([delivery])
            return [SentEvent(delivery)]
        return []

    async def _ready(self, channel: Channel) -> "_Instance":
        """Return an instance that waits for an event; no event is taken for one that fails to start."""
        instance = self._instances.get(channel.name)
        if instance is None or instance.task.done():
            application = load_router(self._layer.contract, [channel.name])
            self._lend_to_channels()
            instance = self._instances[channel.name] = _Instance(application, self._layer, channel)
        await instance.wait_until_ready()
        return instance

    def _lend_to_channels(self) -> None:
        """Make the layer the `self.channel_layer` of consumers derived from `channels.consumer`, as a worker does."""
        module: Any = sys.modules.get("channels.consumer")
        if module is None or self._has_lent:
            return
        usual = module.get_channel_layer
        self._lent.callback(setattr, module, "get_channel_layer", usual)
        self._has_lent = True
        module.get_channel_layer = lambda alias: self._layer if alias == module.DEFAULT_CHANNEL_LAYER else usual(alias)

    async def _put_away(self, channel: Channel, delivery: Delivery, raised: BaseException) -> None:
        """Do with a failed event what a worker does: retry it, or keep it as a dead letter."""
        error, policy, memory = checked(raised), channel.service.retry, self._layer.layer
        if isinstance(error, Reject):
            await memory.bury(delivery, letter_for(delivery, "rejected-by-handler", one_line(error.reason)))
        elif policy is not None and delivery.attempt < policy.attempts:
            after = error.after if isinstance(error, Retry) else None
            await memory.retry(delivery, policy.delay_after(delivery.attempt) if after is None else after)
        else:
            trace = "".join(traceback.format_exception(error))
            await memory.bury(delivery, letter_for(delivery, "failed", text_of(error), traceback=trace))


class _Instance:
    """A running instance of a consumer, which handles one event at a time."""

    def __init__(self, application: Application, layer: TestLayer, channel: Channel) -> None:
        #: For `current_delivery`.
        self.current: Delivery | None = None
        self.timed_out = False
        #: For the layer, which notes here what the instance does with its private channel.
        self.private_channel = ""
        self.listens = False
        self.handles_private = False
        self._layer = layer
        self._channel = channel
        self._error: BaseException | None = None
        self._waits = asyncio.Event()
        self._events: asyncio.Queue[Delivery] = asyncio.Queue()
        self._outcome: asyncio.Future[EventRejected | None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(application))

    async def wait_until_ready(self) -> None:
        """Wait until the application asks for an event; raise its error, or RuntimeError, if it ends before."""
        waiting = asyncio.create_task(self._waits.wait())
        await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self.raise_error()
        if self.task.done():
            raise RuntimeError(f"channel {quoted(self._channel.name)}: the application ended before it took an event")

    async def handle(self, delivery: Delivery) -> EventRejected | None:
        """Hand an event to the application, and wait until it was handled; return why the gate has rejected it."""
        self._outcome = asyncio.get_running_loop().create_future()
        self._events.put_nowait(delivery)
        ends: set[asyncio.Future[Any]] = {self.task, self._outcome}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._outcome.done():
            return self._outcome.result()
        self.raise_error()
        return None

    def has_private_work(self) -> bool:
        """Return whether the instance handles a private event, or can take one."""
        can_take = self.listens and self._layer.layer.has_private_event(self.private_channel)
        return can_take or self.handles_private or not self._waits.is_set()

    def raise_error(self) -> None:
        """Raise what the application has raised, if it has."""
        if self.task.done() and self.task.cancelled():
            raise RuntimeError(f"channel {quoted(self._channel.name)}: the application was cancelled")
        if self._error is not None:
            raise self._error

    async def _run(self, application: Application) -> None:
        current_holder.set(self)
        current_layer.set(self._layer)
        in_shared_thread.set(True)
        scope: Scope = {"type": "channel", "channel": self._channel.name, "extensions": {"channel.reject": {}}}
        try:
            await application(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  (the drain raises it; a task would end the event loop by some)
            self._error = error

    async def _receive(self) -> Event:
        """Return the next event; a call means that the previous one was handled."""
        self._end_event(None)
        self._waits.set()
        try:
            delivery = await self._events.get()
        finally:
            self._waits.clear()
        self.current = delivery
        return delivery.event or {}

    async def _send(self, event: Event) -> None:
        if event.get("type") != "channel.reject":
            raise NotImplementedError("You must implement application_send()")
        # Judged again, for an error with hints, as a sender gets it.
        self._end_event(self._channel.judge(event["event"]))

    def _end_event(self, rejected: EventRejected | None) -> None:
        if self.current is not None:
            self.current = None
            self._outcome.set_result(rejected)
