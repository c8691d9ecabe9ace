"""Moves events from a layer into an application: knows ASGI and the layer's promise, and no contract."""

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from channelmap.asgi import Application
from channelmap.errors import ChannelUnsupported, LayerError, quoted, text_of
from channelmap.layer import ChannelLayer
from channelmap.terms import Service
from channelmap.worker.inbox import LEASE, Inbox
from channelmap.worker.slot import Slot
from channelmap.worker.suspects import SuspectTurn

__all__ = ["DRAIN_TIMEOUT", "Worker"]

log = logging.getLogger("channelmap.worker")

#: Seconds for running handlers when a worker stops: Kubernetes kills 30 s after its signal to stop.
DRAIN_TIMEOUT = 25.0
#: Seconds that a stopping worker gives a lost layer, at least, to take back what is in hand.
LAST_WORDS = 5.0
#: Seconds until the next retry of this worker for which a burst still waits.
BURST_PATIENCE = 10.0
#: Instances of an application that may fail in a row, before they take an event, until a burst ends.
_MOST_STARTS = 3


class Worker:
    """Serves channels: for each an inbox that refills itself, and `concurrency` slots that handle its events.

    Stopping has two steps: `quiet` (take no more, give back what was not begun), and then the end of `serve`,
    when every handler has finished, or at the deadline that `stop` sets.

    Args:
        application: any ASGI application, such as a `ChannelNameRouter`; it is called for each slot with
            ``{"type": "channel", "channel": name, "extensions": {"channel.reject": {}}}``.
        channels: names, or names with how each is served.
        channel_layer: an open layer; it stays open.
        burst: end when everything that waits is handled.
        drain_timeout: seconds for running handlers when the worker stops.

    Raises:
        ValueError: there is no layer.
        LayerError: a channel is to be served at-least-once, which the layer cannot.

    """

    def __init__(
        self,
        application: Application,
        channels: Iterable[str] | Mapping[str, Service],
        channel_layer: ChannelLayer,
        *,
        burst: bool = False,
        drain_timeout: float = DRAIN_TIMEOUT,
    ) -> None:
        if channel_layer is None:
            raise ValueError("Channel layer is not valid")
        self.application = application
        self.channel_layer = channel_layer
        services = channels if isinstance(channels, Mapping) else dict.fromkeys(channels, Service())
        for name, service in services.items():
            channel_layer.require_valid_channel_name(name)
            if service.retry is not None and not channel_layer.has_leases:
                reason = f"cannot serve channel {quoted(name)} at-least-once: it has no leases"
                raise LayerError(channel_layer.url, reason)
        self._services = dict(services)
        self._burst = burst
        self._drain_timeout = drain_timeout
        self._inboxes: list[Inbox] = []
        self._slots: list[Slot] = []
        self._turn = SuspectTurn()
        self._quiet = asyncio.Event()
        self._changed = asyncio.Event()
        self._deadline: float | None = None
        self._failure: ChannelUnsupported | None = None
        #: A handler was cut off, at its timeout or at the deadline: its thread may still run.
        self.cut_off = False
        #: A burst ended before its time: the application fails before it takes an event, or no key fits the events.
        self.gave_up = False
        #: A task of the worker itself ended although nobody asked for it: a fault of channelmap's own.
        self.broken = False

    async def serve(self) -> None:
        """Serve until stopped, or, in burst mode, until nothing waits.

        Raises:
            ChannelUnsupported: the layer cannot serve one of the channels; events in flight were finished before.

        """
        self._open()
        running = [asyncio.ensure_future(slot.run()) for slot in self._slots]
        renewing = asyncio.ensure_future(self._renew())
        for task in (*running, renewing):
            self._watch("a slot or the renewal of leases", task, endless=True)
        try:
            if self._burst:
                await self._until_nothing_waits()
                self.quiet()
            await self._quiet.wait()
            self._dismiss_idle(running)
            await self._until_finished(running)
        finally:
            self.quiet()
            await self._end([*running, renewing])
        if self._failure is not None:
            raise self._failure

    def quiet(self) -> None:
        """Take no more. What was not begun goes back, what was begun goes on."""
        for inbox in self._inboxes:
            inbox.quiet()
        self._quiet.set()

    def stop(self, deadline: float | None = None) -> None:
        """Be quiet, and cut off the handlers that still run `deadline` seconds from now, or after the drain timeout."""
        seconds = self._drain_timeout if deadline is None else deadline
        self._deadline = asyncio.get_running_loop().time() + seconds
        self.quiet()
        self._changed.set()

    def _end_for(self, failure: ChannelUnsupported) -> None:
        self._failure = failure
        self.stop()

    def _watch(self, what: str, task: "asyncio.Task[None]", *, endless: bool = False) -> None:
        """Stop the worker, as a signal does, when a task of its own fails, or ends although it is endless."""
        task.add_done_callback(partial(self._task_ended, what, endless))

    def _task_ended(self, what: str, endless: bool, task: "asyncio.Task[None]") -> None:  # noqa: FBT001
        self._changed.set()
        error = None if task.cancelled() else task.exception()
        if error is None and (not endless or self._quiet.is_set()):
            return
        log.critical(
            "%s ended unexpectedly (%s): stopping the worker",
            what, "cancelled" if task.cancelled() else text_of(error) if error else "no error", exc_info=error,
        )  # fmt: skip
        self.broken = True
        if not self._quiet.is_set():
            self.stop()

    def _open(self) -> None:
        for name, service in self._services.items():
            inbox = Inbox(
                self.channel_layer, name, service,
                burst=self._burst, unsupported=self._end_for, watch=self._watch, turn=self._turn,
            )  # fmt: skip
            inbox.closed = self._quiet.is_set()
            self._inboxes.append(inbox)
            self._slots += [Slot(inbox, self.application, self._changed.set) for _ in range(service.concurrency)]

    async def _until_nothing_waits(self) -> None:
        """Wait until every slot rests and a last look finds nothing: a handler may have sent more."""
        while not self._quiet.is_set():
            await self._change()
            if any(slot.failed_starts >= _MOST_STARTS for slot in self._slots):
                self.gave_up = True
                return
            if all(slot.resting for slot in self._slots):
                found = [await inbox.refill() for inbox in self._inboxes]
                if not any(found) and not await self._retry_is_due():
                    self.gave_up = any(inbox.has_wrong_key for inbox in self._inboxes)
                    return
                for slot in self._slots:
                    slot.wake()

    async def _retry_is_due(self) -> bool:
        """Wait for the next event that this worker has put back for a retry; False when none is due soon."""
        due = min((due for inbox in self._inboxes for due in inbox.retries), default=math.inf)
        left = due - asyncio.get_running_loop().time()
        if left > BURST_PATIENCE:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), left)
        for inbox in self._inboxes:
            inbox.retries = [later for later in inbox.retries if later > due]
        return True

    def _dismiss_idle(self, running: list["asyncio.Task[None]"]) -> None:
        for slot, task in zip(self._slots, running, strict=True):
            if slot.idle:
                task.cancel()

    async def _until_finished(self, running: list["asyncio.Task[None]"]) -> None:
        """Wait until every slot has dealt with the event it had in hand, or until the deadline."""
        while not all(slot.idle or task.done() for slot, task in zip(self._slots, running, strict=True)):
            if self._deadline is not None and asyncio.get_running_loop().time() >= self._deadline:
                return
            await self._change()

    async def _change(self) -> None:
        """Wait until a slot comes to rest or the deadline has passed."""
        left = None if self._deadline is None else self._deadline - asyncio.get_running_loop().time()
        try:
            await asyncio.wait_for(self._changed.wait(), left)
        except TimeoutError:
            return
        self._changed.clear()

    async def _end(self, tasks: list["asyncio.Task[None]"]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*map(self._say_last_words, self._slots))
        await asyncio.gather(*map(self._say_last_words, self._inboxes))
        self.cut_off = any(slot.cut_off for slot in self._slots)

    async def _say_last_words(self, whose: Slot | Inbox) -> None:
        """Let a slot or an inbox hand back what it holds, while there is time, and own up to what is lost."""
        left = LAST_WORDS
        if self._deadline is not None:
            left = max(left, self._deadline - asyncio.get_running_loop().time())
        try:
            await asyncio.wait_for(whose.stop(), left)
        except Exception as error:  # noqa: BLE001  (whatever a layer's client raises, the others have their turn)
            reason = str(error) or "the layer does not answer"
            if whose.held:
                log.error("channel %s: lost %d events: %s", quoted(whose.channel), whose.held, reason)  # noqa: TRY400

    async def _renew(self) -> None:
        """Renew the leases of what is held, over and over; a round looks at each slot once."""
        slots_of: dict[Inbox, list[Slot]] = {inbox: [] for inbox in self._inboxes if inbox.service.retry}
        for slot in self._slots:
            if slot.inbox in slots_of:
                slots_of[slot.inbox].append(slot)
        while True:
            await asyncio.sleep(LEASE / 3)
            for inbox, slots in slots_of.items():
                inbox.renew([slot.in_hand for slot in slots if slot.in_hand])
