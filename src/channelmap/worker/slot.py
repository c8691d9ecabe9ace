"""A slot runs one instance of the application, which handles one event at a time.

The worker relies on ASGI only. An application's next `receive()` settles its previous event. If the application
raises, its current event has failed, and the slot starts a new instance.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, offer
from channelmap.errors import one_line, quoted, shortened, text_of
from channelmap.handling import Reject, Retry, checked, current_holder
from channelmap.layer import Cause, Delivery, letter_for
from channelmap.observer import Dead, Failed, Meter, Outcome, Rejected, Retried
from channelmap.worker.backoff import FIRST_DELAY, MAX_DELAY, wait_until_done
from channelmap.worker.inbox import Inbox, log_fields
from channelmap.worker.steps import Measurement, step_fields

if TYPE_CHECKING:
    from channelmap.clock import Timer

log = logging.getLogger("channelmap.worker")

#: Seconds that a cancelled instance may take to end when the worker stops.
_CANCEL_GRACE_SECS = 1.0
#: Events between two reductions of a meter's notes to sums: most such runs of fast handlers take less than 1 ms.
_NOTES = 128
#: The dead letter code for each code of a rejection, if it is not `invalid`.
CAUSE_OF_CODE: dict[str, Cause] = {"unknown-type": "unroutable", "missing-type": "unreadable"}
_AT_MOST_ONCE = "the channel is at-most-once: no event is delivered again; set 'delivery: at-least-once'"


class Slot:
    """Keep one instance of the application running, and report the outcome of its current event.

    Args:
        inbox: the source of its events.
        application: any ASGI application.
        changed: called when the slot finds no further event, or its instance fails to start.
        count: called with the number of events handled since the previous call.

    """

    def __init__(
        self, inbox: Inbox, application: Application, changed: Callable[[], None], count: Callable[[int], None]
    ) -> None:
        self.inbox = inbox
        self._holder = inbox.ledger.new_holder()
        #: The slot has no current event, so stopping it interrupts no handler.
        self.idle = False
        #: In burst mode, the instance has asked for an event and there was none.
        self.found_nothing = False
        #: Consecutive instances that ended before they took an event.
        self.failed_starts = 0
        #: A handler was cut off; its thread may still run.
        self.cut_off = False
        self._wake = asyncio.Event()
        self._application = application
        self._changed = changed
        self._count = count
        self._instance: asyncio.Task[Any] | None = None
        self._busy_since = 0.0
        #: Events that the instance has taken since it last waited for one.
        self._events = 0
        #: Those of them that were not handled: rejected or failed.
        self._unhandled = 0
        #: The instance has taken events before those.
        self._had_events = False
        self._measurement = inbox.steps.measurement(inbox.channel)
        self._timer: Timer | None = None
        self._clock = inbox.clock

    async def run(self) -> None:
        """Keep an instance running until cancelled; restart with backoff one that ends before it took an event."""
        delay = FIRST_DELAY
        while True:
            self._holder = self.inbox.ledger.replace_holder(self._holder)
            self._events, self._unhandled, self._had_events = 0, 0, False
            self._busy_since = self._clock.time()
            self._instance = asyncio.ensure_future(self._run_instance())
            try:
                await asyncio.wait({self._instance})
            finally:
                self._instance.cancel()
            await self._instance_ended(self._instance)
            self._count_events()
            if self._had_events:
                delay, self.failed_starts = FIRST_DELAY, 0
                continue
            self.failed_starts += 1
            self.idle = True
            self._changed()
            await self._clock.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)
            self.idle = False

    async def stop(self) -> None:
        """Wait for the cancelled instance; the event of a handler that does not end has failed. Cancel `run` first."""
        if self._instance is not None:
            with suppress(TimeoutError):
                async with self._clock.timeout(_CANCEL_GRACE_SECS):
                    await wait_until_done(self._instance)
            if not self._instance.done():
                self.cut_off = True
            elif not self._instance.cancelled():
                self._instance.exception()
        if self._holder.current is not None:
            self.cut_off = True
            await self._fail("failed", "the worker stopped before the handler had finished")
        self._count_events()

    def wake(self) -> None:
        """Make a slot that found no event try again."""
        self._wake.set()

    async def _run_instance(self) -> None:
        scope: Scope = {
            "type": "channel",
            "channel": self.inbox.channel,
            "extensions": {"channel.reject": {}},
        }
        current_holder.set(self._holder)
        try:
            await self._application(scope, self._make_receive(), self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            # These exceptions would end the event loop, and with it all other slots.
            what = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else "raised KeyboardInterrupt"
            raise RuntimeError(f"the application {what}") from error

    def _make_receive(self) -> Receive:
        """Return the `receive` of one instance."""
        at_hand, timeout = self._make_at_hand(), self.inbox.service.timeout

        if timeout is None:

            async def receive() -> Event:
                return at_hand() or await self._next()

            return offer(receive, at_hand)

        async def receive_on_time() -> Event:
            # Without `at_hand`: the timeout can cancel only a handler that the event loop has started.
            self._cancel_timer()
            if self._holder.timed_out:
                # The handler has suppressed the cancellation.
                await self._fail_timed_out()
            event = at_hand() or await self._next()
            self._timer = self._clock.call_later(timeout, self._time_out)
            return event

        return receive_on_time

    def _make_at_hand(self) -> AtHand:
        """Return the `at_hand` of one instance. It runs for every event, in any thread: hence a closure over locals."""
        take, holder, settle = self.inbox.ledger.prefetched.popleft, self._holder, self.inbox.settle
        leased, measurement = self.inbox.service.retry is not None, self._measurement

        def at_hand() -> Event | None:
            try:
                delivery = take()
            except IndexError:
                return None
            if leased:
                settle(holder)
            holder.current = delivery
            self._events += 1
            return delivery.event

        if measurement is None:
            return at_hand
        if measurement.meter is not None:
            at_hand = self._make_metered_at_hand(measurement.meter)
        return at_hand if measurement.observe is None else self._make_observed_at_hand(measurement, at_hand)

    def _make_metered_at_hand(self, meter: Meter) -> AtHand:
        """Return an `at_hand` with a meter. It repeats `at_hand`: a second call for each event would cost more."""
        take, holder, settle = self.inbox.ledger.prefetched.popleft, self._holder, self.inbox.settle
        leased, clock, note = self.inbox.service.retry is not None, self._clock.time, meter.note

        def metered_at_hand() -> Event | None:
            try:
                delivery = take()
            except IndexError:
                return None
            event = delivery.event
            note((event["type"], delivery.sent, clock()))  # type: ignore[index]  # the inbox has only readable events
            if leased:
                settle(holder)
            holder.current = delivery
            self._events = events = self._events + 1
            if not events % _NOTES:
                meter.sum_up()
            return event

        return metered_at_hand

    def _make_observed_at_hand(self, measurement: Measurement, at_hand: AtHand) -> AtHand:
        """Return an `at_hand` with an observer."""
        clock, holder = self._clock.time, self._holder

        def observed_at_hand() -> Event | None:
            now, previous = clock(), holder.current
            event = at_hand()
            if event is not None:
                if previous is not None:
                    measurement.tell_finished(previous, now)
                measurement.tell_started(holder.current, now)  # type: ignore[arg-type]  # set by `at_hand`
            return event

        return observed_at_hand

    async def _next(self) -> Event:
        """Settle the previous event, record the handling time of the previous ones, and wait for the next."""
        self._settle()
        if self._events:
            self.inbox.prefetch_size.record(self._clock.time() - self._busy_since, self._events)
            self._count_events()
        self.idle = True
        try:
            while (delivery := await self.inbox.next(self._holder)) is None:
                await self._wait_for_wake()
        finally:
            self.idle = False
        self._busy_since = self._clock.time()
        self._events = 1
        if self._measurement is not None:
            self._measurement.begin(delivery, self._busy_since, time.time())
        return delivery.event  # type: ignore[return-value]  # the inbox hands out only readable events

    def _settle(self) -> None:
        """Settle the current event, whose handler has returned."""
        if self._measurement is not None and self._holder.current is not None:
            self._measurement.finish(self._holder.current, self._clock.time())
        self.inbox.settle(self._holder)

    def _count_events(self) -> None:
        """Count the events since the last call."""
        self._count(self._events)
        self.inbox.steps.count_handled(self.inbox.channel, self._events - self._unhandled)
        self._had_events |= self._events > 0
        self._events, self._unhandled = 0, 0

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wait_for_wake(self) -> None:
        self._wake.clear()
        self.found_nothing = True
        self._changed()
        try:
            await self._wake.wait()
        finally:
            self.found_nothing = False

    async def _send(self, event: Event) -> None:
        if event.get("type") != "channel.reject":
            raise NotImplementedError("You must implement application_send()")
        self._cancel_timer()
        delivery = self._holder.current
        if delivery is not None:
            self.inbox.flood_log.log(
                (self.inbox.channel, event["code"]),
                f"channel {quoted(self.inbox.channel)} rejected %d more events [{event['code']}]; kept as dead letters",
                logging.ERROR, "%s; kept as a dead letter", event["reason"], extra=log_fields(delivery, event["code"]),
            )  # fmt: skip
            code = CAUSE_OF_CODE.get(event["code"], "invalid")
            self._end_unhandled()
            self.inbox.steps(Rejected(*step_fields(delivery), event["code"], "gate"))
            self.inbox.steps(Dead(*step_fields(delivery), code, event["reason"]))
            self.inbox.reject(self._holder, letter_for(delivery, code, event["reason"], event["violations"]))
            await self.inbox.flush_full_batch()

    async def _instance_ended(self, instance: "asyncio.Task[Any]") -> None:
        """Settle the current event if the instance returned; fail it if the instance raised."""
        self._cancel_timer()
        if self._holder.timed_out:
            await self._fail_timed_out()
        elif instance.cancelled():
            await self._handle_error(asyncio.CancelledError("the application was cancelled"))
        elif error := instance.exception():
            await self._handle_error(error)
        else:
            self._settle()

    async def _fail_timed_out(self) -> None:
        self._holder.timed_out = False
        self.cut_off = True
        await self._fail("timeout", f"the handler took longer than {self.inbox.service.timeout} s")

    async def _handle_error(self, error: BaseException) -> None:
        """Retry, give up or fail the current delivery, depending on the exception that ended the instance."""
        error = checked(error)
        if isinstance(error, Reject):
            reason = one_line(error.reason)
            self._note_failure("given-up", reason)
            await self._bury("rejected-by-handler", "was given up by its handler", reason)
        elif isinstance(error, Retry):
            why = one_line(error.reason)
            reason = why or "its handler raised Retry"
            if self.inbox.service.retry is None:
                reason = f"its handler raised Retry{f' ({why})' if why else ''}, but {_AT_MOST_ONCE}"
            await self._fail("retry", reason, after=error.after)
        else:
            await self._fail("failed", text_of(error), error)

    async def _fail(
        self, outcome: Outcome, reason: str, error: BaseException | None = None, after: float | None = None
    ) -> None:
        """Retry the current delivery if it has attempts left; else keep it as a dead letter.

        Args:
            outcome: how the handler ended; with `retry` it has asked for the retry itself.
            reason: the reason of the failure.
            error: the exception of the handler, for the traceback.
            after: seconds until the retry; `None` for the retry policy.

        """
        self._note_failure(outcome, reason, error)
        policy, delivery = self.inbox.service.retry, self._holder.current
        if policy is None or delivery is None or delivery.attempt >= policy.attempts:
            await self._bury("failed", "failed", reason, error)
            return
        delay = policy.delay_after(delivery.attempt) if after is None else float(after)
        text = f"{shortened(reason)}; attempt {delivery.attempt} of {policy.attempts}, next in {delay:.1f} s"
        if outcome == "retry":
            self._log(logging.WARNING, delivery, f"will be retried: {text}")
        else:
            self._log(logging.ERROR, delivery, f"failed: {text}", error)
        self.inbox.steps(Retried(*step_fields(delivery), delay))
        await self.inbox.retry(self._holder, delay)

    async def _bury(self, code: Cause, what: str, reason: str, error: BaseException | None = None) -> None:
        """Keep the current delivery as a dead letter."""
        delivery = self._holder.current
        if delivery is None:
            log.error("channel %s: the application ended before it took an event: %s",
                      quoted(self.inbox.channel), shortened(reason), exc_info=error)  # fmt: skip
            return
        self._log(logging.ERROR, delivery, f"{what}: {shortened(reason)}; kept as a dead letter", error, code)
        self.inbox.steps(Dead(*step_fields(delivery), code, reason))
        trace = "" if error is None else "".join(traceback.format_exception(error))
        await self.inbox.bury(self._holder, letter_for(delivery, code, reason, traceback=trace))

    def _note_failure(self, outcome: Outcome, reason: str, error: BaseException | None = None) -> None:
        """Tell that the current delivery was not handled."""
        delivery = self._holder.current
        if delivery is not None:
            seconds = self._end_unhandled()
            self.inbox.steps(Failed(*step_fields(delivery), seconds, outcome, reason, error))

    def _end_unhandled(self) -> float:
        """Count the current event as not handled; return how long its handler ran, or 0 if nobody measures."""
        self._unhandled += 1
        delivery = self._holder.current
        if self._measurement is None or delivery is None:
            return 0.0
        return self._measurement.end(self._clock.time())

    def _log(
        self, level: int, delivery: Delivery, what: str, error: BaseException | None = None, code: str | None = None
    ) -> None:
        event_type = delivery.event.get("type") if delivery.event else None
        log.log(
            level, "channel %s: %s %s", quoted(delivery.channel), quoted(event_type), what, exc_info=error,
            extra=log_fields(delivery, code),
        )  # fmt: skip

    def _time_out(self) -> None:
        if self._instance is not None:
            self._holder.timed_out = True
            self._instance.cancel()
