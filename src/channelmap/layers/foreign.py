"""An adapter from Django Channels' layer interface to that of `ChannelLayer`, as far as possible.

A Channels layer delivers events one by one and without leases. So returned events go to the end of the channel, and
dead letters are logged instead of stored.
"""
# ruff: noqa: ARG002, D102  (`ChannelLayer` says what each method promises)

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from channelmap.asgi import Event
from channelmap.errors import ChannelFull, ChannelUnsupported, LayerError, LayerUnavailable, quoted
from channelmap.layer import ChannelLayer, Counts, DeadLetter, Delivery, Purged, WorkerInfo, seconds_until
from channelmap.layers.ids import new_id
from channelmap.layers.naming import in_words

_log = logging.getLogger("channelmap.layers.foreign")

#: Seconds that a take with `wait=False` waits for the inner layer.
NO_WAIT_SECS = 0.05
#: A `receive` that times out sooner than this many seconds was not waiting for an event.
MIN_WAIT_SECS = 1.0
_OWN_LAYERS = "name sqlite:///… or redis://… as the layer"
#: Errors of a layer for a wrong or unsupported call, for which a retry is useless.
_MISTAKES = (TypeError, ValueError, AssertionError, NotImplementedError)


class ForeignChannelLayer(ChannelLayer):
    """A layer around a Channels layer, whose own rules for capacity, expiry and names apply.

    The constructor reads no attribute of the layer, because some layers have them only inside a running event loop.

    - `take` returns one event. With `wait=False` it waits for 50 ms, since only `receive` shows whether there is one.
      Cancelling it cancels the inner `receive`, which may lose an event.
    - `send_many` sends one by one: events sent before an error stay sent.
    - `give_back` puts events to the end.
    - Leases, retries, `peek`, counts, heartbeats, `purge` and the list of dead letters are not supported: LayerError.
    - `bury` logs the letter at ERROR, without the event.

    Args:
        inner: the Channels layer.
        quotes_errors: whether a message may quote the text of the layer's errors.

    """

    has_leases = False
    has_heartbeats = False
    keeps_objects = True

    def __init__(self, inner: Any, *, quotes_errors: bool = True) -> None:
        super().__init__()
        self.inner = inner
        self._quotes_errors = quotes_errors
        self._has_warned_of_timeout = False
        #: Channels from which `take` has received an event, or has waited for one without an error.
        self._supported: set[str] = set()
        self.url = f"{type(inner).__module__}.{type(inner).__qualname__}"

    async def send(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> None:
        if seconds_until(delay, at) is not None:
            raise self._unsupported("delay events", _OWN_LAYERS)
        with self._translated(channel):
            await self.inner.send(channel, event)

    def send_sync(self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None) -> None:
        asyncio.run(self.send(channel, event, delay=delay, at=at))

    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> None:
        for sent, event in enumerate(events):
            try:
                await self.send(channel, event, delay=delay, at=at)
            except ChannelFull as error:
                raise ChannelFull(self.url, channel, error.capacity, len(events) - sent, sent) from error

    async def receive(self, channel: str) -> Event:
        with self._translated(channel):
            while True:
                began = time.monotonic()
                try:
                    event: Event = await self.inner.receive(channel)
                except Exception as error:
                    waited = time.monotonic() - began >= MIN_WAIT_SECS
                    if not (
                        waited and _has_class_named("TimeoutError", error) and hasattr(self.inner, "group_discard")
                    ):
                        raise
                    # If the server is down, this raises; otherwise the client ended the wait.
                    await self.inner.group_discard("channelmap.probe", "channelmap.probe")
                    self._warn_of_timeout(error)
                else:
                    return event

    def _warn_of_timeout(self, error: Exception) -> None:
        """Warn, once, that the layer's client times out while it waits."""
        if not self._has_warned_of_timeout:
            self._has_warned_of_timeout = True
            _log.warning(
                "%s: its client times out while a channel is empty (%s); an event sent at that moment may be lost. "
                "redis-py 8 does so after 5 s: set `socket_timeout` of each host to more than that, or use the backend "
                "channelmap.layers.redis.RedisChannelLayer",
                self.url,
                in_words(error, quotes_errors=self._quotes_errors),
            )

    async def new_channel(self, prefix: str = "specific.") -> str:
        with self._translated(prefix):
            return str(await self.inner.new_channel(prefix))

    async def group_add(self, group: str, channel: str) -> None:
        with self._translated(channel):
            await self.inner.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        with self._translated(channel):
            await self.inner.group_discard(group, channel)

    async def group_send(self, group: str, event: Event) -> None:
        with self._translated(group):
            await self.inner.group_send(group, event)

    async def flush(self) -> None:
        with self._translated(""):
            await self.inner.flush()

    async def close(self) -> None:
        if hasattr(self.inner, "close"):
            await self.inner.close()

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        if lease is not None:
            raise self._unsupported("lease events", "serve its channels at-most-once")
        receive = self.receive if channel in self._supported else self._receive_first
        try:
            event = await asyncio.wait_for(receive(channel), None if wait else NO_WAIT_SECS)
        except TimeoutError:
            self._supported.add(channel)
            return []
        self._supported.add(channel)
        return [Delivery(channel, event, b"", time.time(), raw_id=new_id())]

    async def _receive_first(self, channel: str) -> Event:
        """Receive the first event of a channel; raise ChannelUnsupported if the layer fails twice.

        A single failure may come from an unreadable event, which is gone afterwards.
        """
        try:
            return await self.receive(channel)
        except _MISTAKES:
            pass
        try:
            return await self.receive(channel)
        except _MISTAKES as error:
            said = in_words(error, quotes_errors=self._quotes_errors)
            reason = (
                f"cannot serve channel {quoted(channel)}: receiving from it raised {said}; use a layer that supports it"
            )
            raise ChannelUnsupported(self.url, reason) from (error if self._quotes_errors else None)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Do nothing: taken events have left the layer."""

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            await self.send(delivery.channel, delivery.event or {})

    async def begin(self, delivery: Delivery) -> bool:
        raise self._unsupported("lease events", "serve its channels at-most-once")

    async def retry(self, delivery: Delivery, delay: float) -> None:
        raise self._unsupported("retry events", "serve its channels at-most-once")

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        raise self._unsupported("lease events", "serve its channels at-most-once")

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        _log.error(
            "dead letter, not kept: channel=%s code=%s reason=%s violations=%s",
            letter.channel,
            letter.code,
            letter.reason,
            "; ".join(letter.violations),
        )

    async def pause(self, channel: str) -> None:
        raise self._unsupported("pause a channel", _OWN_LAYERS)

    async def resume(self, channel: str) -> None:
        raise self._unsupported("pause a channel", _OWN_LAYERS)

    async def is_paused(self, channel: str) -> bool:
        return False

    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        raise self._unsupported("keep heartbeats", _OWN_LAYERS)

    async def workers(self) -> list[WorkerInfo]:
        raise self._unsupported("keep heartbeats", _OWN_LAYERS)

    async def purge(self, channel: str) -> Purged:
        raise self._unsupported("delete the events of a channel", _OWN_LAYERS)

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        raise self._unsupported("count events", _OWN_LAYERS)

    async def waiting(self, channel: str) -> int | None:
        return None

    def peek(self, channel: str) -> AsyncIterator[Delivery]:
        raise self._unsupported("show waiting events", "it only delivers them")

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        raise self._unsupported("keep dead letters", "they are in the log")

    async def replay(self, id: str) -> None:  # noqa: A002
        raise self._unsupported("keep dead letters", "they are in the log")

    async def drop(self, id: str) -> None:  # noqa: A002
        raise self._unsupported("keep dead letters", "they are in the log")

    def _unsupported(self, what: str, hint: str) -> LayerError:
        return LayerError(self.url, f"a Channels layer cannot {what}; {hint}")

    @contextmanager
    def _translated(self, channel: str) -> Iterator[None]:
        try:
            yield
        except _MISTAKES:
            raise  # the call was wrong
        except Exception as error:
            if _has_class_named("ChannelFull", error):
                capacity = getattr(self.inner, "capacity", self.capacity)
                raise ChannelFull(self.url, channel, capacity) from error
            reason = in_words(error, quotes_errors=self._quotes_errors)
            raise LayerUnavailable(self.url, reason) from (error if self._quotes_errors else None)


def _has_class_named(name: str, error: Exception) -> bool:
    """Return whether an error has a class of that name; by name, because the library may not be installed."""
    return any(kind.__name__ == name for kind in type(error).__mro__)
