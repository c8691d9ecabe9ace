"""How a worker comes by the events of one channel, and how the layer hears what became of them.

Law: a crash may lose what was prefetched, and other workers wait for it. So an inbox prefetches about 10 ms of work,
as measured: hundreds of events for a fast handler, which then pays one trip for all of them, one for a slow one.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from channelmap.environment import shown
from channelmap.errors import ChannelUnsupported, quoted, shortened
from channelmap.layer import ChannelLayer, DeadLetter, Delivery, letter_for
from channelmap.limits import Service
from channelmap.worker.decryption import Decryption
from channelmap.worker.insistence import LONGEST_DELAY, ended, insist
from channelmap.worker.ledger import Ledger, Place
from channelmap.worker.suspects import SuspectTurn
from channelmap.worker.timing import Timing

if TYPE_CHECKING:
    from channelmap.clock import Timer

log = logging.getLogger("channelmap.worker")

#: Events that one refill takes at most, as long as the worker may handle any number of them.
LARGEST_REFILL = 1_000
#: Seconds of rejections, and how many of them, after which their dead letters are written and others have their turn.
LONGEST_BATCH, LARGEST_BATCH = 0.001, 64
#: Tries of one call that fails although the layer is there.
MOST_TRIES = 3
#: Characters of an event type in the fields of a log line: the event may have been rejected for its type.
_LONGEST_TYPE = 100

#: Stands in a letter of which nothing but the event's bytes can be written.
_BARE_REASON = "its letter could not be written in full; the worker's log has the reason"

Watch = Callable[[str, "asyncio.Task[None]"], None]


class Pace:
    """How long a handler takes, and so how many events a refill may take."""

    def __init__(self, concurrency: int, work: float, most: int) -> None:
        self._concurrency = concurrency
        self._work = work
        self._most = most
        self._mean = work

    def note(self, seconds: float, events: int) -> None:
        """Take in that so many events kept one slot busy for so long; slowness counts at once, speed by halves."""
        mean = seconds / events
        self._mean = mean if mean > self._mean else (mean + self._mean) / 2

    @property
    def limit(self) -> int:
        """Events that the next refill may take."""
        return max(1, min(int(self._work * self._concurrency / (self._mean or 1e-9)), self._most))


class Inbox:
    """Hands out the events of a channel to its slots, and tells the layer what became of them.

    Args:
        layer: an open layer.
        channel: the channel's name.
        service: how the channel is served.
        timing: how long to wait for what.
        most: events that one refill takes at most.
        burst: never wait for events that are not there yet.
        unsupported: called when the layer cannot serve the channel; then nothing more is taken.
        watch: is told of each task that the inbox starts.
        turn: what the suspects of all inboxes of a process share.

    """

    def __init__(  # noqa: PLR0913  (what a channel needs, and who is told)
        self,
        layer: ChannelLayer,
        channel: str,
        service: Service,
        timing: Timing,
        *,
        most: int,
        burst: bool,
        unsupported: Callable[[ChannelUnsupported], None],
        watch: Watch,
        turn: SuspectTurn,
    ) -> None:
        self.layer = layer
        self.channel = channel
        self.service = service
        self.clock = timing.clock
        self.ledger = Ledger()
        #: In a burst, when the events that were put back for a retry are due, by the clock.
        self.retries: list[float] = []
        #: No key of the layer fits any waiting event.
        self.has_wrong_key = False
        self.pace = Pace(service.concurrency, timing.prefetch_work, most)
        self._timing = timing
        self._decryption = Decryption(layer, channel)
        self._lease = timing.lease if service.retry else None
        self._burst = burst
        self._unsupported = unsupported
        self._watch = watch
        self._turn = turn
        self._insist = partial(insist, channel, clock=timing.clock)
        self._refilling = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._settlement: asyncio.Task[None] | None = None
        self._retrying = asyncio.Lock()
        self._dying_since = 0.0
        self._burying = asyncio.Lock()
        self._burial: asyncio.Task[None] | None = None
        self._recall: Timer | None = None
        self._return: asyncio.Task[None] | None = None

    # Taking.

    async def next(self, place: Place) -> Delivery | None:
        """Put the oldest event into a place, waiting for one; None if none is to come: closed, or burst and empty."""
        await self.flush_settled()
        while not self.ledger.closed:
            async with self._refilling:
                while not (self.ledger.closed or self.ledger.suspects):
                    try:
                        place.current = self.ledger.prefetched.popleft()
                    except IndexError:
                        # Perhaps a handler's thread has taken the last one.
                        if not await self.refill():
                            return None
                    else:
                        return place.current
                if self.ledger.closed:
                    return None
                suspect = self.ledger.suspects.popleft()
                self.ledger.beginning.append(suspect)
            if await self._begin(suspect, place):
                return suspect
        return None

    async def _begin(self, suspect: Delivery, place: Place) -> bool:
        """Wait for the turn of a suspect and tell the layer that its handler starts; False when it must not start."""
        is_ours, begun = True, False
        try:
            await self._turn.acquire(suspect, self._flush)
            is_ours = await self._tell_that_it_begins(suspect)
            begun = is_ours and not self.ledger.closed
        finally:
            if begun:
                self.ledger.begin(place, suspect)
            else:
                self._turn.release(suspect)
                if is_ours:
                    self.ledger.put_off(suspect)
                    self._return_now()
                else:
                    self.ledger.beginning.remove(suspect)
        return begun

    async def _tell_that_it_begins(self, suspect: Delivery) -> bool:
        try:
            is_ours = await self._insist("begin an event", lambda: self.layer.begin(suspect), tries=MOST_TRIES)
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
        await self.flush_dying()

    async def refill(self) -> bool:
        """Take about `prefetch_work` seconds of work from the layer, waiting for an event; False for nothing."""
        # When nothing has to be waited for, nobody else would get to run: other channels, signals, timers. Before
        # the take and not behind it, where an event would wait for it.
        await asyncio.sleep(0)
        # What is on its way back is older than anything that a refill would take.
        await ended(self._return)
        if self.ledger.prefetched:
            return True
        if self._burst and self.has_wrong_key:
            return False
        try:
            taken = await self._insist(
                "take events",
                lambda: self.layer.take(self.channel, self.pace.limit, lease=self._lease, wait=not self._burst),
            )
        except ChannelUnsupported as error:
            self.ledger.close()
            self._unsupported(error)
            return False
        if self._are_fit(taken):
            if taken:
                self._decryption.note_readable()
            self.ledger.add(taken)
        else:
            self.ledger.undeliverable += taken
            if not self._decryption.are_exceptions(taken) and await self._has_wrong_key():
                return not self._burst
            await self._bury_unfit()
        if self.ledger.closed:
            self._return_now()
        elif len(self.ledger.prefetched) > 1:
            self._recall_later()
        return bool(taken)

    def close(self) -> None:
        """Hand out nothing more, and give back what nobody has begun; what slots have in hand is the last."""
        self.ledger.close()
        self._return_now()

    def _is_fit(self, delivery: Delivery) -> bool:
        """Whether a delivery is an event, and is not delivered too often."""
        if not (delivery.event and delivery.event.get("type")):
            return False
        # A worker that dies of an event cannot say so: the layer counts it.
        return self.service.retry is None or delivery.attempt <= self.service.retry.attempts

    def _are_fit(self, deliveries: list[Delivery]) -> bool:
        """Return whether each is fit, without a call for each; see `_is_fit`."""
        try:
            if self.service.retry is None:
                return not [one for one in deliveries if not one.event["type"]]  # type: ignore[index]  # see below
            most = self.service.retry.attempts
            return not [one for one in deliveries if not one.event["type"] or one.attempt > most]  # type: ignore[index]
        except (KeyError, TypeError):
            return False  # no type, or no event

    async def _bury_unfit(self) -> None:
        unfit = self.ledger.sort_out(self._is_fit)
        letters = [_letter_for_unfit(delivery) for delivery in unfit]
        for delivery, letter in zip(unfit, letters, strict=True):
            log.error(
                "channel %s: %s; kept as a dead letter",
                quoted(self.channel), letter.reason, extra=log_fields(delivery),
            )  # fmt: skip
        self.ledger.condemn(letters)
        await self.flush_dying()

    async def _has_wrong_key(self) -> bool:
        """Return events that no key of the layer fits, and wait until a key fits one; `False` when one fits already."""
        if not await self._count_undecryptable():
            return False
        self.ledger.refuse_all()
        self._return_now()
        await ended(self._return)
        while count := await self._count_undecryptable():
            self.has_wrong_key = True
            log.error(
                "channel %s: no key of the layer fits any of the %d waiting events; they stay where they are, %s; "
                "check symmetric_encryption_keys",
                quoted(self.channel), count, "the burst ends" if self._burst else f"next look in {LONGEST_DELAY:.1f} s",
            )  # fmt: skip
            if self._burst:
                return True
            await self.clock.sleep(LONGEST_DELAY)
        if self.has_wrong_key:
            log.warning("channel %s: taking events again", quoted(self.channel))
        self.has_wrong_key = False
        return True

    async def _count_undecryptable(self) -> int:
        return await self._insist("look for events that a key fits", self._decryption.count_undecryptable)

    # Giving back.

    def _recall_later(self) -> None:
        if self._recall is not None:
            self._recall.cancel()
        self._recall = self.clock.call_later(self._timing.return_after, self._handler_is_slow)

    def _handler_is_slow(self) -> None:
        """Give others what waits here, and settle what is handled."""
        if self.ledger.settling:
            self._settlement = self._start("the settling of events", self.flush_settled())
        if self.ledger.prefetched:
            self.pace.note(self._timing.return_after, 1)
            self.ledger.recall()
            self._return_now()

    def _return_now(self) -> None:
        if self.ledger.returning and (self._return is None or self._return.done()):
            self._return = self._start("the return of prefetched events", self._give_back())

    async def _give_back(self) -> None:
        while returning := [*self.ledger.returning]:
            # What nobody here can handle must not be handed out instead.
            if self.ledger.closed or not all(map(self._is_fit, returning)):
                await self._insist("give events back", partial(self.layer.give_back, returning))
            else:
                try:
                    await self.layer.give_back(returning)
                except Exception as error:  # noqa: BLE001  (whatever a layer's client raises, the events are still ours)
                    log.warning("channel %s: cannot give events back: %s", quoted(self.channel), error)
                    self.ledger.keep(returning)
                    self._recall_later()
                    continue
            self.ledger.returned(returning)

    # Telling what became of them.

    def settle(self, place: Place) -> None:
        """Note that the current delivery was handled. An at-most-once one left the layer when it was taken."""
        delivery = place.current
        if delivery is not None:
            if self._lease is not None:
                self.ledger.settling.append(delivery)
                self._end_turn(delivery)
            place.current = None

    async def flush_settled(self) -> None:
        """Tell the layer what was handled."""
        if not self.ledger.settling:
            return
        async with self._settling:
            # Removed only when the layer has settled them: this call may be cancelled.
            settled = [*self.ledger.settling]
            if not settled:
                return  # another slot was faster
            try:
                await self._insist("settle events", lambda: self.layer.settle(settled), tries=MOST_TRIES)
            except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                log.critical(
                    "channel %s: %d handled events cannot be settled; the layer delivers them again",
                    quoted(self.channel), len(settled),
                )  # fmt: skip
            del self.ledger.settling[: len(settled)]

    async def retry(self, place: Place, delay: float) -> None:
        """Let the current delivery come again after `delay` seconds; a burst may wait for it."""
        delivery = place.current
        if delivery is not None:
            self.ledger.retrying.append((delivery, delay))
            place.current = None
            if self._burst:
                self.retries.append(self.clock.time() + delay)
            await self.flush_retrying()
            self._end_turn(delivery)

    async def flush_retrying(self) -> None:
        """Tell the layer what is to come again."""
        async with self._retrying:
            while self.ledger.retrying:
                delivery, delay = self.ledger.retrying[0]
                try:
                    await self._insist("retry an event", partial(self.layer.retry, delivery, delay), tries=MOST_TRIES)
                except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                    log.critical(
                        "channel %s: the delay of a retry cannot be set; the event comes again when its lease ends",
                        quoted(self.channel), extra=log_fields(delivery),
                    )  # fmt: skip
                del self.ledger.retrying[0]

    async def bury(self, place: Place, letter: DeadLetter) -> None:
        """Write the dead letter of the current delivery, behind those that are noted."""
        if place.current is not None:
            self.ledger.dying.append((place.current, letter))
            self._end_turn(place.current)
            place.current = None
            await self.flush_dying()

    def reject(self, place: Place, letter: DeadLetter) -> None:
        """Note the dead letter of a rejected delivery; it is written with those that follow it within a few ms."""
        if place.current is not None:
            if not self.ledger.dying:
                self._dying_since = self.clock.time()
            self.ledger.dying.append((place.current, letter))
            self._end_turn(place.current)
            place.current = None
            if self._burial is None or self._burial.done():
                self._burial = self._start("the writing of dead letters", self._bury_soon())

    async def flush_full_batch(self) -> None:
        """Write the dead letters that are noted and let others have their turn, if it is time for that."""
        if len(self.ledger.dying) >= LARGEST_BATCH or self.clock.time() - self._dying_since >= LONGEST_BATCH:
            await self.flush_dying()
            # A layer that answers at once has let nobody else run.
            await asyncio.sleep(0)

    async def flush_dying(self) -> None:
        """Write the dead letters that are noted.

        A letter that the layer cannot write must not block the channel: after a few tries the letters are written one
        by one, then the event's bytes without the rest of its letter. At last the event is dropped, with a log line.
        """
        async with self._burying:
            # An entry is removed only when the layer has it: the caller may be cancelled.
            if dying := [*self.ledger.dying]:
                try:
                    await self._insist("keep dead letters", lambda: self.layer.bury_many(dying), tries=MOST_TRIES)
                    del self.ledger.dying[: len(dying)]
                except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                    for delivery, letter in dying:
                        await self._bury_alone(delivery, letter)
                        del self.ledger.dying[0]
                    # The layer must not deliver a dropped event again.
                    await self.flush_settled()
                self._dying_since = self.clock.time()

    async def _bury_alone(self, delivery: Delivery, letter: DeadLetter) -> None:
        bare = replace(letter, reason=_BARE_REASON, event=None, violations=(), traceback="")
        for kept in (letter, bare):
            with suppress(Exception):
                await self._insist("keep a dead letter", partial(self.layer.bury, delivery, kept), tries=1)
                return
        event_type = delivery.event.get("type") if delivery.event else None
        log.critical(
            "channel %s: dropped an event of type %s: its dead letter cannot be kept",
            quoted(self.channel), quoted(event_type) if isinstance(event_type, str) else "unknown",
            extra=log_fields(delivery),
        )  # fmt: skip
        if self._lease is not None:
            self.ledger.settling.append(delivery)

    async def _bury_soon(self) -> None:
        while self.ledger.dying:
            await self.clock.sleep(LONGEST_BATCH)
            await self.flush_dying()

    def _end_turn(self, delivery: Delivery) -> None:
        if delivery.suspect:
            self._turn.release(delivery)

    # Ending.

    async def stop(self) -> None:
        """Tell the layer everything that it has not heard; the slots must have stopped."""
        if self._recall is not None:
            self._recall.cancel()
        await self.flush_dying()
        if self._burial is not None:
            self._burial.cancel()
        await self.flush_retrying()
        await self.flush_settled()
        self.ledger.refuse_all()
        await ended(self._return)
        self._return_now()
        await ended(self._return)

    def abandon(self) -> None:
        """Let go of what the layer does not answer."""
        for task in (self._return, self._settlement, self._burial):
            if task is not None:
                task.cancel()

    def _start(self, what: str, call: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(call)
        self._watch(f"channel {quoted(self.channel)}: {what}", task)
        return task


def log_fields(delivery: Delivery) -> dict[str, Any]:
    """Return the attributes of a log record about one event, for the `extra` of logging; nothing of its payload."""
    event_type = delivery.event.get("type") if delivery.event else None
    return {
        "channel": shown(delivery.channel),
        "event_type": shortened(shown(event_type), _LONGEST_TYPE) if isinstance(event_type, str) else None,
        "event_id": delivery.id or None,
        "attempt": delivery.attempt,
    }


def _letter_for_unfit(delivery: Delivery) -> DeadLetter:
    if delivery.event and delivery.event.get("type"):
        if delivery.crashes:
            often = f", {delivery.crashes} times in a row" if delivery.crashes > 1 else ""
            return letter_for(delivery, "failed", f"its worker ended while it was handled{often}")
        return letter_for(delivery, "failed", f"it was delivered for attempt {delivery.attempt}, beyond its last one")
    return letter_for(delivery, "unreadable", delivery.problem or "the event has no type")
