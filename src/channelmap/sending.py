"""The layer that a sender holds: it judges every event by the contract, then sends it.

The one place, below the command line, at which the two halves meet.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from channelmap.asgi import Event
from channelmap.contract import Contract
from channelmap.layer import ChannelLayer, current_layer
from channelmap.layers import open_backend, open_layer
from channelmap.loader import load
from channelmap.validation import plain

log = logging.getLogger("channelmap.gate")

_opened: dict[tuple[int, Path], "ContractLayer"] = {}


def get_channel_layer(config: str | Path | None = None) -> "ContractLayer":
    """Return the layer to send with; the same one for the same file, in each process.

    Args:
        config: the contract file; `None` for, in this order, the worker's own layer in code that a worker runs,
            the file named by ``$CHANNELMAP_CONFIG``, and ``channels.yaml`` in the working directory.

    Raises:
        ContractError: the file is missing or wrong.
        LayerUnavailable: the layer's URL is none, or its driver is not installed.

    """
    current = current_layer.get()
    if config is None and isinstance(current, ContractLayer):
        return current
    # A symbolic link is not followed, as by the commands: its directory is the root, and has the database.
    path = Path(config or os.environ.get("CHANNELMAP_CONFIG") or "channels.yaml").absolute()
    key = (os.getpid(), path.parent.resolve() / path.name)
    if key not in _opened:
        _opened[key] = ContractLayer(load(path))
    return _opened[key]


def open_contract_layer(contract: Contract, url: str | None = None) -> ChannelLayer:
    """Open the layer that a contract names, or the one at `url`, with the contract's limits."""
    setting = contract.layer
    if url is not None:
        return open_layer(url, limits=contract.limits)
    quotes_errors = not setting.from_environment
    if setting.backend:
        return open_backend(setting.backend, dict(setting.config), quotes_errors=quotes_errors)
    return open_layer(setting.url, quotes_errors=quotes_errors, limits=contract.limits, **setting.options)


class ContractLayer:
    """A channel layer, with Channels' interface, that sends only what the contract declares.

    A channel's `validate` says what a bad verdict means: `enforce` raises, `warn` logs and sends, `off` does not
    judge. Private channels (with a ``!``) and groups are not the contract's: what is sent there is not judged
    here; what a group passes on to a declared channel is judged by the gate.

    Args:
        contract: what may be sent.
        layer: what sends it; `None` for the one that the contract names.

    """

    def __init__(self, contract: Contract, layer: ChannelLayer | None = None) -> None:
        self.contract = contract
        self.layer = layer or open_contract_layer(contract)

    async def send(self, channel: str, event: Event) -> None:
        """Judge one event and send it.

        Raises:
            UnknownChannel: the contract declares no such channel.
            EventRejected: the event is not one that the channel takes.
            ChannelFull: the channel is at its capacity.
            LayerUnavailable: the layer is away.

        """
        await self.layer.send(channel, self._admitted(channel, event))

    def send_sync(self, channel: str, event: Event) -> None:
        """Judge one event and send it, from code that runs in no event loop: faster than `async_to_sync(send)`."""
        self.layer.send_sync(channel, self._admitted(channel, event))

    async def send_many(self, channel: str, events: Sequence[Event]) -> None:
        """Judge all events, then send all of them in one step; on an error none of them was sent."""
        await self.layer.send_many(channel, [self._admitted(channel, event) for event in events])

    async def group_send(self, group: str, event: Event) -> None:
        """Send an event, which is not judged here, to every channel of the group; a full channel is skipped."""
        await self.layer.group_send(group, self._unjudged(event))

    def _admitted(self, channel: str, event: Event) -> Event:
        """Judge an event and return what is to be sent: the event, or a copy of plain values."""
        declared = self.contract.channels.get(channel)
        if declared is None:
            if not isinstance(channel, str):
                raise TypeError(f"channel: expected the name of a channel (str), got {type(channel).__name__}")
            if "!" in channel:
                return self._unjudged(event)
            declared = self.contract.channel(channel)
        if declared.validate == "off":
            return self._unjudged(event)
        admitted, rejected = declared.admit(event)
        if rejected is not None:
            if declared.validate == "enforce":
                raise rejected
            log.warning("%s; sent all the same (validate: warn)", rejected)
        return admitted

    def _unjudged(self, event: Event) -> Event:
        """Return an event that is sent without a verdict, as plain values where the layer keeps objects."""
        return plain(event) if self.layer.keeps_objects else event

    def __getattr__(self, name: str) -> Any:
        # Receiving, private channels, members of groups, flush and close are the layer's own.
        return getattr(self.layer, name)
