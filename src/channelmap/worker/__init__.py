"""Move events from a layer into an ASGI application. The worker depends on both interfaces, and on no contract."""

import asyncio
import logging
import math
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version

from channelmap.asgi import Application
from channelmap.errors import ChannelUnsupported, LayerError, quoted, text_of
from channelmap.layer import ChannelLayer, WorkerInfo
from channelmap.limits import Service
from channelmap.observer import Lost, Metrics, Observer
from channelmap.worker.flood_log import FloodLog
from channelmap.worker.heartbeat import Heartbeat
from channelmap.worker.inbox import MAX_PREFETCH, Inbox
from channelmap.worker.layer_state import LayerState
from channelmap.worker.renewal import Renewal
from channelmap.worker.shared import Shared
from channelmap.worker.slot import Slot
from channelmap.worker.slow_handlers import SlowHandlers
from channelmap.worker.steps import Steps
from channelmap.worker.suspects import SuspectLock
from channelmap.worker.timing import Timing

__all__ = ["DRAIN_TIMEOUT", "Timing", "Worker"]

log = logging.getLogger("channelmap.worker")

#: Default drain timeout in seconds: Kubernetes kills a container 30 s after SIGTERM.
DRAIN_TIMEOUT = 25.0
#: A worker in burst mode waits for its next retry if it is due within this many seconds.
MAX_BURST_WAIT = 10.0
#: In burst mode the worker stops after this many consecutive instances failed before they took an event.
_MAX_FAILED_STARTS = 3


@cache
def _version() -> str:
    """Return the version of channelmap, which is read from a file once."""
    return version("channelmap")


class Worker:
    """Serve channels: each has an inbox that prefetches events, and `concurrency` slots that handle them.

    Stopping has two steps. `quiet` stops taking events and returns unstarted ones. `serve` then ends when every
    handler has finished, or at the deadline that `stop` sets.

    Args:
        application: any ASGI application, such as a `ChannelNameRouter`; each slot calls it with
            ``{"type": "channel", "channel": name, "extensions": {"channel.reject": {}}}``.
        channels: channel names, optionally mapped to their service settings.
        channel_layer: an open layer; the worker does not close it.
        burst: stop when no event is left to handle.
        drain_timeout: seconds that running handlers may take after `stop`.
        timing: the other durations, and the clock.
        max_events: stop after about this many handled events, at most 10 % more; `None` for no limit.
        observe: called with each `Step` of an event; its errors are logged and never affect an event.
        metrics: measures the handlers, at a lower cost per event than `observe`.
        contract: digest of the contract, for the worker's heartbeats.

    Raises:
        ValueError: `channel_layer` is `None`.
        LayerError: a channel is at-least-once, and the layer has no leases.

    """

    def __init__(  # noqa: PLR0913  (each argument is an independent setting)
        self,
        application: Application,
        channels: Iterable[str] | Mapping[str, Service],
        channel_layer: ChannelLayer,
        *,
        burst: bool = False,
        drain_timeout: float = DRAIN_TIMEOUT,
        timing: Timing | None = None,
        max_events: int | None = None,
        observe: Observer | None = None,
        metrics: Metrics | None = None,
        contract: str = "",
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
        self._steps = Steps(observe, metrics)
        self._identity = WorkerInfo(
            id=uuid.uuid4().hex, host=socket.gethostname(), pid=os.getpid(), started=time.time(),
            version=_version(), contract=contract, channels=(*services,), in_flight={},
        )  # fmt: skip
        self._flood_log = FloodLog(self._clock)
        self._layer_state = LayerState(self._steps, self._clock, self._flood_log)
        self._inboxes: list[Inbox] = []
        self._slots: list[Slot] = []
        self._quiet = asyncio.Event()
        self._changed = asyncio.Event()
        self._deadline: float | None = None
        self._failure: ChannelUnsupported | None = None
        #: A handler was cut off at its timeout or at the deadline; its thread may still run.
        self.cut_off = False
        #: The burst ended early: the application fails before it takes an event, or no key fits the events.
        self.gave_up = False
        #: The worker stopped because it had handled `max_events`.
        self.reached_max_events = False
        #: An internal task of the worker ended unexpectedly, which is a bug in channelmap.
        self.broken = False

    async def serve(self) -> None:
        """Serve until stopped or, in burst mode, until no event is left.

        Raises:
            ChannelUnsupported: the layer cannot serve one of the channels; raised after events in flight have finished.

        """
        self._open()
        running = [asyncio.ensure_future(slot.run()) for slot in self._slots]
        for task in running:
            self._watch("a slot", task, endless=True)
        renewing = self._start_renewal()
        heartbeat, beating = self._start_heartbeat()
        checking = asyncio.ensure_future(SlowHandlers(self._inboxes, self._clock).run())
        self._watch("the check for slow handlers", checking)
        try:
            if self._burst:
                await self._wait_until_burst_ends()
                await self._log_paused_channels()
                self.quiet()
            await self._quiet.wait()
            self._cancel_idle_slots(running)
            await self._wait_until_finished(running)
        finally:
            self.quiet()
            await self._shut_down([*running, *renewing, *beating, checking], heartbeat)
        if self._failure is not None:
            raise self._failure

    @property
    def is_ready(self) -> bool:
        """Whether the worker serves its channels, and is not stopping."""
        return bool(self._inboxes) and not self._quiet.is_set()

    @property
    def is_layer_up(self) -> bool:
        """Whether the worker has started, and the layer has answered the last call of each channel."""
        return bool(self._inboxes) and self._layer_state.is_up

    def in_flight(self) -> dict[str, int]:
        """Return the number of events that are being handled, by channel."""
        current = {
            inbox.channel: len([holder for holder in inbox.ledger.holders if holder.current is not None])
            for inbox in self._inboxes
        }
        return {channel: count for channel, count in current.items() if count}

    def _info(self) -> WorkerInfo:
        return replace(self._identity, in_flight=self.in_flight())

    def quiet(self) -> None:
        """Stop taking events and return unstarted ones; events in flight continue."""
        for inbox in self._inboxes:
            inbox.close()
        self._quiet.set()

    def stop(self, deadline: float | None = None) -> None:
        """Stop, and cut off handlers that still run after `deadline` seconds; the default is the drain timeout."""
        seconds = self._drain_timeout if deadline is None else deadline
        self._deadline = self._clock.time() + seconds
        self.quiet()
        self._changed.set()

    def _stop_unsupported(self, failure: ChannelUnsupported) -> None:
        self._failure = failure
        self.stop()

    def _watch(self, what: str, task: "asyncio.Task[None]", *, endless: bool = False) -> None:
        """Stop the worker if the task fails, or if it ends although it is `endless`."""
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

    def _count_handled(self, events: int) -> None:
        """Add handled events to the total, and stop the worker at `max_events`."""
        self._handled += events
        if self._max_events is not None and self._handled >= self._max_events and not self._quiet.is_set():
            log.info("%d events handled, max_events reached: finishing the events in flight", self._handled)
            self.reached_max_events = True
            self.stop()

    def _open(self) -> None:
        max_prefetch = MAX_PREFETCH
        if self._max_events is not None:
            # All inboxes together prefetch at most a tenth of the events, so the overshoot stays below 10 %.
            max_prefetch = max(1, min(max_prefetch, self._max_events // (10 * max(1, len(self._services)))))
        shared = Shared(
            layer=self.channel_layer,
            timing=self._timing,
            steps=self._steps,
            layer_state=self._layer_state,
            flood_log=self._flood_log,
            suspect_lock=SuspectLock(),
            watch=self._watch,
            unsupported=self._stop_unsupported,
            max_prefetch=max_prefetch,
            burst=self._burst,
        )
        for name, service in self._services.items():
            inbox = Inbox(name, service, shared)
            inbox.ledger.closed = self._quiet.is_set()
            self._inboxes.append(inbox)
            self._slots += [
                Slot(inbox, self.application, self._changed.set, self._count_handled)
                for _ in range(service.concurrency)
            ]

    def _start_renewal(self) -> list["asyncio.Task[None]"]:
        ledgers = {inbox.channel: inbox.ledger for inbox in self._inboxes if inbox.service.retry}
        if not ledgers:
            return []
        task = asyncio.ensure_future(Renewal(self.channel_layer, ledgers, self._timing, self._steps).run())
        self._watch("the renewal of leases", task, endless=True)
        return [task]

    def _start_heartbeat(self) -> tuple[Heartbeat | None, list["asyncio.Task[None]"]]:
        if not self.channel_layer.has_heartbeats:
            return None, []
        heartbeat = Heartbeat(self.channel_layer, self._info, self._steps, self._layer_state, self._timing)
        task = asyncio.ensure_future(heartbeat.run())
        self._watch("the heartbeat", task, endless=True)
        return heartbeat, [task]

    async def _wait_until_burst_ends(self) -> None:
        """Wait until no slot has an event and a final refill finds none; a handler may have sent more."""
        while not self._quiet.is_set():
            await self._wait_for_change()
            if any(slot.failed_starts >= _MAX_FAILED_STARTS for slot in self._slots):
                self.gave_up = True
                return
            if all(slot.found_nothing for slot in self._slots):
                found = [await inbox.refill() for inbox in self._inboxes]
                if not any(found) and not await self._wait_for_retry():
                    self.gave_up = any(inbox.has_wrong_key for inbox in self._inboxes)
                    return
                for slot in self._slots:
                    slot.wake()

    async def _wait_for_retry(self) -> bool:
        """Wait until the next retry scheduled by this worker is due; return False if none is due soon."""
        due = min((due for inbox in self._inboxes for due in inbox.retries), default=math.inf)
        left = due - self._clock.time()
        if left > MAX_BURST_WAIT:
            return False
        with suppress(TimeoutError):
            async with self._clock.timeout(left):
                await self._quiet.wait()
        for inbox in self._inboxes:
            inbox.retries = [later for later in inbox.retries if later > due]
        return True

    async def _log_paused_channels(self) -> None:
        """Log paused channels with waiting events, which burst mode does not handle; stop when the worker stops."""
        for name in self._services:
            if self._quiet.is_set():
                return
            try:
                waiting = await self.channel_layer.waiting(name) if await self.channel_layer.is_paused(name) else 0
            except LayerError as error:
                log.warning("channel %s: cannot determine whether it is paused: %s", quoted(name), error)
                # The layer is unreachable for the other channels as well.
                return
            if waiting:
                log.warning("channel %s: paused; %d events wait", quoted(name), waiting)

    def _cancel_idle_slots(self, running: list["asyncio.Task[None]"]) -> None:
        for slot, task in zip(self._slots, running, strict=True):
            if slot.idle:
                task.cancel()

    async def _wait_until_finished(self, running: list["asyncio.Task[None]"]) -> None:
        """Wait until no slot has a current event, or until the deadline."""
        while not all(slot.idle or task.done() for slot, task in zip(self._slots, running, strict=True)):
            if self._deadline is not None and self._clock.time() >= self._deadline:
                return
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        """Wait until a slot reports a change, or until the deadline."""
        left = None if self._deadline is None else self._deadline - self._clock.time()
        try:
            async with self._clock.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _shut_down(self, tasks: list["asyncio.Task[None]"], heartbeat: Heartbeat | None) -> None:
        """Cancel all tasks, then write outstanding results to the layer within the shutdown grace."""
        for task in tasks:
            task.cancel()
        end = max(self._deadline or 0.0, self._clock.time()) + self._timing.grace
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*[self._stop_by(end, slot.inbox.channel, slot.stop()) for slot in self._slots])
        await asyncio.gather(*[self._stop_by(end, inbox.channel, inbox.stop()) for inbox in self._inboxes])
        self.cut_off = any(slot.cut_off for slot in self._slots)
        for inbox in self._inboxes:
            inbox.abandon()
            if lost := len(inbox.ledger.unsettled()):
                is_leased = inbox.service.retry is not None
                outcome = "they are redelivered when their leases end" if is_leased else "they are lost"
                log.error("channel %s: the layer does not answer for %d events: %s",
                          quoted(inbox.channel), lost, outcome)  # fmt: skip
                self._steps(Lost(inbox.channel, lost, is_leased))
        if heartbeat is not None:
            await heartbeat.stop(min(end, self._clock.time() + self._timing.grace))
        self._flood_log.flush()

    async def _stop_by(self, end: float, channel: str, stop: Awaitable[None]) -> None:
        """Stop a part of the worker; an error must not keep the others from stopping."""
        try:
            async with self._clock.timeout(end - self._clock.time()):
                await stop
        except TimeoutError:
            pass  # the caller counts what is still unsettled
        except Exception:
            log.exception("channel %s: cannot shut down cleanly", quoted(channel))
