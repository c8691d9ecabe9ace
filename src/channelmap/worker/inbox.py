"""Prefetching of a channel's events, and reporting of their outcomes to the layer.

Invariant: an inbox prefetches only about 10 ms of work, as measured. A crash may lose prefetched events, and other
workers cannot handle them. A fast handler gets hundreds of events in one round trip; a slow one gets one.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from channelmap.environment import shown
from channelmap.errors import ChannelUnsupported, quoted, shortened
from channelmap.layer import DeadLetter, Delivery, letter_for
from channelmap.limits import Service
from channelmap.observer import Dead, Taken
from channelmap.trace_key import trace_id_of
from channelmap.worker.backoff import MAX_DELAY, LayerCalls, wait_until_done
from channelmap.worker.decryption import Decryption
from channelmap.worker.ledger import Holder, Ledger
from channelmap.worker.shared import Shared
from channelmap.worker.steps import step_fields

if TYPE_CHECKING:
    from channelmap.clock import Timer

log = logging.getLogger("channelmap.worker")

#: Maximum number of events per refill, unless `max_events` of the worker lowers it.
MAX_PREFETCH = 1_000
#: Age in seconds and size at which a batch of rejections is written; then other tasks run.
MAX_BATCH_SECS, MAX_BATCH_LETTERS = 0.001, 64
#: Attempts of a call that fails while the layer is reachable.
MAX_TRIES = 3
#: Maximum length of an event type in a log record; an undeclared type may be any text.
_MAX_TYPE_LENGTH = 100

#: Reason of a dead letter of which the layer accepts only the event's bytes.
_BARE_REASON = "its dead letter could not be written in full; the worker's log has the reason"


class PrefetchSize:
    """The number of events to prefetch, computed from how long the handler takes."""

    def __init__(self, concurrency: int, work: float, max_prefetch: int) -> None:
        self._concurrency = concurrency
        self._work = work
        self._max_prefetch = max_prefetch
        self._mean = work

    def record(self, seconds: float, events: int) -> None:
        """Record that `events` took `seconds`. A slower mean replaces the estimate; a faster one is averaged in."""
        mean = seconds / events
        self._mean = mean if mean > self._mean else (mean + self._mean) / 2

    @property
    def limit(self) -> int:
        """Maximum number of events for the next refill."""
        return max(1, min(int(self._work * self._concurrency / (self._mean or 1e-9)), self._max_prefetch))


class Inbox:
    """Hand out the events of a channel to its slots, and report their outcomes to the layer.

    Args:
        channel: the channel's name.
        service: how the channel is served.
        shared: what the inboxes of a worker share.

    """

    def __init__(self, channel: str, service: Service, shared: Shared) -> None:
        self.layer = shared.layer
        self.channel = channel
        self.service = service
        self.clock = shared.timing.clock
        self.steps = shared.steps
        self.flood_log = shared.flood_log
        self.ledger = Ledger()
        #: In burst mode, the times at which the retries of this worker are due, by the clock.
        self.retries: list[float] = []
        #: No key of the layer fits any waiting event.
        self.has_wrong_key = False
        self.prefetch_size = PrefetchSize(service.concurrency, shared.timing.prefetch_work, shared.max_prefetch)
        self._shared = shared
        self._decryption = Decryption(shared.layer, channel)
        self._lease = shared.timing.lease if service.retry else None
        self._burst = shared.burst
        self._suspect_lock = shared.suspect_lock
        self._call_layer = LayerCalls(channel, self.clock, shared.layer_state, shared.flood_log)
        self._refill_lock = asyncio.Lock()
        self._settle_lock = asyncio.Lock()
        self._settle_task: asyncio.Task[None] | None = None
        self._retry_lock = asyncio.Lock()
        self._burying_since = 0.0
        self._bury_lock = asyncio.Lock()
        self._bury_task: asyncio.Task[None] | None = None
        self._return_timer: Timer | None = None
        self._return_task: asyncio.Task[None] | None = None

    # Taking.

    async def next(self, holder: Holder) -> Delivery | None:
        """Make the oldest prefetched delivery current and return it, waiting if necessary.

        Return `None` once closed or, in burst mode, when the channel is empty.
        """
        await self.flush_settled()
        while not self.ledger.closed:
            async with self._refill_lock:
                while not (self.ledger.closed or self.ledger.suspects):
                    try:
                        holder.current = self.ledger.prefetched.popleft()
                    except IndexError:
                        # A handler's thread may have taken the last one.
                        if not await self.refill():
                            return None
                    else:
                        return holder.current
                if self.ledger.closed:
                    return None
                suspect = self.ledger.suspects.popleft()
                self.ledger.starting.append(suspect)
            if await self._begin_suspect(suspect, holder):
                return suspect
        return None

    async def _begin_suspect(self, suspect: Delivery, holder: Holder) -> bool:
        """Acquire the suspect lock and record the start in the layer; return False if the handler must not start."""
        is_ours, begun = True, False
        try:
            await self._suspect_lock.acquire(suspect, self._flush)
            is_ours = await self._record_begin(suspect)
            begun = is_ours and not self.ledger.closed
        finally:
            if begun:
                self.ledger.start_suspect(holder, suspect)
            else:
                self._suspect_lock.release(suspect)
                if is_ours:
                    self.ledger.requeue_suspect(suspect)
                    self._return_now()
                else:
                    self.ledger.starting.remove(suspect)
        return begun

    async def _record_begin(self, suspect: Delivery) -> bool:
        try:
            is_ours = await self._call_layer("begin an event", lambda: self.layer.begin(suspect), tries=MAX_TRIES)
        except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
            return True
        if not is_ours:
            log.warning(
                "channel %s: the lease of an event ended before its handler started",
                quoted(self.channel), extra=log_fields(suspect),
            )  # fmt: skip
        return is_ours

    async def _flush(self) -> None:
        await self.flush_settled()
        await self.flush_dead_letters()

    async def refill(self) -> bool:
        """Prefetch about `prefetch_work` seconds of work, waiting for the first event; False if there is none."""
        # Yield to other tasks: if no call below has to wait, other channels, signals and timers would starve. Before
        # the take, so that no taken event waits for it.
        await asyncio.sleep(0)
        # Returning events are older than any event that a refill would take.
        await wait_until_done(self._return_task)
        if self.ledger.prefetched:
            return True
        if self._burst and self.has_wrong_key:
            return False
        try:
            taken = await self._call_layer(
                "take events",
                lambda: self.layer.take(
                    self.channel, self.prefetch_size.limit, lease=self._lease, wait=not self._burst
                ),
            )
        except ChannelUnsupported as error:
            self.ledger.close()
            self._shared.unsupported(error)
            return False
        if taken:
            self._tell_taken(taken)
        if self._are_deliverable(taken):
            if taken:
                self._decryption.note_readable()
            self.ledger.add(taken)
        else:
            self.ledger.undeliverable += taken
            if not self._decryption.are_exceptions(taken) and await self._has_wrong_key():
                return not self._burst
            await self._bury_undeliverable()
        if self.ledger.closed:
            self._return_now()
        elif len(self.ledger.prefetched) > 1:
            self._schedule_return()
        return bool(taken)

    def _tell_taken(self, taken: list[Delivery]) -> None:
        redelivered = 0
        if self._lease is not None:
            redelivered = len([one for one in taken if one.attempt > 1 or one.suspect])
        if redelivered or self.steps.are_told:
            self.steps(Taken(self.channel, len(taken), redelivered))

    def close(self) -> None:
        """Hand out no further events, and return unstarted ones; current events continue."""
        self.ledger.close()
        self._return_now()

    def _is_deliverable(self, delivery: Delivery) -> bool:
        """Return whether a delivery is an event with attempts left."""
        if not (delivery.event and delivery.event.get("type")):
            return False
        # A worker that crashes cannot report it, so the layer counts the crash as an attempt.
        return self.service.retry is None or delivery.attempt <= self.service.retry.attempts

    def _are_deliverable(self, deliveries: list[Delivery]) -> bool:
        """Return whether all are deliverable; faster than a call of `_is_deliverable` for each."""
        try:
            if self.service.retry is None:
                return not [one for one in deliveries if not one.event["type"]]  # type: ignore[index]  # see below
            max_attempts = self.service.retry.attempts
            return not [one for one in deliveries if not one.event["type"] or one.attempt > max_attempts]  # type: ignore[index]
        except (KeyError, TypeError):
            return False  # no type, or no event

    async def _bury_undeliverable(self) -> None:
        undeliverable = self.ledger.requeue_deliverable(self._is_deliverable)
        letters = [_letter_for_undeliverable(delivery) for delivery in undeliverable]
        for delivery, letter in zip(undeliverable, letters, strict=True):
            self.flood_log.log(
                (self.channel, letter.code), f"channel {quoted(self.channel)}: %d more events kept as dead letters",
                logging.ERROR, "channel %s: %s; kept as a dead letter", quoted(self.channel), letter.reason,
                extra=log_fields(delivery, letter.code),
            )  # fmt: skip
            self.steps(Dead(*step_fields(delivery), letter.code, letter.reason))
        self.ledger.bury_undeliverable(letters)
        await self.flush_dead_letters()

    async def _has_wrong_key(self) -> bool:
        """Return undecryptable events, and wait until a key fits one; `False` at once if a key fits a waiting event."""
        if not await self._count_undecryptable():
            return False
        self.ledger.return_undeliverable()
        self._return_now()
        await wait_until_done(self._return_task)
        while count := await self._count_undecryptable():
            self.has_wrong_key = True
            log.error(
                "channel %s: no key of the layer fits any of the %d waiting events; they stay where they are, %s; "
                "check symmetric_encryption_keys",
                quoted(self.channel), count, "the burst ends" if self._burst else f"next look in {MAX_DELAY:.1f} s",
            )  # fmt: skip
            if self._burst:
                return True
            await self.clock.sleep(MAX_DELAY)
        if self.has_wrong_key:
            log.warning("channel %s: taking events again", quoted(self.channel))
        self.has_wrong_key = False
        return True

    async def _count_undecryptable(self) -> int:
        return await self._call_layer("look for events that a key fits", self._decryption.count_undecryptable)

    # Returning.

    def _schedule_return(self) -> None:
        if self._return_timer is not None:
            self._return_timer.cancel()
        self._return_timer = self.clock.call_later(self._shared.timing.return_after, self._return_prefetched)

    def _return_prefetched(self) -> None:
        """Return prefetched events to other workers, and settle handled ones."""
        if self.ledger.settling:
            self._settle_task = self._start("the settling of events", self.flush_settled())
        if self.ledger.prefetched:
            self.prefetch_size.record(self._shared.timing.return_after, 1)
            self.ledger.return_prefetched()
            self._return_now()

    def _return_now(self) -> None:
        if self.ledger.returning and (self._return_task is None or self._return_task.done()):
            self._return_task = self._start("the return of prefetched events", self._give_back())

    async def _give_back(self) -> None:
        while returning := [*self.ledger.returning]:
            # If the call fails, undeliverable events must not go back to prefetched.
            if self.ledger.closed or not all(map(self._is_deliverable, returning)):
                await self._call_layer("return events", partial(self.layer.give_back, returning))
            else:
                try:
                    await self.layer.give_back(returning)
                except Exception as error:  # noqa: BLE001  (a layer's client may raise anything; the events stay here)
                    log.warning("channel %s: cannot return events: %s", quoted(self.channel), error)
                    self.ledger.undo_return(returning)
                    self._schedule_return()
                    continue
            self.ledger.returned(returning)

    # Reporting outcomes.

    def settle(self, holder: Holder) -> None:
        """Queue the current delivery for settling. At-most-once deliveries left the layer with the take."""
        delivery = holder.current
        if delivery is not None:
            if self._lease is not None:
                self.ledger.settling.append(delivery)
                self._release_suspect(delivery)
            holder.current = None

    async def flush_settled(self) -> None:
        """Settle handled deliveries in the layer."""
        if not self.ledger.settling:
            return
        async with self._settle_lock:
            # They stay in the ledger until the layer has settled them, because this call may be cancelled.
            settled = [*self.ledger.settling]
            if not settled:
                return  # another slot has settled them
            try:
                await self._call_layer("settle events", lambda: self.layer.settle(settled), tries=MAX_TRIES)
            except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                log.critical(
                    "channel %s: %d handled events cannot be settled; the layer will redeliver them",
                    quoted(self.channel), len(settled),
                )  # fmt: skip
            del self.ledger.settling[: len(settled)]

    async def retry(self, holder: Holder, delay: float) -> None:
        """Retry the current delivery after `delay` seconds; in burst mode the worker may wait for it."""
        delivery = holder.current
        if delivery is not None:
            self.ledger.retrying.append((delivery, delay))
            holder.current = None
            if self._burst:
                self.retries.append(self.clock.time() + delay)
            await self.flush_retrying()
            self._release_suspect(delivery)

    async def flush_retrying(self) -> None:
        """Schedule retries in the layer."""
        async with self._retry_lock:
            while self.ledger.retrying:
                delivery, delay = self.ledger.retrying[0]
                try:
                    await self._call_layer(
                        "retry an event", partial(self.layer.retry, delivery, delay), tries=MAX_TRIES
                    )
                except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                    log.critical(
                        "channel %s: the delay of a retry cannot be set; the event is redelivered when its lease ends",
                        quoted(self.channel), extra=log_fields(delivery),
                    )  # fmt: skip
                del self.ledger.retrying[0]

    async def bury(self, holder: Holder, letter: DeadLetter) -> None:
        """Write the dead letter of the current delivery, after the queued ones."""
        if holder.current is not None:
            self.ledger.burying.append((holder.current, letter))
            self._release_suspect(holder.current)
            holder.current = None
            await self.flush_dead_letters()

    def reject(self, holder: Holder, letter: DeadLetter) -> None:
        """Queue the dead letter of a rejected delivery; queued ones are written together within a few ms."""
        if holder.current is not None:
            if not self.ledger.burying:
                self._burying_since = self.clock.time()
            self.ledger.burying.append((holder.current, letter))
            self._release_suspect(holder.current)
            holder.current = None
            if self._bury_task is None or self._bury_task.done():
                self._bury_task = self._start("the writing of dead letters", self._bury_batches())

    async def flush_full_batch(self) -> None:
        """Write the queued dead letters and yield to other tasks, if the batch is full or old enough."""
        if len(self.ledger.burying) >= MAX_BATCH_LETTERS or self.clock.time() - self._burying_since >= MAX_BATCH_SECS:
            await self.flush_dead_letters()
            # A layer that answers without waiting has not yielded to other tasks.
            await asyncio.sleep(0)

    async def flush_dead_letters(self) -> None:
        """Write the queued dead letters.

        A dead letter that the layer cannot write must not block the channel. After a few attempts the letters are
        written one by one, then with the event's bytes only. If that fails too, the event is dropped and logged.
        """
        async with self._bury_lock:
            # Entries stay in the ledger until the layer has them, because the caller may be cancelled.
            if burying := [*self.ledger.burying]:
                try:
                    await self._call_layer("keep dead letters", lambda: self.layer.bury_many(burying), tries=MAX_TRIES)
                    del self.ledger.burying[: len(burying)]
                except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                    for delivery, letter in burying:
                        await self._bury_alone(delivery, letter)
                        del self.ledger.burying[0]
                    # Settle dropped events, so that the layer does not redeliver them.
                    await self.flush_settled()
                self._burying_since = self.clock.time()

    async def _bury_alone(self, delivery: Delivery, letter: DeadLetter) -> None:
        bare = replace(letter, reason=_BARE_REASON, event=None, violations=(), traceback="")
        for kept in (letter, bare):
            with suppress(Exception):
                await self._call_layer("keep a dead letter", partial(self.layer.bury, delivery, kept), tries=1)
                return
        event_type = delivery.event.get("type") if delivery.event else None
        log.critical(
            "channel %s: dropped an event of type %s: its dead letter cannot be kept",
            quoted(self.channel), quoted(event_type) if isinstance(event_type, str) else "unknown",
            extra=log_fields(delivery),
        )  # fmt: skip
        if self._lease is not None:
            self.ledger.settling.append(delivery)

    async def _bury_batches(self) -> None:
        while self.ledger.burying:
            await self.clock.sleep(MAX_BATCH_SECS)
            await self.flush_dead_letters()

    def _release_suspect(self, delivery: Delivery) -> None:
        if delivery.suspect:
            self._suspect_lock.release(delivery)

    # Ending.

    async def stop(self) -> None:
        """Perform the shutdown flush: write all outstanding outcomes; the slots must have stopped."""
        if self._return_timer is not None:
            self._return_timer.cancel()
        await self.flush_dead_letters()
        if self._bury_task is not None:
            self._bury_task.cancel()
        await self.flush_retrying()
        await self.flush_settled()
        self.ledger.return_undeliverable()
        await wait_until_done(self._return_task)
        self._return_now()
        await wait_until_done(self._return_task)

    def abandon(self) -> None:
        """Cancel calls that the layer has not answered."""
        for task in (self._return_task, self._settle_task, self._bury_task):
            if task is not None:
                task.cancel()

    def _start(self, what: str, call: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(call)
        self._shared.watch(f"channel {quoted(self.channel)}: {what}", task)
        return task


def log_fields(delivery: Delivery, code: str | None = None) -> dict[str, Any]:
    """Return log record attributes of an event, for the `extra` of logging, without its payload.

    Args:
        delivery: the delivery.
        code: code of its rejection or dead letter, if the line is about one.

    """
    event_type = delivery.event.get("type") if delivery.event else None
    fields: dict[str, Any] = {
        "channel": shown(delivery.channel),
        "event_type": shortened(shown(event_type), _MAX_TYPE_LENGTH) if isinstance(event_type, str) else None,
        "event_id": delivery.id or None,
        "attempt": delivery.attempt,
    }
    if code is not None:
        fields["code"] = code
    # The gate removes the trace context from a copy, so the delivery's event still has it.
    if trace_id := trace_id_of(delivery.event):
        fields["event_trace_id"] = trace_id
    return fields


def _letter_for_undeliverable(delivery: Delivery) -> DeadLetter:
    if delivery.event and delivery.event.get("type"):
        if delivery.crashes:
            often = f", {delivery.crashes} times in a row" if delivery.crashes > 1 else ""
            return letter_for(delivery, "failed", f"its worker ended while it was handled{often}")
        return letter_for(delivery, "failed", f"it was delivered as attempt {delivery.attempt}, after its last one")
    return letter_for(delivery, "unreadable", delivery.problem or "the event has no type")
