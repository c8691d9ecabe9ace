"""A place at which one instance of the application handles one event at a time.

The worker's whole contract with an application is ASGI: its next `receive()` says that its last event is done;
when it raises, that event has failed and a fresh instance takes the slot. Nothing behind it is touched.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, offer
from channelmap.errors import one_line, quoted, shortened, text_of
from channelmap.handling import Reject, Retry, checked, current_holder
from channelmap.layer import Cause, Delivery, letter_for
from channelmap.worker.inbox import Inbox, log_fields
from channelmap.worker.insistence import FIRST_DELAY, LONGEST_DELAY, ended

if TYPE_CHECKING:
    from channelmap.clock import Timer

log = logging.getLogger("channelmap.worker")

#: Seconds for a cancelled instance to end when the worker stops.
_CANCEL_PATIENCE = 1.0
#: What the codes of a gate's verdict are in a dead letter.
CAUSES: dict[str, Cause] = {"unknown-type": "unroutable", "missing-type": "unreadable"}
_AT_MOST_ONCE = "the channel is at-most-once: no event is delivered again; set 'delivery: at-least-once'"


class Slot:
    """Keeps one instance of the application running and answers for the event it has in hand.

    Args:
        inbox: where its events come from.
        application: any ASGI application.
        changed: called whenever the slot comes to rest.
        count: called with the number of events that were handled since it was called last.

    """

    def __init__(
        self, inbox: Inbox, application: Application, changed: Callable[[], None], count: Callable[[int], None]
    ) -> None:
        self.inbox = inbox
        self._place = inbox.ledger.open_place()
        #: Its instance waits for an event, or there is none: to stop it now costs nothing.
        self.idle = False
        #: It has asked for an event and knows that there is none to come.
        self.resting = False
        #: How often an instance ended without having had an event, since one had one.
        self.failed_starts = 0
        #: A handler was not waited for; its thread may still run.
        self.cut_off = False
        self._wake = asyncio.Event()
        self._application = application
        self._changed = changed
        self._count = count
        self._instance: asyncio.Task[Any] | None = None
        self._since = 0.0
        #: What the instance has had since it had to wait for an event.
        self._events = 0
        #: It has had events before those.
        self._has_begun = False
        self._alarm: Timer | None = None
        self._clock = inbox.clock
        self._timed_out = False

    async def run(self) -> None:
        """Keep an instance running until cancelled; one that ends without having had an event starts again slowly."""
        delay = FIRST_DELAY
        while True:
            self._place = self.inbox.ledger.renew_place(self._place)
            self._events, self._has_begun, self._since = 0, False, self._clock.time()
            self._instance = asyncio.ensure_future(self._run_instance())
            try:
                await asyncio.wait({self._instance})
            finally:
                self._instance.cancel()
            await self._ended(self._instance)
            self._count(self._events)
            if self._events or self._has_begun:
                delay, self.failed_starts = FIRST_DELAY, 0
                continue
            self.failed_starts += 1
            self.idle = True
            self._changed()
            await self._clock.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)
            self.idle = False

    async def stop(self) -> None:
        """End, when `run` has been cancelled: what a handler that was cut off had in hand has failed."""
        if self._instance is not None:
            with suppress(TimeoutError):
                async with self._clock.timeout(_CANCEL_PATIENCE):
                    await ended(self._instance)
            if not self._instance.done():
                self.cut_off = True
            elif not self._instance.cancelled():
                self._instance.exception()
        if self._place.current is not None:
            self.cut_off = True
            await self._fail("the worker stopped before the handler had finished")

    def wake(self) -> None:
        """Let a resting slot look again."""
        self._wake.set()

    async def _run_instance(self) -> None:
        scope: Scope = {
            "type": "channel",
            "channel": self.inbox.channel,
            "extensions": {"channel.reject": {}},
        }
        current_holder.set(self._place)
        try:
            await self._application(scope, self._receive(), self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            # It would end the event loop, and with it what others are doing.
            what = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else "raised KeyboardInterrupt"
            raise RuntimeError(f"the application {what}") from error

    def _receive(self) -> Receive:
        """Make the `receive` of one instance."""
        at_hand, timeout = self._at_hand(), self.inbox.service.timeout

        if timeout is None:

            async def receive() -> Event:
                return at_hand() or await self._next()

            return offer(receive, at_hand)

        async def receive_on_time() -> Event:
            # Without `at_hand`: a clock can stop only a handler that the event loop has begun.
            self._silence_alarm()
            if self._timed_out:
                # The handler would not be cancelled.
                await self._fail_timed_out()
            event = at_hand() or await self._next()
            self._alarm = self._clock.call_later(timeout, self._time_out)
            return event

        return receive_on_time

    def _at_hand(self) -> AtHand:
        """Make the worker's innermost step, for any thread: hence a closure over locals."""
        take, place, settle = self.inbox.ledger.prefetched.popleft, self._place, self.inbox.settle
        leased = self.inbox.service.retry is not None

        def at_hand() -> Event | None:
            try:
                delivery = take()
            except IndexError:
                return None
            if leased:
                settle(place)
            place.current = delivery
            self._events += 1
            return delivery.event

        return at_hand

    async def _next(self) -> Event:
        """Settle the last event, say how long the last ones took, and wait for one."""
        self.inbox.settle(self._place)
        if self._events:
            self.inbox.pace.note(self._clock.time() - self._since, self._events)
            self._count(self._events)
            self._events, self._has_begun = 0, True
        self.idle = True
        try:
            while (delivery := await self.inbox.next(self._place)) is None:
                await self._rest()
        finally:
            self.idle = False
        self._since = self._clock.time()
        self._events = 1
        return delivery.event  # type: ignore[return-value]  # the inbox hands out nothing that cannot be read

    def _silence_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def _rest(self) -> None:
        self._wake.clear()
        self.resting = True
        self._changed()
        try:
            await self._wake.wait()
        finally:
            self.resting = False

    async def _send(self, event: Event) -> None:
        if event.get("type") != "channel.reject":
            raise NotImplementedError("You must implement application_send()")
        self._silence_alarm()
        delivery = self._place.current
        if delivery is not None:
            log.error("%s; kept as a dead letter", event["reason"], extra=log_fields(delivery))
            code = CAUSES.get(event["code"], "invalid")
            self.inbox.reject(self._place, letter_for(delivery, code, event["reason"], event["violations"]))
            await self.inbox.flush_full_batch()

    async def _ended(self, instance: "asyncio.Task[Any]") -> None:
        """Settle what the instance had in hand when it returned, or fail it when it raised."""
        self._silence_alarm()
        if self._timed_out:
            await self._fail_timed_out()
        elif instance.cancelled():
            await self._failed(asyncio.CancelledError("the application was cancelled"))
        elif error := instance.exception():
            await self._failed(error)
        else:
            self.inbox.settle(self._place)

    async def _fail_timed_out(self) -> None:
        self._timed_out = False
        self.cut_off = True
        await self._fail(f"the handler took longer than {self.inbox.service.timeout} s")

    async def _failed(self, error: BaseException) -> None:
        """Do with the current delivery what the exception says that ended the instance."""
        error = checked(error)
        if isinstance(error, Reject):
            await self._give_up("rejected-by-handler", "was rejected by its handler", one_line(error.reason))
        elif isinstance(error, Retry):
            why = one_line(error.reason)
            reason = why or "its handler raised Retry"
            if self.inbox.service.retry is None:
                reason = f"its handler raised Retry{f' ({why})' if why else ''}, but {_AT_MOST_ONCE}"
            await self._fail(reason, asked=error)
        else:
            await self._fail(text_of(error), error)

    async def _fail(self, reason: str, error: BaseException | None = None, asked: Retry | None = None) -> None:
        """Let the current delivery come again, if it may; else keep it as a dead letter.

        Args:
            reason: why it failed.
            error: what the handler raised; its traceback is kept.
            asked: how the handler asked for a retry, if it did.

        """
        policy, delivery = self.inbox.service.retry, self._place.current
        if policy is None or delivery is None or delivery.attempt >= policy.attempts:
            await self._give_up("failed", "failed", reason, error)
            return
        after = None if asked is None else asked.after
        delay = policy.delay_after(delivery.attempt) if after is None else float(after)
        outcome = f"{shortened(reason)}; attempt {delivery.attempt} of {policy.attempts}, next in {delay:.1f} s"
        if asked is None:
            self._log(logging.ERROR, delivery, f"failed: {outcome}", error)
        else:
            self._log(logging.WARNING, delivery, f"is to be tried again: {outcome}")
        await self.inbox.retry(self._place, delay)

    async def _give_up(self, code: Cause, what: str, reason: str, error: BaseException | None = None) -> None:
        """Keep the current delivery as a dead letter."""
        delivery = self._place.current
        if delivery is None:
            log.error("channel %s: the application ended before it took an event: %s",
                      quoted(self.inbox.channel), shortened(reason), exc_info=error)  # fmt: skip
            return
        self._log(logging.ERROR, delivery, f"{what}: {shortened(reason)}; kept as a dead letter", error)
        trace = "" if error is None else "".join(traceback.format_exception(error))
        await self.inbox.bury(self._place, letter_for(delivery, code, reason, traceback=trace))

    def _log(self, level: int, delivery: Delivery, what: str, error: BaseException | None = None) -> None:
        event_type = delivery.event.get("type") if delivery.event else None
        log.log(
            level, "channel %s: %s %s", quoted(delivery.channel), quoted(event_type), what, exc_info=error,
            extra=log_fields(delivery),
        )  # fmt: skip

    def _time_out(self) -> None:
        if self._instance is not None:
            self._timed_out = True
            self._instance.cancel()
