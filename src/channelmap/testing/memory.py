"""The layer of a test: it replaces those of contract files in the whole process, and shows what was sent."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from channelmap.asgi import Event
from channelmap.contract import Contract
from channelmap.handling import current_holder
from channelmap.layer import Delivery
from channelmap.layers.memory import MemoryChannelLayer, to_delivery
from channelmap.loader import load
from channelmap.sending import ContractLayer, Replacement, contract_file, replace_layers

#: The innermost layer of `memory_layer` comes last.
_current: list["TestLayer"] = []


class SentEvent(dict[str, Any]):
    """A sent event: a dict, so it equals the dict that was sent, with what the layer knows about it.

    Attributes:
        channel: the channel's name.
        id: the event's id, as `send` returned it.
        attempt: number of the attempt, from 1; above 1 for an event that is retried.
        due: time at which a scheduled event is due, in UTC; `None` for an event that waits.

    """

    __slots__ = ("attempt", "channel", "due", "id")

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.event or {})
        self.channel = delivery.channel
        self.id = delivery.id
        self.attempt = delivery.attempt
        self.due = None if delivery.due is None else datetime.fromtimestamp(delivery.due, UTC)


@runtime_checkable
class PrivateReader(Protocol):
    """An instance of a consumer, for which the layer notes what it does with its private channel.

    Attributes:
        private_channel: the name of the channel; empty before the instance has one.
        listens: it waits for the next event of the channel.
        handles_private: it has taken an event of the channel, and not yet asked for the next one.

    """

    private_channel: str
    listens: bool
    handles_private: bool


class TestMemory(MemoryChannelLayer):
    """Events in memory, for one test."""

    __test__ = False  # for pytest, which collects classes by their names

    def sent(self, channels: Iterable[str]) -> list[SentEvent]:
        """Return the events that wait, in the order of their sends, and then the scheduled ones."""
        with self._lock:
            waiting = sorted(
                (item.since, item.id, to_delivery(name, item))
                for name in channels
                for item in self._unexpired(name, self.limits_of(name).expiry)
            )
            scheduled = sorted(
                (
                    one.due,
                    one.number,
                    replace(to_delivery(name, one.item), due=one.due + time.time() - time.monotonic()),
                )
                for name in channels
                for one in self._scheduled.get(name, ())
            )
        return [SentEvent(delivery) for *_, delivery in [*waiting, *scheduled]]

    def next_channel(self, channels: Iterable[str]) -> str | None:
        """Return the channel whose next event was sent or due first; `None` if a worker would find no event."""
        heads: list[tuple[float, int, str]] = []
        with self._lock:
            now = time.monotonic()
            for name in channels:
                self._expire(name)
                if name not in self._paused:
                    heads += [(item.since, item.id, name) for item in [*self._queues.get(name, ())][:1]]
                    heads += [
                        (one.due, one.item.id, name) for one in self._scheduled.get(name, ())[:1] if one.due <= now
                    ]
        return min(heads)[2] if heads else None

    def release_scheduled(self, channels: Iterable[str]) -> None:
        """Make all scheduled events due now; retried ones come first, as in a worker."""
        with self._lock:
            for name in channels:
                retried = self._remove_due(name, len(self._scheduled.get(name, ())), math.inf)
                if retried:
                    self._queues.setdefault(name, deque()).extendleft(reversed(retried))

    def has_private_event(self, channel: str) -> bool:
        """Return whether an event waits on a private channel."""
        return bool(self._queues.get(channel))

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return a new unique channel name; the first one of an instance is that of its private channel."""
        name = await super().new_channel(prefix)
        reader = current_holder.get()
        if isinstance(reader, PrivateReader) and not reader.private_channel:
            reader.private_channel = name
        return name

    async def receive(self, channel: str) -> Event:
        """Wait for the next event."""
        reader = current_holder.get()
        if not isinstance(reader, PrivateReader) or reader.private_channel != channel:
            return await super().receive(channel)
        reader.listens, reader.handles_private = True, False
        try:
            event = await super().receive(channel)
            reader.handles_private = True
        finally:
            reader.listens = False
        return event


class TestLayer(ContractLayer):
    """The layer that `memory_layer` puts in place of the layers of contract files."""

    __test__ = False
    layer: TestMemory

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, TestMemory(limits=contract.limits))


@contextmanager
def memory_layer(contract: str | Path | Contract | None = None) -> Iterator[TestLayer]:
    """Use a layer in memory, in this whole process, until the context ends; also in layers that are in use already.

    `get_channel_layer()` returns it, in sync and async code and in all threads. The layer that the contract names is
    not opened. Layers of other contract files keep their events in memory, too, each in its own.

    Args:
        contract: the contract, or its file; `None` for the file that `get_channel_layer` reads.

    Yields:
        The layer.

    Raises:
        ContractError: the file is missing or wrong.
        TracingUnavailable: the contract says `tracing: true`, and OpenTelemetry cannot be imported.

    """
    loaded = contract if isinstance(contract, Contract) else load(contract_file(contract))
    layer = TestLayer(loaded)
    own = {contract_file(), contract_path(loaded)}
    others: dict[Path, tuple[Contract, TestMemory]] = {}

    def open_other(path: Path) -> tuple[Contract, TestMemory]:
        if path in own:
            return layer.contract, layer.layer
        if path not in others:
            other = load(path)
            others[path] = other, TestMemory(limits=other.limits)
        return others[path]

    previous = replace_layers(Replacement(layer, open_other))
    _current.append(layer)
    try:
        yield layer
    finally:
        _current.remove(layer)
        replace_layers(previous)


def sent_events(channel: str | None = None) -> list[SentEvent]:
    """Return the events that were sent and not yet handled, of all channels or of one.

    They are in the order of their sends; those that were sent with a delay, or are retried, follow in the order in
    which they are due. Each equals the dict that was sent, and has `channel`, `id`, `attempt` and `due`.

    Args:
        channel: the channel's name; `None` for all channels of the contract.

    Raises:
        UnknownChannel: the contract declares no such channel.
        RuntimeError: there is no layer in memory.

    """
    layer = current_test_layer("sent_events")
    return layer.layer.sent(names_of(layer.contract, channel))


def contract_path(contract: Contract) -> Path:
    """Return the absolute path of a loaded contract."""
    return contract.root / Path(contract.path).name


def names_of(contract: Contract, channel: str | None) -> Sequence[str]:
    """Return the name of one channel, or of all; raise UnknownChannel if it is not declared."""
    return [one.name for one in contract.chosen([] if channel is None else [channel])]


def current_contract() -> Contract | None:
    """Return the contract of the running test; `None` without a layer in memory."""
    return _current[-1].contract if _current else None


def current_test_layer(function: str) -> TestLayer:
    """Return the layer of the running test, for a public function; raise RuntimeError if there is none."""
    if not _current:
        raise RuntimeError(
            f"{function}() needs a layer in memory: use the fixture 'channelmap_layer', MemoryLayerMixin, "
            "or 'with memory_layer():'"
        )
    return _current[-1]
