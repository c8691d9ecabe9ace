"""The interface of transports: Channels' layer interface, and further methods for workers.

`layers/` has the implementations; the tests in `tests/layers/conformance/` specify the interface exactly. A layer moves
dicts and depends on no contract. This module depends on no transport.

The life of an event: it is *sent*, and *taken* as a `Delivery`. The delivery is then *settled* (acknowledged, after it
was handled), *returned* (unstarted, to the front), *retried* (later, as a further attempt) or *buried* (kept as a dead
letter). An event that is sent with a delay, or retried, is *scheduled*: it waits separately until it is due. An event
that is taken without a lease leaves the layer at once: at-most-once. Under a lease it stays until it is settled, and
is redelivered when the lease expires: at-least-once.

An event whose lease has expired is a *suspect*: it may have crashed its worker, or was only prefetched. So its attempt
number does not change, and it is delivered alone. The worker calls `begin` before it handles the event. If the lease
expires after `begin`, the worker crashed while it handled this event, which counts as an attempt.
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
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal

from channelmap.asgi import Event
from channelmap.errors import LONGEST_TRACEBACK, LayerError, quoted, shortened
from channelmap.limits import Limits, letters_kept

#: The layer with which the consumers of this context send: a `ChannelLayer`, or a `ContractLayer` around one. The
#: worker's process sets it before it serves.
current_layer: ContextVar[Any] = ContextVar("current_layer", default=None)

log = logging.getLogger("channelmap.layers")

#: Maximum delay of an event in seconds: 366 days.
LONGEST_DELAY = 366 * 86_400

#: Seconds after its last heartbeat during which a worker is listed.
WORKER_TIMEOUT_SECS = 15.0
#: Seconds for which the layer remembers the number of a worker's last heartbeat.
NUMBER_KEPT_SECS = 3_600.0

_DEFAULTS = Limits()
#: Seconds between two warnings about dropped dead letters.
_WARNING_SECS = 60.0
#: Maximum number of cached limits, because the number of names is unlimited.
_MAX_CACHED = 10_000

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
        channel: the channel's name.
        event: the event; `None` if the stored bytes are unreadable (see `problem`).
        body: the stored bytes; empty for a layer that keeps objects.
        sent: send time, in seconds since the epoch.
        attempt: number of the attempt, from 1.
        problem: the reason why the bytes are unreadable; empty if they are readable.
        encrypted: no key of the layer fits, so `body` is still encrypted.
        ticket: data with which the layer finds the event again; private to the layer.
        suspect: a lease of this event expired, and the event has not failed since; only under a lease.
        crashes: number of consecutive leases that expired after `begin`; 0 unless it is a suspect.
        raw_id: the `id` as stored in the layer: bytes or a number; empty or 0 if there is none.
        number: index of the event in its lease; private to the layer.
        due: due time of a scheduled event, in seconds since the epoch; only in results of `peek`.

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
        """The event's id, in hexadecimal digits: the same as `send` returned, for every delivery."""
        return shown_id(self.raw_id)


@dataclass(frozen=True, slots=True)
class Counts:
    """The state of a channel in numbers.

    Attributes:
        waiting: number of events that a worker may take.
        scheduled: number of events that are not due yet: sent with a delay, or retried.
        leased: number of events that workers have under a lease.
        dead: number of dead letters by code; only codes that have some.
        oldest: age in seconds of the first waiting event, by the layer's clock: since it was sent or, if it was
            delayed, since it was due; `None` if no event waits.
        paused: whether the channel is paused.
        totals: sums of what heartbeats have added, by name. They never shrink.

    """

    waiting: int
    scheduled: int
    leased: int
    dead: Mapping[str, int]
    oldest: float | None = None
    paused: bool = False
    totals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process, as its heartbeats describe it.

    Attributes:
        id: unique among all worker processes.
        host: name of the machine.
        pid: process id on that machine.
        started: start time, in seconds since the epoch, by the clock of that machine.
        version: version of channelmap.
        contract: digest of the contract.
        channels: the channels that it serves.
        in_flight: number of events that are being handled, by channel; only channels that have some.
        seen: seconds since its last heartbeat, by the layer's clock; only in results of `workers`.

    """

    id: str
    host: str
    pid: int
    started: float
    version: str
    contract: str
    channels: tuple[str, ...]
    in_flight: Mapping[str, int]
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Purged:
    """Numbers of events that `purge` has deleted.

    Attributes:
        waiting: number of waiting events.
        scheduled: number of scheduled events.

    """

    waiting: int
    scheduled: int


#: Codes of dead letters: rejected by the schema; undeclared event type; not an event; the handler failed; given up by
#: the handler with `Reject`.
Cause = Literal["invalid", "unroutable", "unreadable", "failed", "rejected-by-handler"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of an event that could not be handled.

    Attributes:
        channel: the channel's name.
        code: kind of the failure, one of `Cause`.
        reason: the reason, in one line.
        event: the event; `None` if it is unreadable.
        body: the stored bytes of the event.
        violations: violations of the schema, one line each (`invalid` only).
        traceback: the handler's traceback (`failed` only).
        attempts: number of deliveries.
        sent: send time, in seconds since the epoch.
        died: time at which the event was given up, in seconds since the epoch.
        id: the letter's id, unique within the layer; empty before it is stored.
        event_id: the event's id; empty if unknown.

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


class _DroppedLetters:
    """Log dropped dead letters: the first ones at once, then at most once a minute per channel."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._next: dict[str, float] = {}

    def record(self, channel: str, count: int, limit: int) -> None:
        if limit == 0:
            # The channel is configured to keep none.
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
    """A channel layer: Channels' interface, and further methods for workers and operators.

    An object may be used from several threads and event loops at once, and after a fork.

    Args:
        capacity: default capacity of a channel.
        expiry: seconds after which a waiting event is dropped; `None` for never.
        channel_capacity: capacities by name: a str key is a case-sensitive glob for the whole name, a compiled
            pattern is matched from the start; the first match counts (Channels' rule).
        group_expiry: seconds after which a channel leaves a group.
        dead_letters: number of dead letters kept per channel; `None` for its capacity, at least 1,000.
        limits: exact limits by channel name, as a contract sets them; they override the arguments above.

    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]
    #: Whether `take` supports leases, which at-least-once needs.
    has_leases: ClassVar[bool] = True
    #: Whether sent events stay Python objects, possibly of subclasses of str or dict, until they are packed elsewhere.
    keeps_objects: ClassVar[bool] = False
    #: Whether the layer keeps heartbeats and counts; without, `heartbeat`, `workers`, `purge` and `counts` raise.
    has_heartbeats: ClassVar[bool] = True
    MAX_NAME_LENGTH: ClassVar[int] = 100
    #: The layer's name in messages and logs, without a password.
    url: str

    def __init__(  # noqa: PLR0913  (Channels' arguments, and further ones)
        self,
        *,
        capacity: int = _DEFAULTS.capacity,
        expiry: float | None = _DEFAULTS.expiry,
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
        self._cached_limits: dict[str, Limits] = {}
        self._dropped_letters = _DroppedLetters()

    # Channels' interface, for senders and consumers.

    @abstractmethod
    async def send(
        self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None
    ) -> str | None:
        """Send one event to the end of the channel, and return its id, or None if the layer has no ids.

        A cancelled call, for instance by `asyncio.timeout`, may have sent the event nevertheless.

        Args:
            channel: the channel's name.
            event: the event.
            delay: seconds until the event is due. A worker that serves the channel then moves it to the end of the
                channel. It counts towards the capacity at once; order and expiry count from the due time.
            at: due time instead of `delay`, with a time zone; a time in the past means now.

        Raises:
            TypeError: the channel name is invalid; `delay` and `at` are both given, or of a wrong type.
            ValueError: `delay` is negative, `at` has no time zone, or the delay is longer than 366 days.
            AssertionError: the event is not a dict, or has the reserved key ``__asgi_channel__``.
            EventRejected: the event has a value that the layer does not support (`unsupported-value`).
            ChannelFull: the channel is at its capacity.
            LayerUnavailable: the transport is unavailable; the event may have been sent.
            LayerError: the layer cannot delay events.

        """

    @abstractmethod
    def send_sync(
        self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None
    ) -> str | None:
        """Send like `send`, from code outside of an event loop, in any thread."""

    @abstractmethod
    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str] | None:
        """Send several events in one step and in this order; on an error none of them was sent. Return their ids."""

    async def receive(self, channel: str) -> Event:
        """Wait for the next event and take it without a lease, as Channels' own worker does.

        An unreadable event becomes a dead letter and is skipped, so that it does not end the consumer.
        """
        self.require_valid_channel_name(channel)
        while True:
            for delivery in await self.take(channel, 1):
                if delivery.event is not None:
                    return delivery.event
                await self.bury(delivery, letter_for(delivery, "unreadable", delivery.problem))

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return a new unique channel name."""
        return f"{prefix}{uuid.uuid4().hex[:16]}!{uuid.uuid4().hex[:16]}"

    @abstractmethod
    async def group_add(self, group: str, channel: str) -> None:
        """Add the channel to the group, for `group_expiry` seconds."""

    @abstractmethod
    async def group_discard(self, group: str, channel: str) -> None:
        """Remove the channel from the group, if it is a member."""

    @abstractmethod
    async def group_send(self, group: str, event: Event) -> None:
        """Send to every channel of the group except full ones. Each copy has an id of its own."""

    @abstractmethod
    async def flush(self) -> None:
        """Delete everything: events, groups, dead letters, heartbeats and totals."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections. A later call opens them again."""

    # For workers.

    @abstractmethod
    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        """Take up to `limit` events from the front, oldest first; wait for the first one. A paused channel has none.

        Redelivered events come before all others. Under a lease a suspect is taken alone, as the only one of the list.

        A cancelled call has taken nothing, or has returned its events to the front.

        Args:
            channel: the channel's name.
            limit: maximum number of events, at least 1.
            lease: seconds after which unsettled events are redelivered; `None` takes without a lease.
            wait: if there is no event, wait (`True`) or return an empty list.

        """

    @abstractmethod
    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Delete handled deliveries from the layer; do nothing for those taken without a lease."""

    @abstractmethod
    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return unstarted deliveries to the front, in their order, without a capacity check.

        A layer may order the events of several calls by their send times. Attempts do not change, and a suspect
        remains one.
        """

    @abstractmethod
    async def begin(self, delivery: Delivery) -> bool:
        """Record that the handler of a leased suspect starts: if this lease expires, that counts as an attempt.

        Returns:
            Whether the lease is still valid. Otherwise the event belongs to another worker.

        """

    @abstractmethod
    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Redeliver a leased event after `delay` seconds, as its next attempt and not as a suspect.

        This ends the lease, so a later call for the same delivery has no effect.
        """

    @abstractmethod
    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        """Extend the leases of unsettled deliveries to `lease` seconds from now."""

    @abstractmethod
    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Settle the delivery and store the letter, in one step; drop the oldest letters beyond the channel's limit.

        If the lease of the delivery has ended, nothing is stored: the event belongs to another worker, or an earlier
        call has stored the letter.
        """

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        """Settle deliveries and store their letters, in this order; some layers do so in one step.

        Raises:
            LayerError: the transport is unavailable; some letters may have been stored.

        """
        for delivery, letter in buried:
            await self.bury(delivery, letter)

    @abstractmethod
    async def pause(self, channel: str) -> None:
        """Stop workers from taking events of the channel, within two seconds, until it is resumed; sends continue.

        The pause is stored in the layer and survives restarts. Readers of channels_redis ignore it.

        Raises:
            LayerError: a layer of this kind cannot pause channels.
            LayerUnavailable: the transport is unavailable.

        """

    @abstractmethod
    async def resume(self, channel: str) -> None:
        """End a pause; raise the same errors as `pause`."""

    @abstractmethod
    async def is_paused(self, channel: str) -> bool:
        """Return whether the channel is paused."""

    @abstractmethod
    async def waiting(self, channel: str) -> int | None:
        """Return the number of waiting events, in constant time; `None` if the layer cannot count them."""

    @abstractmethod
    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        """Record that a worker is alive, and add to the totals of channels.

        A call whose outcome is unknown is repeated with the same arguments until it succeeds: each total is added
        once. The layer remembers the last number of a worker for an hour after its last heartbeat.

        Args:
            worker: the worker.
            totals: increments by channel and name. A name is ASCII, up to 100 characters.
            number: number of the heartbeat, from 1. A number that is not above the last one of this worker id
                changes no totals.
            last: the worker ends, and is no longer listed.

        Raises:
            LayerError: a layer of this kind keeps no heartbeats.
            LayerUnavailable: the transport is unavailable; some totals may have been added.

        """

    # For operators: reading without changing anything.

    @abstractmethod
    async def workers(self) -> list[WorkerInfo]:
        """Return the workers whose last heartbeat is at most `WORKER_TIMEOUT_SECS` old, by start time.

        Raises:
            LayerError: a layer of this kind keeps no heartbeats.
            LayerUnavailable: the transport is unavailable.

        """

    async def foreign_readers(self) -> int | None:
        """Return how many connections of other programs wait for events; `None` if the layer cannot tell.

        On Redis these are the readers of channels_redis. The server does not tell for which channels they wait: one
        may be a forgotten worker of Channels, or a web process that waits on its private channels.

        Raises:
            LayerUnavailable: the transport is unavailable.

        """
        return None

    @abstractmethod
    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        """Return the state of several channels, in one step for all of them.

        Expired events may be counted until a worker takes from their channel.

        Raises:
            LayerError: a layer of this kind cannot count events.
            LayerUnavailable: the transport is unavailable.

        """

    @abstractmethod
    def peek(self, channel: str) -> AsyncIterator[Delivery]:
        """Yield the events of the channel without taking them: leased, scheduled, then waiting ones, oldest first.

        The layer does not change, and only a batch of events is in memory. Expired events and private channels are
        omitted. Events that do not move meanwhile are yielded once; those that workers take, settle or return may be
        missing or yielded twice. The deliveries cannot be settled.

        Raises:
            LayerError: a layer of this kind cannot show events.
            LayerUnavailable: the transport is unavailable.

        """

    # For operators: deleting events.

    @abstractmethod
    async def purge(self, channel: str) -> Purged:
        """Delete the waiting and scheduled events of a channel, in one step.

        Leased events, dead letters, totals and a pause stay.

        Raises:
            LayerError: the channel is private, or a layer of this kind cannot delete events.
            LayerUnavailable: the transport is unavailable.

        """

    # For operators: dead letters.

    @abstractmethod
    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        """List the dead letters of one channel or of all, oldest first."""

    @abstractmethod
    async def replay(self, id: str) -> None:  # noqa: A002
        """Send a dead letter's event again, with its id, to the end of its channel, and delete the letter, in one step.

        Raises:
            KeyError: the id does not exist.
            ChannelFull: the channel is at its capacity; the letter stays.

        """

    @abstractmethod
    async def drop(self, id: str) -> None:  # noqa: A002
        """Delete a dead letter; raise KeyError if the id does not exist."""

    # Shared by all layers.

    def limits_of(self, channel: str) -> Limits:
        """Return the limits of a channel; raise Channels' TypeError for an invalid name."""
        try:
            return self._cached_limits[channel]
        except (KeyError, TypeError):
            return self._compute_limits(channel)

    def _compute_limits(self, channel: str) -> Limits:
        """Return the limits of a channel, and cache them."""
        self.require_valid_channel_name(channel)
        limits = self._limits.get(channel) or self._limits_by_rule(channel)
        if "!" not in channel and len(self._cached_limits) < _MAX_CACHED:
            self._cached_limits[channel] = limits
        return limits

    def _limits_by_rule(self, channel: str) -> Limits:
        capacity = next((value for pattern, value in self._capacity_patterns if pattern.match(channel)), self.capacity)
        if "!" in channel:
            # A private channel ends with its consumer, so its remaining events are never taken.
            return Limits(capacity, 60.0 if self.expiry is None else self.expiry, 0)
        kept = letters_kept(capacity) if self._default_dead_letters is None else self._default_dead_letters
        return Limits(capacity, self.expiry, kept)

    def _require_purgeable(self, channel: str) -> None:
        """Raise LayerError for a private channel, which may share its queue with others; TypeError for no channel."""
        self.require_valid_channel_name(channel)
        if "!" in channel:
            raise LayerError(self.url, f"cannot purge {quoted(channel)}: it is the private channel of one process")

    def _warn_of_dropped_letters(self, dropped: Mapping[str, int]) -> None:
        """Log the numbers of dropped dead letters, by channel."""
        for channel, count in dropped.items():
            if count:
                self._dropped_letters.record(channel, count, self.limits_of(channel).dead_letters)

    def require_valid_channel_name(self, name: object, receive: bool = False) -> bool:  # noqa: FBT001, FBT002
        """Return True for a valid channel name; raise Channels' TypeError otherwise."""
        if not (isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH and _NAME.fullmatch(name)):
            raise TypeError(f"Channel {_NAME_RULE}")
        if receive and "!" in name and not name.endswith("!"):
            raise TypeError("Specific channel names in receive() must end at the !")
        return True

    def require_valid_group_name(self, name: object) -> bool:
        """Return True for a valid group name; raise Channels' TypeError otherwise."""
        if not (isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH and _GROUP.fullmatch(name)):
            raise TypeError(f"Group {_NAME_RULE}")
        return True

    def require_valid_event(self, event: object) -> None:
        """Raise Channels' AssertionError for an event that is not a dict, or has the reserved key."""
        if not isinstance(event, dict):
            raise AssertionError("message is not a dict")  # noqa: TRY004  (Channels' error)
        if "__asgi_channel__" in event:
            raise AssertionError("the key '__asgi_channel__' is reserved")


def shown_id(raw_id: bytes | int) -> str:
    """Return an event's id as hexadecimal digits; empty if it has none."""
    if isinstance(raw_id, bytes):
        return raw_id.hex()
    return f"{raw_id:016x}" if raw_id else ""


def seconds_until(delay: float | None, at: datetime | None) -> float | None:
    """Return the seconds until an event is due, for arguments of `ChannelLayer.send`; None for now.

    Raises:
        TypeError: both are given, or one has a wrong type.
        ValueError: `delay` is negative, `at` has no time zone, or the delay is longer than 366 days.

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
    """Return a dead letter for a delivery that is given up now; long texts are shortened."""
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
