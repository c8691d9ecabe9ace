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
from channelmap.limits import Service
from channelmap.worker.inbox import LARGEST_REFILL, Inbox
from channelmap.worker.renewal import Renewal
from channelmap.worker.slot import Slot
from channelmap.worker.suspects import SuspectTurn
from channelmap.worker.timing import Timing

__all__ = ["DRAIN_TIMEOUT", "Timing", "Worker"]

log = logging.getLogger("channelmap.worker")

#: Seconds for running handlers when a worker stops: Kubernetes kills 30 s after its signal to stop.
DRAIN_TIMEOUT = 25.0
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
        timing: how long to wait for what else.
        max_events: stop when about so many events were handled, 10 % more at most; `None` for any number.

    Raises:
        ValueError: there is no layer.
        LayerError: a channel is to be served at-least-once, which the layer cannot.

    """

    def __init__(  # noqa: PLR0913  (what it serves, and how)
        self,
        application: Application,
        channels: Iterable[str] | Mapping[str, Service],
        channel_layer: ChannelLayer,
        *,
        burst: bool = False,
        drain_timeout: float = DRAIN_TIMEOUT,
        timing: Timing | None = None,
        max_events: int | None = None,
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
        self._timing = timing or Timing()
        self._clock = self._timing.clock
        self._max_events = max_events
        self._handled = 0
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
        #: It stopped because it had handled `max_events`.
        self.is_spent = False
        #: A task of the worker itself ended although nobody asked for it: a fault of channelmap's own.
        self.broken = False

    async def serve(self) -> None:
        """Serve until stopped, or, in burst mode, until nothing waits.

        Raises:
            ChannelUnsupported: the layer cannot serve one of the channels; events in flight were finished before.

        """
        self._open()
        running = [asyncio.ensure_future(slot.run()) for slot in self._slots]
        for task in running:
            self._watch("a slot", task, endless=True)
        renewing = self._start_renewal()
        try:
            if self._burst:
                await self._until_nothing_waits()
                await self._tell_pauses()
                self.quiet()
            await self._quiet.wait()
            self._dismiss_idle(running)
            await self._until_finished(running)
        finally:
            self.quiet()
            await self._end([*running, *renewing])
        if self._failure is not None:
            raise self._failure

    def quiet(self) -> None:
        """Take no more. What was not begun goes back, what was begun goes on."""
        for inbox in self._inboxes:
            inbox.close()
        self._quiet.set()

    def stop(self, deadline: float | None = None) -> None:
        """Be quiet, and cut off the handlers that still run `deadline` seconds from now, or after the drain timeout."""
        seconds = self._drain_timeout if deadline is None else deadline
        self._deadline = self._clock.time() + seconds
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

    def _count(self, events: int) -> None:
        """Take in that so many events were handled."""
        self._handled += events
        if self._max_events is not None and self._handled >= self._max_events and not self._quiet.is_set():
            log.info("%d events handled, as many as it may: finishing what was begun", self._handled)
            self.is_spent = True
            self.stop()

    def _open(self) -> None:
        most = LARGEST_REFILL
        if self._max_events is not None:
            # What all slots together take in hand at once is a tenth of the events, if there are so many.
            most = max(1, min(most, self._max_events // (10 * max(1, len(self._services)))))
        for name, service in self._services.items():
            inbox = Inbox(
                self.channel_layer, name, service, self._timing,
                most=most, burst=self._burst, unsupported=self._end_for, watch=self._watch, turn=self._turn,
            )  # fmt: skip
            inbox.ledger.closed = self._quiet.is_set()
            self._inboxes.append(inbox)
            self._slots += [
                Slot(inbox, self.application, self._changed.set, self._count) for _ in range(service.concurrency)
            ]

    def _start_renewal(self) -> list["asyncio.Task[None]"]:
        ledgers = {inbox.channel: inbox.ledger for inbox in self._inboxes if inbox.service.retry}
        if not ledgers:
            return []
        task = asyncio.ensure_future(Renewal(self.channel_layer, ledgers, self._timing).run())
        self._watch("the renewal of leases", task, endless=True)
        return [task]

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
        left = due - self._clock.time()
        if left > BURST_PATIENCE:
            return False
        with suppress(TimeoutError):
            async with self._clock.timeout(left):
                await self._quiet.wait()
        for inbox in self._inboxes:
            inbox.retries = [later for later in inbox.retries if later > due]
        return True

    async def _tell_pauses(self) -> None:
        """Log each paused channel on which events wait: a burst does not handle them. Return when the worker stops."""
        for name in self._services:
            if self._quiet.is_set():
                return
            try:
                waiting = await self.channel_layer.waiting(name) if await self.channel_layer.is_paused(name) else 0
            except LayerError as error:
                log.warning("channel %s: cannot say whether it is paused: %s", quoted(name), error)
                # The layer would not answer for the other channels either.
                return
            if waiting:
                log.warning("channel %s: paused; %d events wait", quoted(name), waiting)

    def _dismiss_idle(self, running: list["asyncio.Task[None]"]) -> None:
        for slot, task in zip(self._slots, running, strict=True):
            if slot.idle:
                task.cancel()

    async def _until_finished(self, running: list["asyncio.Task[None]"]) -> None:
        """Wait until every slot has dealt with the event it had in hand, or until the deadline."""
        while not all(slot.idle or task.done() for slot, task in zip(self._slots, running, strict=True)):
            if self._deadline is not None and self._clock.time() >= self._deadline:
                return
            await self._change()

    async def _change(self) -> None:
        """Wait until a slot comes to rest or the deadline has passed."""
        left = None if self._deadline is None else self._deadline - self._clock.time()
        try:
            async with self._clock.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _end(self, tasks: list["asyncio.Task[None]"]) -> None:
        """End all tasks, and let the layer hear what it has not heard, while there is time."""
        for task in tasks:
            task.cancel()
        end = max(self._deadline or 0.0, self._clock.time()) + self._timing.grace
        await asyncio.gather(*tasks, return_exceptions=True)
        for whose in (self._slots, self._inboxes):
            await asyncio.gather(*[self._stop_until(end, one) for one in whose])
        self.cut_off = any(slot.cut_off for slot in self._slots)
        for inbox in self._inboxes:
            inbox.abandon()
            if lost := len(inbox.ledger.held()):
                outcome = "they come again when their leases end" if inbox.service.retry else "they are lost"
                log.error("channel %s: the layer does not answer for %d events: %s",
                          quoted(inbox.channel), lost, outcome)  # fmt: skip

    async def _stop_until(self, end: float, whose: Slot | Inbox) -> None:
        try:
            async with self._clock.timeout(end - self._clock.time()):
                await whose.stop()
        except TimeoutError:
            pass  # the ledger knows what is left
        except Exception:
            # Whatever a layer's client raises, the others have their turn.
            log.exception(
                "channel %s: cannot end in good order",
                quoted((whose.inbox if isinstance(whose, Slot) else whose).channel),
            )
