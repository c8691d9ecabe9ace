"""Routers, with Channels' names, and the router of a contract, which has each consumer behind its gate.

All of these are ASGI applications around other ones, so they run under any worker, including Channels' own.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from channelmap.asgi import Application, Receive, Scope, Send
from channelmap.contract import Contract, contract_argument
from channelmap.gate import Gate
from channelmap.imports import import_dotted
from channelmap.loader import load
from channelmap.threads import in_own_thread


class ProtocolTypeRouter:
    """Call the application for the protocol of a connection, `scope["type"]`.

    Args:
        application_mapping: ASGI applications by protocol, such as ``{"channel": ChannelNameRouter(…)}``.

    """

    def __init__(self, application_mapping: Mapping[str, Application]) -> None:
        self.application_mapping = application_mapping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application; raise Channels' ValueError if the protocol has none."""
        if scope["type"] not in self.application_mapping:
            raise ValueError(f"No application configured for scope type {scope['type']!r}")
        return await self.application_mapping[scope["type"]](scope, receive, send)


class ChannelNameRouter:
    """Call the application for a channel, `scope["channel"]`.

    Args:
        application_mapping: ASGI applications by channel name; `load_router` creates them, each behind its gate.

    """

    def __init__(self, application_mapping: Mapping[str, Application]) -> None:
        self.application_mapping = application_mapping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application; raise Channels' ValueError if the channel has none."""
        if "channel" not in scope:
            raise ValueError(
                "ChannelNameRouter got a scope without a 'channel' key. "
                "Did you make sure it's only being used for 'channel' type messages?"
            )
        if scope["channel"] not in self.application_mapping:
            raise ValueError(f"No application configured for channel name {scope['channel']!r}")
        return await self.application_mapping[scope["channel"]](scope, receive, send)


def load_router(
    contract: str | Path | Contract | None = None,
    channels: Iterable[str] = (),
    *,
    config: str | Path | Contract | None = None,
) -> ChannelNameRouter:
    """Import the consumers of a contract, and return a router that has each of them behind its gate.

    Args:
        contract: the contract file, or a loaded contract; `None` for ``channels.yaml`` in the working directory.
        channels: the channels to include; all channels if empty.
        config: the former name of `contract`.

    Raises:
        ContractError: the file is wrong.
        UnknownChannel: one of `channels` is not declared.
        ImportProblem: a consumer cannot be imported.
        TracingUnavailable: the contract says `tracing: true`, and OpenTelemetry cannot be imported.
        TypeError: both `contract` and `config` are given.

    """
    source = contract_argument("load_router", contract, config)
    loaded = source if isinstance(source, Contract) else load("channels.yaml" if source is None else source)
    chosen = loaded.chosen(channels)
    return ChannelNameRouter(
        {channel.name: Gate(channel, application_of(channel.consumer), tracing=loaded.tracing) for channel in chosen}
    )


def application_of(consumer: str) -> Application:
    """Import a consumer by its dotted path; return the ASGI application of a class with `as_asgi()`."""
    found = import_dotted(consumer)
    if not (isinstance(found, type) and hasattr(found, "as_asgi")):
        return cast("Application", found)
    application: Application = found.as_asgi()
    channels: Any = sys.modules.get("channels.consumer")
    return in_own_thread(application) if channels and issubclass(found, channels.SyncConsumer) else application
