"""The layer for senders, which validates every event by the contract and then sends it.

This is the only module below the command line that uses both the contract and the transport.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self
from weakref import WeakSet

from channelmap.asgi import Event
from channelmap.contract import Contract, contract_argument
from channelmap.environment import shown
from channelmap.errors import ContractError, LayerError, quoted
from channelmap.layer import ChannelLayer, Counts, DeadLetter, Delivery, Purged, WorkerInfo, current_layer
from channelmap.layers import open_backend, open_layer
from channelmap.limits import Limits
from channelmap.loader import load
from channelmap.loader.files import absolute
from channelmap.observer import Observer, Rejected, Sent, combined, guarded
from channelmap.site import current_site
from channelmap.validation import plain

if TYPE_CHECKING:
    from channelmap.tracing import SendSpan

log = logging.getLogger("channelmap.gate")

_layers: dict[tuple[int, Path], "FileLayer"] = {}
#: All layers of contract files, also those that other modules have made.
_file_layers: "WeakSet[FileLayer]" = WeakSet()
_replacement: "Replacement | None" = None


def get_channel_layer(contract: str | Path | None = None, *, config: str | Path | None = None) -> "ContractLayer":
    """Return the layer to send with; within a process, the same object for the same file.

    If the file does not exist, the layer reads it at first use; that call raises ContractError while the file is
    missing. So a module may create the layer of a file that does not exist yet, or not in every process.

    Args:
        contract: the contract file; `None` for, in this order, the worker's own layer in code that a worker runs,
            the file named by ``$CHANNELMAP_CONFIG``, the file of the site (`CHANNELMAP` in Django's settings), and
            ``channels.yaml`` in the working directory.
        config: the former name of `contract`.

    Raises:
        ContractError: the file exists and is wrong, or its path is relative and the working directory was deleted.
        LayerUnavailable: the layer's URL is invalid, or its driver is not installed.
        TracingUnavailable: the file says `tracing: true`, and OpenTelemetry cannot be imported.
        TypeError: both `contract` and `config` are given.

    """
    chosen = contract_argument("get_channel_layer", contract, config)
    current = current_layer.get()
    if chosen is None and isinstance(current, ContractLayer):
        return current
    if chosen is None and _replacement is not None:
        return _replacement.layer
    path = contract_file(chosen)
    key = (os.getpid(), path.parent.resolve() / path.name)
    layer = _layers.get(key)
    if layer is None:
        # An atomic operation, not a lock: a forked child could inherit the lock while another thread holds it.
        layer = _layers.setdefault(key, FileLayer(path))
    if not layer.is_open:
        try:
            layer.open()
        except ContractError as error:
            if not error.is_missing_file:
                raise
    return layer


def contract_file(chosen: str | Path | None = None) -> Path:
    """Return the absolute path of a contract file; without one, of that which `get_channel_layer` reads."""
    # As in the commands, a symbolic link is not followed: the directory of the link is the root.
    site = current_site()
    return absolute(
        Path(chosen or os.environ.get("CHANNELMAP_CONFIG") or (site.contract() if site else "channels.yaml"))
    )


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def open_contract_layer(contract: Contract, url: str | None = None) -> ChannelLayer:
    """Open the layer that a contract names, or the one at `url`, with the contract's limits.

    In a site, `url` may also be an alias of its settings, and a contract without a layer has that of the settings.
    """
    setting, site = contract.layer, current_site()
    if site is not None and ("://" not in url if url else setting.is_default):
        return site.open_layer(contract, url)
    if url is not None:
        return open_layer(url, limits=contract.limits)
    quotes_errors = not setting.from_environment
    if setting.backend:
        return open_backend(setting.backend, dict(setting.config), quotes_errors=quotes_errors)
    return open_layer(setting.url, quotes_errors=quotes_errors, limits=contract.limits, **setting.options)


class ContractLayer:
    """A channel layer, with Channels' interface, that sends only declared events.

    A channel's `validate` decides about invalid events: `enforce` raises, `warn` logs and sends, `off` does not
    validate. Events for private channels (with a ``!``) and groups are not validated here. The gate validates events
    that a group passes on to a declared channel.

    Args:
        contract: the contract.
        layer: the layer that sends; `None` for that of the contract.
        observe: called with a `Sent` or `Rejected` step for each event for a declared channel; its errors are logged.

    Raises:
        TracingUnavailable: the contract says `tracing: true`, and OpenTelemetry cannot be imported.

    """

    _observe: Observer | None = None
    #: Records the spans of sends; `None` without tracing.
    _send_span: "type[SendSpan] | None"

    def __init__(
        self, contract: Contract, layer: ChannelLayer | None = None, *, observe: Observer | None = None
    ) -> None:
        self._send_span = _send_span_of(contract)
        self.contract = contract
        self.layer = layer or open_contract_layer(contract)
        if observe is not None:
            self.observe(observe)

    def observe(self, observer: Observer) -> None:
        """Call an observer too, from now on; `get_channel_layer().observe(…)` sees what a process sends."""
        self._observe = combined(self._observe, guarded(observer))

    async def send(
        self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None
    ) -> str | None:
        """Validate and send one event, and return its id, or None if the layer has no ids.

        Args:
            channel: the channel's name.
            event: the event.
            delay: seconds after which a worker may take it; it counts towards the channel's capacity at once.
            at: the time for the same, with a time zone; a time in the past means now.

        Raises:
            UnknownChannel: the contract declares no such channel.
            EventRejected: the contract rejects the event.
            ChannelFull: the channel is at its capacity.
            LayerUnavailable: the layer is unavailable.
            TypeError, ValueError: `delay` and `at` are both given, or one of them is not possible.
            LayerError: the layer cannot delay events.

        """
        if self._send_span is None or channel not in self.contract.channels:
            admitted = self._admitted(channel, event)
            event_id = await self.layer.send(channel, admitted, delay=delay, at=at)
        else:
            with self._send_span(self._shown(channel)) as span:
                admitted = span.carry(self._admitted(channel, event))
                event_id = await self.layer.send(channel, admitted, delay=delay, at=at)
                span.sent(event_id)
        if self._observe is not None:
            self._tell_sent(channel, [admitted], [event_id])
        return event_id

    def send_sync(
        self, channel: str, event: Event, *, delay: float | None = None, at: datetime | None = None
    ) -> str | None:
        """Send as `send` does, from code that runs in no event loop: faster than `async_to_sync(send)`."""
        if self._send_span is None or channel not in self.contract.channels:
            admitted = self._admitted(channel, event)
            event_id = self.layer.send_sync(channel, admitted, delay=delay, at=at)
        else:
            with self._send_span(self._shown(channel)) as span:
                admitted = span.carry(self._admitted(channel, event))
                event_id = self.layer.send_sync(channel, admitted, delay=delay, at=at)
                span.sent(event_id)
        if self._observe is not None:
            self._tell_sent(channel, [admitted], [event_id])
        return event_id

    async def send_many(
        self, channel: str, events: Sequence[Event], *, delay: float | None = None, at: datetime | None = None
    ) -> list[str] | None:
        """Validate all events, then send all in one step, and return their ids; on an error none was sent."""
        if self._send_span is None or channel not in self.contract.channels:
            admitted = [self._admitted(channel, event) for event in events]
            ids = await self.layer.send_many(channel, admitted, delay=delay, at=at)
        else:
            events = list(events)
            with self._send_span(self._shown(channel), batch=len(events)) as span:
                admitted = [span.carry(self._admitted(channel, event)) for event in events]
                ids = await self.layer.send_many(channel, admitted, delay=delay, at=at)
        if self._observe is not None:
            self._tell_sent(channel, admitted, ids or [None] * len(admitted))
        return ids

    def send_on_commit(
        self,
        channel: str,
        event: Event,
        *,
        using: str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> None:
        """Validate an event now, and send it once Django's database transaction has been committed.

        Outside of a transaction it is sent at once; after a rollback it is not sent. Later changes of the event have
        no effect. In async code, call it like the database: `await sync_to_async(layer.send_on_commit)(…)`.

        Args:
            channel: the channel's name.
            event: the event.
            using: the alias of the database; `None` for the default one.
            delay: as for `send`, counted from the commit.
            at: as for `send`.

        Raises:
            RuntimeError: called in an event loop, where no transaction can be open.
            UnknownChannel, EventRejected: as for `send`.
            LayerError: as for `send`, when the event is sent; after a commit, it is logged as well.

        """
        from django.db import transaction

        if _is_in_event_loop():
            raise RuntimeError(
                "send_on_commit() was called in an event loop, where no transaction is open; "
                "write await sync_to_async(layer.send_on_commit)(channel, event)"
            )
        copied = deepcopy(self._admitted(channel, event))

        def send() -> None:
            try:
                self.send_sync(channel, copied, delay=delay, at=at)
            except LayerError as error:
                event_type = quoted(copied.get("type"))
                log.error("channel %s: an event %s was not sent after a commit: %s", quoted(channel), event_type, error)  # noqa: TRY400
                raise

        transaction.on_commit(send, using=using)

    async def group_send(self, group: str, event: Event) -> None:
        """Send an event, without validation, to every channel of the group; skip full channels."""
        await self.layer.group_send(group, self._unvalidated(event))

    def _admitted(self, channel: str, event: Event) -> Event:
        """Validate an event; return the event to send, or a copy with plain values."""
        declared = self.contract.channels.get(channel)
        if declared is None:
            if not isinstance(channel, str):
                raise TypeError(f"channel: expected the name of a channel (str), got {type(channel).__name__}")
            if "!" in channel:
                return self._unvalidated(event)
            declared = self.contract.channel(channel)
        if declared.validate == "off":
            return self._unvalidated(event)
        admitted, rejected = declared.admit(event)
        if rejected is not None:
            if declared.validate == "enforce":
                if self._observe is not None:
                    self._observe(Rejected(channel, rejected.type or "", "", 0, rejected.code, "sender"))
                raise rejected
            log.warning("%s; sent all the same (validate: warn)", rejected)
        return admitted

    def _shown(self, channel: str) -> str:
        """Return the name of a declared channel as spans show it."""
        return shown(self.contract.channels[channel].name)

    def _tell_sent(self, channel: str, events: Sequence[Event], ids: Sequence[str | None]) -> None:
        if self._observe is not None and channel in self.contract.channels:
            for event, event_id in zip(events, ids, strict=True):
                event_type = event.get("type")
                self._observe(Sent(channel, event_type if isinstance(event_type, str) else "", event_id or "", 0))

    def _unvalidated(self, event: Event) -> Event:
        """Return an event to send without validation, with plain values if the layer keeps objects."""
        return plain(event) if self.layer.keeps_objects else event

    # The rest of Channels' interface.

    @property
    def extensions(self) -> list[str]:
        """The optional parts of Channels' interface that the layer has."""
        return self.layer.extensions

    @property
    def capacity(self) -> int:
        """Events that may wait on a channel that the contract does not declare."""
        return self.layer.capacity

    @property
    def expiry(self) -> float | None:
        """Seconds after which an event on a channel that the contract does not declare is dropped; `None` for never."""
        return self.layer.expiry

    @property
    def group_expiry(self) -> float:
        """Seconds after which a channel leaves a group."""
        return self.layer.group_expiry

    @property
    def MAX_NAME_LENGTH(self) -> int:  # noqa: N802  (Channels' name)
        """Names of channels and groups are shorter than this."""
        return self.layer.MAX_NAME_LENGTH

    async def receive(self, channel: str) -> Event:
        """Wait for the next event and take it for good."""
        return await self.layer.receive(channel)

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return the name of a new private channel."""
        return await self.layer.new_channel(prefix)

    async def group_add(self, group: str, channel: str) -> None:
        """Add the channel to the group, for `group_expiry` seconds."""
        await self.layer.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove the channel from the group, if it is in it."""
        await self.layer.group_discard(group, channel)

    async def flush(self) -> None:
        """Delete everything in the layer: events, groups, dead letters, heartbeats and totals."""
        await self.layer.flush()

    async def close(self) -> None:
        """Close the layer's connections. A later call opens them again."""
        await self.layer.close()

    def require_valid_channel_name(self, name: object, receive: bool = False) -> bool:  # noqa: FBT001, FBT002
        """Return True for a valid channel name; raise TypeError for any other."""
        return self.layer.require_valid_channel_name(name, receive)

    def require_valid_group_name(self, name: object) -> bool:
        """Return True for a valid group name; raise TypeError for any other."""
        return self.layer.require_valid_group_name(name)

    def require_valid_event(self, event: object) -> None:
        """Raise AssertionError, as Channels does, for an event that is not a dict or has the reserved key."""
        self.layer.require_valid_event(event)

    # For operators.

    @property
    def url(self) -> str:
        """The layer's name in messages and logs, without a password."""
        return self.layer.url

    async def waiting(self, channel: str) -> int | None:
        """Count the events that wait on the channel; `None` if the layer cannot count them."""
        return await self.layer.waiting(channel)

    async def pause(self, channel: str) -> None:
        """Stop workers from taking events of the channel, within two seconds, until it is resumed; sends continue.

        Raises:
            LayerError: the layer cannot pause channels.
            LayerUnavailable: the layer is unavailable.

        """
        await self.layer.pause(channel)

    async def resume(self, channel: str) -> None:
        """End a pause."""
        await self.layer.resume(channel)

    async def is_paused(self, channel: str) -> bool:
        """Return whether the channel is paused."""
        return await self.layer.is_paused(channel)

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        """Return the state of several channels; see `ChannelLayer.counts`."""
        return await self.layer.counts(channels)

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers that are alive, by start time; see `ChannelLayer.workers`."""
        return await self.layer.workers()

    async def foreign_readers(self) -> int | None:
        """Return how many connections of other programs wait for events; see `ChannelLayer.foreign_readers`."""
        return await self.layer.foreign_readers()

    async def purge(self, channel: str) -> Purged:
        """Delete the waiting and scheduled events of a channel; see `ChannelLayer.purge`."""
        return await self.layer.purge(channel)

    def peek(self, channel: str) -> AsyncIterator[Delivery]:
        """Yield the events on the channel without taking them; see `ChannelLayer.peek`."""
        return self.layer.peek(channel)

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        """List the dead letters of one channel or of all, oldest first."""
        return await self.layer.dead_letters(channel)

    async def replay(self, id: str) -> None:  # noqa: A002
        """Send a dead letter's event again, unvalidated, and delete the letter; KeyError if it does not exist."""
        await self.layer.replay(id)

    async def drop(self, id: str) -> None:  # noqa: A002
        """Delete a dead letter; KeyError if it does not exist."""
        await self.layer.drop(id)

    # For workers; `ChannelLayer` describes each method.

    @property
    def has_leases(self) -> bool:
        """Whether `take` can lease, which at-least-once needs."""
        return self.layer.has_leases

    @property
    def has_heartbeats(self) -> bool:
        """Whether the layer keeps heartbeats and counts."""
        return self.layer.has_heartbeats

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        """Take up to `limit` events, oldest first; wait for the first one."""
        return await self.layer.take(channel, limit, lease=lease, wait=wait)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Delete handled deliveries from the layer."""
        await self.layer.settle(deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return unstarted deliveries to the front of their channels."""
        await self.layer.give_back(deliveries)

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Deliver a leased event again after `delay` seconds."""
        await self.layer.retry(delivery, delay)

    async def begin(self, delivery: Delivery) -> bool:
        """See `ChannelLayer`."""
        return await self.layer.begin(delivery)

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        """Extend leases to `lease` seconds from now."""
        await self.layer.renew(deliveries, lease)

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Settle the delivery and keep its dead letter."""
        await self.layer.bury(delivery, letter)

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        """Settle deliveries and keep their dead letters."""
        await self.layer.bury_many(buried)

    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        """Record that a worker is alive, and add to the totals of channels."""
        await self.layer.heartbeat(worker, totals, number, last=last)

    def limits_of(self, channel: str) -> Limits:
        """Return capacity, expiry and number of dead letters of a channel."""
        return self.layer.limits_of(channel)

    # A copy would share the connections, so copying returns the same object.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle a channel layer: its connections belong to this process; "
            "call channelmap.get_channel_layer() in the other process instead"
        )


def _send_span_of(contract: Contract) -> "type[SendSpan] | None":
    """Return the class of the spans of sends if the contract wants them; only then is OpenTelemetry imported."""
    if not contract.tracing:
        return None
    from channelmap.tracing import SendSpan

    return SendSpan


#: The attributes that `FileLayer.open` sets.
_OPENED = ("contract", "layer", "_send_span")


class FileLayer(ContractLayer):
    """The layer of a contract file, which is read by `open` or at first use.

    Args:
        path: the file.

    """

    def __init__(self, path: Path) -> None:
        self.is_open = False
        self._path = path
        self._loaded: dict[str, tuple[Contract, ChannelLayer, type[SendSpan] | None]] = {}
        _file_layers.add(self)

    def open(self) -> None:
        """Read the file and create its layer, unless done before.

        Raises:
            ContractError: the file is missing or wrong.
            LayerUnavailable: the layer's URL is invalid, or its driver is not installed.
            TracingUnavailable: the file says `tracing: true`, and OpenTelemetry cannot be imported.

        """
        if _replacement is not None:
            self.contract, self.layer = _replacement.open(self._path)
            self._send_span = _send_span_of(self.contract)
            self.is_open = True
            return
        if not self._loaded:
            # No lock, as in `get_channel_layer`: simultaneous threads all read the file, and the first result is kept.
            contract = load(self._path)
            send_span = _send_span_of(contract)
            self._loaded.setdefault("first", (contract, self._open_layer(contract), send_span))
        self.contract, self.layer, self._send_span = self._loaded["first"]
        self.is_open = True

    def forget(self) -> None:
        """Have the next use call `open` again."""
        self.is_open = False
        for name in _OPENED:
            self.__dict__.pop(name, None)

    def _open_layer(self, contract: Contract) -> ChannelLayer:
        return open_contract_layer(contract)

    async def close(self) -> None:
        """Close the layer's connections; do nothing if the layer was never used."""
        if self.is_open:
            await super().close()

    if not TYPE_CHECKING:  # A misspelt method must not pass a type checker.

        def __getattr__(self, name: str) -> Any:
            # Called only for unset attributes, so never again once the file was read.
            if name in _OPENED:
                self.open()
            return object.__getattribute__(self, name)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a test uses in place of the layers of contract files.

    Attributes:
        layer: the layer that `get_channel_layer` returns if no file is named.
        open: returns what a `FileLayer` uses in place of the contract and the layer of its file.

    """

    layer: ContractLayer
    open: Callable[[Path], tuple[Contract, ChannelLayer]]


def replace_layers(replacement: Replacement | None) -> Replacement | None:
    """Replace the layers of contract files in this process, also those in use; return the previous replacement.

    With `None` they are used again, with the connections that they had.
    """
    global _replacement  # a process has one test at a time
    previous, _replacement = _replacement, replacement
    for layer in [*_file_layers]:
        layer.forget()
    return previous
