"""Routers, with Channels' names, and the gate, which rejects undeclared events.

All of these are ASGI applications around other ones, so they run under any worker, including Channels' own.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, Send, forward
from channelmap.contract import Channel, Contract, contract_argument
from channelmap.errors import EventRejected
from channelmap.imports import import_dotted
from channelmap.loader import load
from channelmap.threads import in_own_thread

log = logging.getLogger("channelmap.gate")


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
        TypeError: both `contract` and `config` are given.

    """
    source = contract_argument("load_router", contract, config)
    loaded = source if isinstance(source, Contract) else load("channels.yaml" if source is None else source)
    chosen = loaded.chosen(channels)
    return ChannelNameRouter({channel.name: Gate(channel, application_of(channel.consumer)) for channel in chosen})


def application_of(consumer: str) -> Application:
    """Import a consumer by its dotted path; return the ASGI application of a class with `as_asgi()`."""
    found = import_dotted(consumer)
    if not (isinstance(found, type) and hasattr(found, "as_asgi")):
        return cast("Application", found)
    application: Application = found.as_asgi()
    channels: Any = sys.modules.get("channels.consumer")
    return in_own_thread(application) if channels and issubclass(found, channels.SyncConsumer) else application


class Gate:
    """An ASGI application that passes on to another one only the events that the channel declares.

    It wraps `receive`. It sends rejected events back to a server that announces ``channel.reject`` in
    ``scope["extensions"]``. Otherwise it logs code, channel, type and paths, never the payload.

    Args:
        channel: the channel; its `validate` decides whether invalid events are rejected, logged or not checked.
        application: the inner application; its scope lacks the extension.

    """

    def __init__(self, channel: Channel, application: Application) -> None:
        self.channel = channel
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application behind the gate."""
        reports_rejections = "channel.reject" in scope.get("extensions", {})
        scope = {key: value for key, value in scope.items() if key != "extensions"}
        if self.channel.validate == "warn":
            receive = _warning_receive(self.channel, receive)
        elif self.channel.validate == "enforce":
            receive = _enforcing_receive(self.channel, receive, send if reports_rejections else _log_rejection)
        return await self.application(scope, receive, send)


def _enforcing_receive(channel: Channel, receive: Receive, reject: Send) -> Receive:
    admit = channel.admit
    #: Rejections of the consumer's thread, which the event loop sends before the next call of `receive`.
    rejections: list[tuple[Event, EventRejected]] = []

    async def admitted() -> Event:
        while True:
            while rejections:
                await reject(_rejection(*rejections.pop()))
            event, rejected = admit(await receive())
            if rejected is None:
                return event
            rejections.append((event, rejected))

    def admitted_at_hand(at_hand: AtHand) -> AtHand:
        def next_admitted() -> Event | None:
            event = at_hand()
            if event is None:
                return None
            event, rejected = admit(event)
            if rejected is None:
                return event
            rejections.append((event, rejected))
            return None

        return next_admitted

    return forward(receive, admitted, admitted_at_hand)


def _warning_receive(channel: Channel, receive: Receive) -> Receive:
    def check(event: Event) -> Event:
        event, rejected = channel.admit(event)
        if rejected is not None:
            log.warning("%s; delivered all the same (validate: warn)", rejected)
        return event

    async def receive_and_warn() -> Event:
        return check(await receive())

    def warning_at_hand(at_hand: AtHand) -> AtHand:
        return lambda: None if (event := at_hand()) is None else check(event)

    return forward(receive, receive_and_warn, warning_at_hand)


def _rejection(event: Event, rejected: EventRejected) -> Event:
    return {
        "type": "channel.reject",
        "event": event,
        "code": rejected.code,
        "violations": rejected.violations,
        "reason": str(rejected),
    }


async def _log_rejection(rejection: Event) -> None:
    log.error("%s", rejection["reason"])
