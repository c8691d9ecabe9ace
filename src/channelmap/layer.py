"""What a transport promises: Channels' layer interface, and what a worker needs besides.

`layers/` holds those who keep the promise; `tests/layers/conformance/` is its exact meaning. A layer knows
no contract: it moves dicts. Nothing here knows a transport.

The life of an event: it is *sent*; it is *taken* as a `Delivery`; the delivery is *settled* (it was handled),
*given back* (it was not begun: to the front again), *retried* (later, as a further attempt) or *buried* (kept
as a dead letter). An event that is sent with a delay, or retried, is *scheduled*: it waits apart until it is due.
Taken without a lease, an event has left the layer at once: at-most-once. Taken with one, it stays until it is settled
and comes again when the lease runs out: at-least-once.

An event whose lease has run out is a *suspect*: it may be what ended its worker, or its worker had only prefetched it.
So the attempt does not rise, and the event is delivered alone. The worker then calls `begin` before it handles the
event. When a lease that was begun runs out, the worker ended while it handled this event: that counts as an attempt.
"""

import fnmatch
import logging
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from channelmap.asgi import Event
from channelmap.errors import LONGEST_TRACEBACK, quoted, shortened
from channelmap.limits import Limits, letters_kept

#: The layer that the consumers of this context send with (a `ChannelLayer`, or one around it that judges first);
#: the worker's process sets it before it serves.
current_layer: ContextVar[Any] = ContextVar("current_layer", default=None)

log = logging.getLogger("channelmap.layers")

#: Seconds for which an event may be delayed: 366 days.
LONGEST_DELAY = 366 * 86_400

_USUAL = Limits()
#: Seconds between two warnings of dropped dead letters.
_WARNING_SECS = 60.0
#: Names may be made up without end; so many are remembered.
_MOST_KNOWN = 10_000

_NAME = re.compile(r"[A-Za-z0-9\-_.]+(![A-Za-z0-9\-_.]*)?", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9\-_.]+", re.ASCII)
_NAME_RULE = (
    "name must be a valid unicode string with length < 100 containing only ASCII alphanumerics, "
    "hyphens, underscores, or periods."
)


@dataclass(slots=True, eq=False)
class Delivery:
    """An event taken from a layer and not yet settled.

    Attributes:
        channel: where it was taken.
        event: the event; `None` when what lay in the layer cannot be read (`problem` says why).
        body: the bytes as they lay in the layer; empty for a layer that keeps objects.
        sent: when it was sent, in seconds since the epoch.
        attempt: 1 the first time it is delivered.
        problem: why it cannot be read; empty when it can.
        encrypted: no key of the layer fits: `body` is still encrypted.
        ticket: what the layer needs to find it again; nobody else's business.
        suspect: a lease of this event ran out, and the event has not failed since; only for what is taken with a lease.
        crashes: how often in a row its last leases ran out after `begin`; 0 unless it is a suspect.
        raw_id: `id` as the layer keeps it: bytes, or a number; empty or 0 when there is none.
        number: which of the events of its lease it is; like the ticket, nobody else's business.
        due: only for what `peek` shows: when a scheduled event is delivered, in seconds since the epoch.

    """

    channel: str
    event: Event | None
    body: bytes
    sent: float
    attempt: int = 1
    problem: str = ""
    ticket: Any = None
    encrypted: bool = False
    suspect: bool = False
    crashes: int = 0
    raw_id: bytes | int = 0
    number: int = 0
    due: float | None = None

    @property
    def id(self) -> str:
        """The event's id, in hexadecimal digits: from `send` on the same, however often the event is delivered."""
        return shown_id(self.raw_id)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many events of a channel are where.

    Attributes:
        waiting: those that a worker may take.
        scheduled: those that wait for a time: sent with a delay, or put back for a retry.
        leased: those that workers have under a lease.
        dead: dead letters.

    """

    waiting: int
    scheduled: int
    leased: int
    dead: int


#: Why an event is dead: refused by its schema; no such event type; not an event at all; its handler failed, or gave it
#: up by `Reject`.
Cause = Literal["invalid", "unroutable", "unreadable", "failed", "rejected-by-handler"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document about an event that could not be handled.

    Attributes:
        channel: where it was taken.
        code: which kind of failure, one of `Cause`.
        reason: one line: what went wrong.
        event: the event; `None` when it cannot be read.
        body: its bytes as they lay in the layer.
        violations: what is wrong with the event, a line each (`invalid` only).
        traceback: the handler's traceback (`failed` only).
        attempts: how often it was delivered.
        sent: when it was sent, in seconds since the epoch.
        died: when it was given up, in seconds since the epoch.
        id: the layer's name for it, unique within the layer; empty before it is kept.
        event_id: the id of its event; empty if it is not known.

    """

    channel: str
    code: Cause
    reason: str
    event: Event | None
    body: bytes
    violations: tuple[str, ...] = ()
    traceback: str = ""
    attempts: int = 1
    sent: float = 0.0
    died: float = 0.0
    id: str = ""
    event_id: str = ""


class _LostLetters:
    """Logs dropped dead letters: at once the first time, then at most once a minute for each channel."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next: dict[str, float] = {}

    def note(self, channel: str, count: int, limit: int) -> None:
        if limit == 0:
            # The channel says that it keeps none.
            return
        self._counts[channel] += count
        now = time.monotonic()
        if now >= self._next.get(channel, 0):
            self._next[channel] = now + _WARNING_SECS
            log.warning(
                "channel %s: dropped its %d oldest dead letters, since it keeps the newest %d (dead_letters)",
                quoted(channel), self._counts.pop(channel), limit,
            )  # fmt: skip


class ChannelLayer(ABC):
    """Where events wait, in Channels' words, and the worker's four further verbs.

    One object may be used from several threads and event loops at once, and after a fork.

    Args:
        capacity: events that may wait on a channel for which nothing else is said.
        expiry: seconds after which a waiting event is dropped; `None` for never.
        channel_capacity: capacities by name: a str key is a case-sensitive glob for the whole name, a compiled
            pattern is matched from the start; the first that fits wins (Channels' rule).
        group_expiry: seconds after which a member drops out of its group.
        dead_letters: how many dead letters are kept per channel; `None` for as many as its capacity, at least 1,000.
        limits: exact limits by channel name, as a contract sets them; they come before everything above.

    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]
    #: Whether it can take with a lease, which at-least-once needs.
    has_leases: ClassVar[bool] = True
    #: Whether a sent event may stay Python objects, subclasses of str or dict among them, until it is packed elsewhere.
    keeps_objects: ClassVar[bool] = False
    MAX_NAME_LENGTH: ClassVar[int] = 100
    #: Names the layer in messages and logs, without a password.
    url: str

    def __init__(  # noqa: PLR0913  (Channels' own arguments, and ours)
        self,
        *,
        capacity: int = _USUAL.capacity,
        expiry: float | None = _USUAL.expiry,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        group_expiry: float = 86_400,
        dead_letters: int | None = None,
        limits: Mapping[str, Limits] | None = None,
    ) -> None:
        self.capacity = capacity
        self.expiry = expiry
        self.group_expiry = group_expiry
        self._default_dead_letters = dead_letters
        self._capacity_patterns = [
            (re.compile(fnmatch.translate(key)) if isinstance(key, str) else key, value)
            for key, value in (channel_capacity or {}).items()
        ]
        self._limits = dict(limits or {})
        self._known: dict[str, Limits] = {}
        self._lost_letters = _LostLetters()

    # What senders and consumers call: Channels' interface.

    @abstractmethod
    async def send(
        self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None
    ) -> str | None:
        """Put one event at the end of the channel, and return its id; None if the layer gives events no ids.

        A call that is cancelled, for instance by `asyncio.timeout`, may have sent the event all the same.

        Args:
            channel: the channel's name.
            event: the event.
            delay: seconds after which the event comes to the end of the channel; a worker that serves the channel
                brings it there. Until then it counts towards the capacity; order and expiry count from then.
            at: the time for the same, with a time zone; a time in the past means now.

        Raises:
            TypeError: the name is not a channel's; `delay` and `at` are both given, or of another type.
            ValueError: `delay` is negative, `at` has no time zone, or the event is to wait for more than a year.
            AssertionError: the event is not a dict, or has the reserved key ``__asgi_channel__``.
            EventRejected: the event holds a value that the layer cannot carry (`unsupported-value`).
            ChannelFull: the channel is at its capacity.
            LayerUnavailable: the transport is away; whether the event was sent is then not known.
            LayerError: the layer cannot delay events.

        """

    @abstractmethod
    def send_sync(
        self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None
    ) -> str | None:
        """Send from code that runs in no event loop, in any thread; as `send`, without a loop."""

    @abstractmethod
    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str] | None:
        """Send several events in one step and in this order; on an error none of them was sent. Return their ids."""

    async def receive(self, channel: str) -> Event:
        """Wait for the next event and take it for good, as Channels' own worker does.

        What cannot be read becomes a dead letter and is passed over: it must not end whoever listens.
        """
        self.require_valid_channel_name(channel)
        while True:
            for delivery in await self.take(channel, 1):
                if delivery.event is not None:
                    return delivery.event
                await self.bury(delivery, letter_for(delivery, "unreadable", delivery.problem))

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Make up a channel name that nobody else has."""
        return f"{prefix}{uuid.uuid4().hex[:16]}!{uuid.uuid4().hex[:16]}"

    @abstractmethod
    async def group_add(self, group: str, channel: str) -> None:
        """Let the channel have what is sent to the group, for `group_expiry` seconds."""

    @abstractmethod
    async def group_discard(self, group: str, channel: str) -> None:
        """Take the channel out of the group, if it is in it."""

    @abstractmethod
    async def group_send(self, group: str, event: Event) -> None:
        """Send to every channel of the group; a full channel gets nothing. Each copy has an id of its own."""

    @abstractmethod
    async def flush(self) -> None:
        """Delete everything: events, groups, dead letters."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of what is open. The layer may be used again afterwards and then opens anew."""

    # What a worker calls.

    @abstractmethod
    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        """Take up to `limit` events from the front, oldest first; wait for the first one. A paused channel has none.

        What comes again comes before the rest. Under a lease a suspect is taken alone: the list holds nothing else.

        A call that is cancelled has taken nothing, or what it took is back at the front.

        Args:
            channel: the channel's name.
            limit: at most so many, at least 1.
            lease: seconds after which what is not settled comes again; `None` takes for good.
            wait: when there is nothing, wait (`True`) or return an empty list.

        """

    @abstractmethod
    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Forget deliveries that were handled. For those taken for good there is nothing to do."""

    @abstractmethod
    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries that were not begun to the front again, in their order, whatever the capacity.

        Of those that several calls give back, a layer may put the one first that was sent first. Each comes again with
        the same attempt, and a suspect as a suspect.
        """

    @abstractmethod
    async def begin(self, delivery: Delivery) -> bool:
        """Note that the handler of a leased suspect starts now: when this lease runs out, that counts as an attempt.

        Returns:
            Whether the lease is still there. Without it the event belongs to another worker.

        """

    @abstractmethod
    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Let a leased delivery come again after `delay` seconds, as its next attempt and not as a suspect.

        This ends the lease: a later call for the same delivery changes nothing.
        """

    @abstractmethod
    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        """Let leased deliveries that are still being handled run `lease` seconds from now."""

    @abstractmethod
    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Settle the delivery and keep the letter, in one step; beyond the channel's limit the oldest goes.

        When the lease of the delivery has ended, nothing is kept: the event belongs to another worker, or an earlier
        call has kept the letter.
        """

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        """Settle deliveries and keep their letters, in this order; a layer for which it is cheaper does so in one step.

        Raises:
            LayerError: the transport is away; some letters may have been kept.

        """
        for delivery, letter in buried:
            await self.bury(delivery, letter)

    @abstractmethod
    async def pause(self, channel: str) -> None:
        """Let no worker take from the channel any more, within two seconds, until it is resumed; sends go on.

        The pause is kept in the layer and survives restarts. Readers of channels_redis do not obey it.

        Raises:
            LayerError: a layer of this kind cannot pause channels.
            LayerUnavailable: the transport is away.

        """

    @abstractmethod
    async def resume(self, channel: str) -> None:
        """End a pause. Raises as `pause`."""

    @abstractmethod
    async def is_paused(self, channel: str) -> bool:
        """Return whether the channel is paused."""

    @abstractmethod
    async def waiting(self, channel: str) -> int | None:
        """Count the events that wait on the channel, at the same cost however many; `None` if it cannot tell."""

    # What those call who look and touch nothing.

    @abstractmethod
    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        """Count the events of several channels, by where they are, in one step for all of them.

        Events that have expired may be counted until somebody takes from their channel.

        Raises:
            LayerError: a layer of this kind cannot count them.
            LayerUnavailable: the transport is away.

        """

    @abstractmethod
    def peek(self, channel: str) -> AsyncIterator[Delivery]:
        """Show what lies on the channel and take nothing: those under a lease, then those that wait, oldest first.

        Nothing in the layer changes, and no more than a batch of it is held here. What has expired is not shown, nor
        is anything on a private channel. What stays where it is meanwhile is shown once; what others take, settle or
        give back may be missing or shown twice. None of it is taken, so none of it can be settled.

        Raises:
            LayerError: a layer of this kind cannot show it.
            LayerUnavailable: the transport is away.

        """

    # What those who look after dead letters call.

    @abstractmethod
    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        """List the dead letters of one channel or of all, oldest first."""

    @abstractmethod
    async def replay(self, id: str) -> None:  # noqa: A002
        """Send a dead letter's event again, under its id, at the end of its channel, and drop the letter, in one step.

        Raises:
            KeyError: there is no letter of that id.
            ChannelFull: the channel is at its capacity; the letter stays.

        """

    @abstractmethod
    async def drop(self, id: str) -> None:  # noqa: A002
        """Delete a dead letter; KeyError when there is none of that id."""

    # Rules that every layer shares.

    def limits_of(self, channel: str) -> Limits:
        """Return how much may be kept on that channel; TypeError, in Channels' words, when the name is none."""
        try:
            return self._known[channel]
        except (KeyError, TypeError):
            return self._learn(channel)

    def _learn(self, channel: str) -> Limits:
        """Look at a channel's name for the first time."""
        self.require_valid_channel_name(channel)
        limits = self._limits.get(channel) or self._limits_by_rule(channel)
        if "!" not in channel and len(self._known) < _MOST_KNOWN:
            self._known[channel] = limits
        return limits

    def _limits_by_rule(self, channel: str) -> Limits:
        capacity = next((value for pattern, value in self._capacity_patterns if pattern.match(channel)), self.capacity)
        if "!" in channel:
            # A private channel ends with its consumer: nobody will ever come for what is left on it.
            return Limits(capacity, 60.0 if self.expiry is None else self.expiry, 0)
        kept = letters_kept(capacity) if self._default_dead_letters is None else self._default_dead_letters
        return Limits(capacity, self.expiry, kept)

    def _warn_of_lost_letters(self, dropped: Mapping[str, int]) -> None:
        """Log that so many of the oldest dead letters were dropped, by channel, to keep newer ones."""
        for channel, count in dropped.items():
            if count:
                self._lost_letters.note(channel, count, self.limits_of(channel).dead_letters)

    def require_valid_channel_name(self, name: object, receive: bool = False) -> bool:  # noqa: FBT001, FBT002
        """Return True for a channel's name, or raise TypeError in Channels' words."""
        if not (isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH and _NAME.fullmatch(name)):
            raise TypeError(f"Channel {_NAME_RULE}")
        if receive and "!" in name and not name.endswith("!"):
            raise TypeError("Specific channel names in receive() must end at the !")
        return True

    def require_valid_group_name(self, name: object) -> bool:
        """Return True for a group's name, or raise TypeError in Channels' words."""
        if not (isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH and _GROUP.fullmatch(name)):
            raise TypeError(f"Group {_NAME_RULE}")
        return True

    def require_valid_event(self, event: object) -> None:
        """Raise what Channels raises for a message that is not a dict, or that has the reserved key."""
        if not isinstance(event, dict):
            raise AssertionError("message is not a dict")  # noqa: TRY004  (Channels' error)
        if "__asgi_channel__" in event:
            raise AssertionError("the key '__asgi_channel__' is reserved")


def shown_id(raw_id: bytes | int) -> str:
    """Return an event's id as senders, handlers and operators see it: hexadecimal digits, or nothing for none."""
    if isinstance(raw_id, bytes):
        return raw_id.hex()
    return f"{raw_id:016x}" if raw_id else ""


def seconds_until(delay: float | None, at: datetime | None) -> float | None:
    """Return in how many seconds an event is due, as `ChannelLayer.send` takes it; None for now.

    Raises:
        TypeError: both are given, or one is of another type.
        ValueError: `delay` is negative, `at` has no time zone, or that is more than a year.

    >>> seconds_until(2.5, None), seconds_until(0, None)
    (2.5, None)

    """
    if delay is not None and at is not None:
        raise TypeError("send takes either delay, in seconds, or at, a time; not both")
    if delay is None and at is None:
        return None
    if at is not None:
        if not isinstance(at, datetime):
            raise TypeError(f"at: expected a datetime with a time zone, got {type(at).__name__}")
        if at.tzinfo is None:
            raise ValueError("at: the datetime has no time zone; add one, as in datetime.now(UTC) + timedelta(hours=1)")
        delay = max(0.0, at.timestamp() - time.time())
    elif isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"delay: expected a number of seconds, got {type(delay).__name__}")
    if not 0 <= delay <= LONGEST_DELAY:
        named = "at" if at is not None else "delay"
        raise ValueError(f"{named}: expected 0 to {LONGEST_DELAY} seconds from now (366 days), got {delay:g}")
    return float(delay) or None


def letter_for(
    delivery: Delivery, code: Cause, reason: str, violations: Iterable[object] = (), traceback: str = ""
) -> DeadLetter:
    """Make the letter for a delivery that is given up now; texts that nobody would read to the end are cut."""
    return DeadLetter(
        channel=delivery.channel,
        code=code,
        reason=shortened(reason),
        event=delivery.event,
        body=delivery.body,
        violations=tuple(shortened(str(violation)) for violation in violations),
        traceback=shortened(traceback, LONGEST_TRACEBACK),
        attempts=delivery.attempt,
        sent=delivery.sent,
        died=time.time(),
        event_id=delivery.id,
    )
