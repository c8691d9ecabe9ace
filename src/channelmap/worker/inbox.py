"""The events of one channel that this process has at hand, and how it comes by more of them.

Law: a crash may lose what is at hand, and other workers wait for it. So an inbox holds about 10 ms of work, as
measured: hundreds of events for a fast handler, which then pays one trip for all of them, one for a slow one.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from channelmap.errors import ChannelUnsupported, LayerError, LayerUnavailable, one_line, quoted, shortened
from channelmap.layer import ChannelLayer, DeadLetter, Delivery, letter_for
from channelmap.terms import Service
from channelmap.worker.decryption import Decryption
from channelmap.worker.suspects import SuspectTurn

log = logging.getLogger("channelmap.worker")

#: Seconds of work that a refill takes.
HORIZON = 0.01
#: Seconds after which what a refill took and nobody has begun goes back.
PATIENCE = 10 * HORIZON
#: Events that one refill takes at most.
LARGEST_REFILL = 1_000
#: Seconds of rejections, and how many of them, after which their dead letters are written and others have their turn.
LONGEST_BATCH, LARGEST_BATCH = 0.001, 64
#: Seconds that a leased event is held for; renewed three times as often while it is in hand.
LEASE = 30.0
#: Seconds between two tries to reach a lost layer: the first, and what they grow to.
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
#: Tries of one call that fails although the layer is there.
MOST_TRIES = 3

#: Stands in a letter of which nothing but the event's bytes can be written.
_BARE_REASON = "its letter could not be written in full; the worker's log has the reason"

T = TypeVar("T")
Watch = Callable[[str, "asyncio.Task[None]"], None]


class Pace:
    """How long a handler takes, and so how many events a refill may take."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._mean = HORIZON

    def note(self, seconds: float, events: int) -> None:
        """Take in that so many events kept one slot busy for so long; slowness counts at once, speed by halves."""
        mean = seconds / events
        self._mean = mean if mean > self._mean else (mean + self._mean) / 2

    @property
    def limit(self) -> int:
        """Events that the next refill may take."""
        return max(1, min(int(HORIZON * self._concurrency / (self._mean or 1e-9)), LARGEST_REFILL))


class Inbox:
    """A queue that refills itself from the layer, shared by the slots of a channel.

    Args:
        layer: an open layer.
        channel: the channel's name.
        service: how the channel is served.
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
        *,
        burst: bool,
        unsupported: Callable[[ChannelUnsupported], None] | None = None,
        watch: Watch | None = None,
        turn: SuspectTurn | None = None,
    ) -> None:
        self.layer = layer
        self.channel = channel
        self.service = service
        self.at_hand: deque[Delivery] = deque()
        #: Suspects that no slot has asked for yet, and those for which a slot waits until it may begin them.
        self._suspects: deque[Delivery] = deque()
        self._beginning: list[Delivery] = []
        self._turn = turn or SuspectTurn()
        #: Nothing more is handed out: what the slots have in hand is the last.
        self.closed = False
        #: What was at hand when it was closed.
        self._left: list[Delivery] = []
        #: In a burst, when the events that were put back for a retry are due, by the event loop's clock.
        self.retries: list[float] = []
        #: No key of the layer fits any waiting event.
        self.has_wrong_key = False
        self.pace = Pace(service.concurrency)
        self._decryption = Decryption(layer, channel)
        self._lease = LEASE if service.retry else None
        self._burst = burst
        self._unsupported = unsupported
        self._refilling = asyncio.Lock()
        self._settled: list[Delivery] = []
        self._settling = asyncio.Lock()
        self._settlement: asyncio.Task[None] | None = None
        #: Deliveries and their dead letters that are not written yet, oldest first.
        self._dead: list[tuple[Delivery, DeadLetter]] = []
        self._dead_since = 0.0
        self._burying = asyncio.Lock()
        self._burial: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._watch_task = watch
        self._watch: asyncio.TimerHandle | None = None
        self._going_back: asyncio.Task[None] | None = None

    async def next(self) -> Delivery | None:
        """Hand out the oldest event, waiting for one; None when there is none to come: closed, or burst and empty."""
        await self.flush_settled()
        while not self.closed:
            async with self._refilling:
                while not (self.closed or self._suspects):
                    if self.at_hand:
                        return self.at_hand.popleft()
                    if not await self.refill():
                        return None
                if self.closed:
                    return None
                suspect = self._suspects.popleft()
                self._beginning.append(suspect)
            if await self._begin(suspect):
                return suspect
        return None

    async def _begin(self, suspect: Delivery) -> bool:
        """Wait for the turn of a suspect and tell the layer that its handler starts; False when it must not start."""
        is_ours, begun = True, False
        try:
            await self._turn.acquire(suspect, self._flush)
            is_ours = await self._tell_that_it_begins(suspect)
            begun = is_ours and not self.closed
        finally:
            self._beginning.remove(suspect)
            if not begun:
                self._turn.release(suspect)
                if is_ours:
                    (self._left if self.closed else self._suspects).append(suspect)
        return begun

    async def _tell_that_it_begins(self, suspect: Delivery) -> bool:
        try:
            is_ours = await self.insist("begin an event", lambda: self.layer.begin(suspect), tries=MOST_TRIES)
        except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
            return True
        if not is_ours:
            log.warning("channel %s: the lease of an event ended before its handler started", quoted(self.channel))
        return is_ours

    async def _flush(self) -> None:
        await self.flush_settled()
        await self.flush_dead()

    async def refill(self) -> bool:
        """Take about `HORIZON` seconds of work from the layer, waiting for the first event; False for nothing."""
        # When nothing has to be waited for, nobody else would get to run: other channels, signals, timers. Before
        # the take and not behind it, where an event would wait for it.
        await asyncio.sleep(0)
        if await self._hoard_came_back():
            return True
        if self._burst and self.has_wrong_key:
            return False
        try:
            taken = await self.insist(
                "take events",
                lambda: self.layer.take(self.channel, self.pace.limit, lease=self._lease, wait=not self._burst),
            )
        except ChannelUnsupported as error:
            self.closed = True
            if self._unsupported is not None:
                self._unsupported(error)
            return False
        unfit = [delivery for delivery in taken if self._is_unfit(delivery)]
        if unfit:
            if not self._decryption.are_exceptions(taken) and await self._has_wrong_key(taken):
                return not self._burst
            taken = [delivery for delivery in taken if not self._is_unfit(delivery)]
        elif taken:
            self._decryption.note_readable()
        if self.closed:
            self._left += taken
        else:
            # A suspect is taken alone.
            (self._suspects if taken and taken[0].suspect else self.at_hand).extend(taken)
        if unfit:
            await self._bury_unfit(unfit)
        self._watch_out()
        return bool(taken or unfit)

    def settle(self, delivery: Delivery) -> None:
        """Note that a delivery was handled. Where delivery is at-most-once it left the layer when it was taken."""
        if self._lease is not None:
            self._settled.append(delivery)
            if delivery.suspect:
                self._turn.release(delivery)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Let a delivery come again after `delay` seconds; a burst may wait for it."""
        try:
            await self.insist("retry an event", lambda: self.layer.retry(delivery, delay), tries=MOST_TRIES)
        except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
            log.critical(
                "channel %s: the delay of a retry cannot be set; the event comes again when its lease ends",
                quoted(self.channel),
            )
        self._turn.release(delivery)
        if self._burst:
            self.retries.append(asyncio.get_running_loop().time() + delay)

    async def flush_settled(self) -> None:
        """Tell the layer what was handled."""
        if not self._settled:
            return
        async with self._settling:
            # Forgotten here only when the layer has heard of it: whoever asks may be cancelled.
            settled = list(self._settled)
            try:
                await self.insist("settle events", lambda: self.layer.settle(settled), tries=MOST_TRIES)
            except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                log.critical(
                    "channel %s: %d handled events cannot be settled; the layer delivers them again",
                    quoted(self.channel), len(settled),
                )  # fmt: skip
            del self._settled[: len(settled)]

    def renew(self, in_hand: list[Delivery]) -> None:
        """Begin to renew the leases of everything that the inbox and its slots hold; no other channel waits for it."""
        if self._lease is None or (self._renewal is not None and not self._renewal.done()):
            return
        dead = [delivery for delivery, _ in self._dead]
        suspects = [*self._suspects, *self._beginning]
        if held := [*self._left, *self.at_hand, *suspects, *in_hand, *dead, *self._settled]:
            self._renewal = self._start("the renewal of leases", self._renew(held, self._lease))

    async def _renew(self, held: list[Delivery], lease: float) -> None:
        try:
            async with asyncio.timeout(lease / 3):
                await self.layer.renew(held, lease)
        except Exception as error:
            known = isinstance(error, LayerError | TimeoutError)
            log.warning(
                "channel %s: cannot renew its leases: %s",
                quoted(self.channel), str(error) or "the layer does not answer", exc_info=None if known else error,
            )  # fmt: skip

    def _start(self, what: str, call: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(call)
        if self._watch_task is not None:
            self._watch_task(f"channel {quoted(self.channel)}: {what}", task)
        return task

    def quiet(self) -> None:
        """Hand out nothing more; `stop` gives back what nobody has begun."""
        self.closed = True
        self._left += [*self._suspects, *self._all_at_hand()]
        self._suspects.clear()

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Write a dead letter, behind those that are noted."""
        self._dead.append((delivery, letter))
        self._turn.release(delivery)
        await self.flush_dead()

    def reject(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Note the dead letter of a rejected delivery; it is written with those that follow it within a few ms."""
        if not self._dead:
            self._dead_since = time.monotonic()
        if self._burial is None or self._burial.done():
            self._burial = self._start("the writing of dead letters", self._bury_soon())
        self._dead.append((delivery, letter))
        self._turn.release(delivery)

    async def flush_full_batch(self) -> None:
        """Write the dead letters that are noted and let others have their turn, if it is time for that."""
        if len(self._dead) >= LARGEST_BATCH or time.monotonic() - self._dead_since >= LONGEST_BATCH:
            await self.flush_dead()
            # A layer that answers at once has let nobody else run.
            await asyncio.sleep(0)

    async def flush_dead(self) -> None:
        """Write the dead letters that are noted.

        A letter that the layer cannot write must not block the channel: after a few tries the letters are written one
        by one, then the event's bytes without the rest of its letter. At last the event is dropped, with a log line.
        """
        async with self._burying:
            # An entry is removed only when the layer has it: the caller may be cancelled.
            if dead := list(self._dead):
                try:
                    await self.insist("keep dead letters", lambda: self.layer.bury_many(dead), tries=MOST_TRIES)
                    del self._dead[: len(dead)]
                except Exception:  # noqa: BLE001  (whatever a layer raises, the channel goes on)
                    for delivery, letter in dead:
                        await self._bury_alone(delivery, letter)
                        del self._dead[0]
                self._dead_since = time.monotonic()

    async def _bury_alone(self, delivery: Delivery, letter: DeadLetter) -> None:
        bare = replace(letter, reason=_BARE_REASON, event=None, body=delivery.body, violations=(), traceback="")
        for kept in (letter, bare):
            with suppress(Exception):
                await self.insist("keep a dead letter", partial(self.layer.bury, delivery, kept), tries=1)
                return
        event_type = delivery.event.get("type") if delivery.event else None
        log.critical(
            "channel %s: dropped an event of type %s: its dead letter cannot be kept",
            quoted(self.channel), quoted(event_type) if isinstance(event_type, str) else "unknown",
        )  # fmt: skip
        self.settle(delivery)

    async def _bury_soon(self) -> None:
        while self._dead:
            await asyncio.sleep(LONGEST_BATCH)
            await self.flush_dead()

    async def insist(self, what: str, call: Callable[[], Awaitable[T]], *, tries: int | None = None) -> T:
        """Call the layer until it answers: it may be away, and the worker outlives that.

        Args:
            what: the call, for the log.
            call: makes the call.
            tries: how often it may fail although the layer is there; `None` for any number.

        Raises:
            ChannelUnsupported: no call can succeed.
            Exception: the call failed so often.

        """
        delay = FIRST_DELAY
        while True:
            begun = time.monotonic()
            try:
                result = await call()
            except ChannelUnsupported:
                raise
            except Exception as error:  # whatever a layer's client raises, the worker goes on
                if time.monotonic() - begun > delay:
                    # The layer was there, and was lost anew: a take that waits has no other way to show it.
                    delay = FIRST_DELAY
                known = isinstance(error, LayerError)
                if tries is not None and not isinstance(error, LayerUnavailable):
                    tries -= 1
                last = tries == 0
                log.error(  # noqa: TRY400  (a traceback only for what is not understood)
                    "channel %s: cannot %s, %s: %s",
                    quoted(self.channel), what, "giving up" if last else f"next try in {delay:.1f} s",
                    one_line(shortened(str(error))), exc_info=None if known else error,
                )  # fmt: skip
                if last:
                    raise
            else:
                if delay > FIRST_DELAY:
                    log.warning("channel %s: the layer is back", quoted(self.channel))
                return result
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(2 * delay, LONGEST_DELAY)

    @property
    def held(self) -> int:
        """Events that would be lost if the process ended now, besides what the slots have in hand."""
        return len(self._left) + len(self._dead)

    async def stop(self) -> None:
        """Say what was handled and give back what was not begun; the slots must have stopped."""
        if self._watch is not None:
            self._watch.cancel()
        await self._hoard_came_back()
        await self.flush_dead()
        for task in (self._burial, self._renewal):
            if task is not None:
                task.cancel()
        await self.flush_settled()
        await self._return_left()

    def _is_unfit(self, delivery: Delivery) -> bool:
        """Whether a delivery is not an event, or is delivered too often."""
        if not (delivery.event and delivery.event.get("type")):
            return True
        # A worker that dies of an event cannot say so: the layer counts it.
        return self.service.retry is not None and delivery.attempt > self.service.retry.attempts

    async def _bury_unfit(self, unfit: Sequence[Delivery]) -> None:
        for delivery in unfit:
            letter = _letter_for_unfit(delivery)
            log.error("channel %s: %s; kept as a dead letter", quoted(self.channel), letter.reason)
            self._dead.append((delivery, letter))
        await self.flush_dead()

    def _all_at_hand(self) -> list[Delivery]:
        deliveries: list[Delivery] = []
        try:
            while True:
                # One by one: a slot's thread may be taking from the same end.
                deliveries.append(self.at_hand.popleft())
        except IndexError:
            return deliveries

    def _watch_out(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if len(self.at_hand) > 1:
            self._watch = asyncio.get_running_loop().call_later(PATIENCE, self._return_hoard)

    def _return_hoard(self) -> None:
        """Give others what waits here, and settle what is handled: the handler has become slow."""
        if self._settled:
            self._settlement = self._start("the settling of events", self.flush_settled())
        if self.at_hand and not self.closed:
            self.pace.note(PATIENCE, 1)
            self._going_back = self._start("the return of prefetched events", self._give_back())

    async def _give_back(self) -> None:
        deliveries = self._all_at_hand()
        try:
            await self.layer.give_back(deliveries)
        except Exception as error:  # noqa: BLE001  (whatever a layer's client raises, the events are still ours)
            log.warning("channel %s: cannot give events back: %s", quoted(self.channel), error)
            if self.closed:
                self._left[:0] = deliveries
            else:
                self.at_hand.extendleft(reversed(deliveries))

    async def _return_left(self) -> None:
        if left := list(self._left):
            await self.insist("give events back", lambda: self.layer.give_back(left))
            del self._left[: len(left)]

    async def _has_wrong_key(self, taken: Sequence[Delivery]) -> bool:
        """Return events that no key of the layer fits, and wait until a key fits one; `False` when one fits already."""
        if not await self._count_undecryptable():
            return False
        self._left += taken
        self._going_back = self._start("the return of prefetched events", self._return_left())
        await self._hoard_came_back()
        while count := await self._count_undecryptable():
            self.has_wrong_key = True
            log.error(
                "channel %s: no key of the layer fits any of the %d waiting events; they stay where they are, %s; "
                "check symmetric_encryption_keys",
                quoted(self.channel), count, "the burst ends" if self._burst else f"next look in {LONGEST_DELAY:.1f} s",
            )  # fmt: skip
            if self._burst:
                return True
            await asyncio.sleep(LONGEST_DELAY)
        if self.has_wrong_key:
            log.warning("channel %s: taking events again", quoted(self.channel))
        self.has_wrong_key = False
        return True

    async def _count_undecryptable(self) -> int:
        return await self.insist("look for events that a key fits", self._decryption.count_undecryptable)

    async def _hoard_came_back(self) -> bool:
        """Wait for the end of a return: what is on its way back is older than anything a refill would take.

        Returns whether it failed, so that there is something at hand again.
        """
        if self._going_back is not None:
            await asyncio.wait({self._going_back})
            self._going_back = None
        return bool(self.at_hand)


def _letter_for_unfit(delivery: Delivery) -> DeadLetter:
    if delivery.event and delivery.event.get("type"):
        if delivery.crashes:
            often = f", {delivery.crashes} times in a row" if delivery.crashes > 1 else ""
            return letter_for(delivery, "failed", f"its worker ended while it was handled{often}")
        return letter_for(delivery, "failed", f"it was delivered for attempt {delivery.attempt}, beyond its last one")
    return letter_for(delivery, "unreadable", delivery.problem or "the event has no type")
