"""Routers, with Channels' names, and the gate that lets only declared events in.

Everything here is an ASGI application around others, so it runs under any worker, Channels' own included.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from channelmap.asgi import Application, AtHand, Event, Receive, Scope, Send, forward
from channelmap.contract import Channel, Contract
from channelmap.errors import EventRejected
from channelmap.imports import import_dotted
from channelmap.loader import load
from channelmap.threads import in_own_thread

log = logging.getLogger("channelmap.gate")


class ProtocolTypeRouter:
    """Sends each connection to the application for its protocol, `scope["type"]`.

    Args:
        application_mapping: ASGI applications by protocol, such as ``{"channel": ChannelNameRouter(…)}``.

    """

    def __init__(self, application_mapping: Mapping[str, Application]) -> None:
        self.application_mapping = application_mapping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application; ValueError, in Channels' words, when there is none for the protocol."""
        if scope["type"] not in self.application_mapping:
            raise ValueError(f"No application configured for scope type {scope['type']!r}")
        return await self.application_mapping[scope["type"]](scope, receive, send)


class ChannelNameRouter:
    """Sends the events of each channel to the application for that channel, `scope["channel"]`.

    Args:
        application_mapping: ASGI applications by channel name: written by hand, as with Channels, or made from
            a contract by `load_router`, each behind its gate.

    """

    def __init__(self, application_mapping: Mapping[str, Application]) -> None:
        self.application_mapping = application_mapping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application; ValueError, in Channels' words, when there is none for the channel."""
        if "channel" not in scope:
            raise ValueError(
                "ChannelNameRouter got a scope without a 'channel' key. "
                "Did you make sure it's only being used for 'channel' type messages?"
            )
        if scope["channel"] not in self.application_mapping:
            raise ValueError(f"No application configured for channel name {scope['channel']!r}")
        return await self.application_mapping[scope["channel"]](scope, receive, send)


def load_router(config: str | Path | Contract = "channels.yaml", channels: Iterable[str] = ()) -> ChannelNameRouter:
    """Build the router that a contract describes: each consumer imported and set behind its gate.

    Args:
        config: the file, or the contract when it is loaded already.
        channels: only these channels; all of them when none is named.

    Raises:
        ContractError: the file is wrong.
        UnknownChannel: one of `channels` is not declared.
        ImportProblem: a consumer cannot be imported.

    """
    contract = config if isinstance(config, Contract) else load(config)
    chosen = [contract.channel(name) for name in channels] or contract.channels.values()
    return ChannelNameRouter({channel.name: Gate(channel, application_of(channel.consumer)) for channel in chosen})


def application_of(consumer: str) -> Application:
    """Import a consumer by its dotted path; a class becomes an application by its `as_asgi()`."""
    found = import_dotted(consumer)
    if not (isinstance(found, type) and hasattr(found, "as_asgi")):
        return cast("Application", found)
    application: Application = found.as_asgi()
    channels: Any = sys.modules.get("channels.consumer")
    return in_own_thread(application) if channels and issubclass(found, channels.SyncConsumer) else application


class Gate:
    """An ASGI application that admits to another one only the events that the channel declares.

    It wraps `receive`. What it refuses it hands back to a server that announces ``channel.reject`` in
    ``scope["extensions"]``; for any other it logs code, channel, type and paths, never the payload.

    Args:
        channel: judges the events; its `validate` says what a bad verdict means: refuse, only warn, or not judge.
        application: gets the events that are admitted, and the scope without the extension, which was for the
            gate.

    """

    def __init__(self, channel: Channel, application: Application) -> None:
        self.channel = channel
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the application behind the gate."""
        hands_back = "channel.reject" in scope.get("extensions", {})
        scope = {key: value for key, value in scope.items() if key != "extensions"}
        if self.channel.validate == "warn":
            receive = _watched(self.channel, receive)
        elif self.channel.validate == "enforce":
            receive = _gated(self.channel, receive, send if hands_back else _only_log)
        return await self.application(scope, receive, send)


def _gated(channel: Channel, receive: Receive, refuse: Send) -> Receive:
    admit = channel.admit
    #: Refused in the consumer's thread, to be handed back in the event loop before anything else is asked for.
    refused: list[tuple[Event, EventRejected]] = []

    async def admitted() -> Event:
        while True:
            while refused:
                await refuse(_rejection(*refused.pop()))
            event, rejected = admit(await receive())
            if rejected is None:
                return event
            refused.append((event, rejected))

    def admitted_at_hand(at_hand: AtHand) -> AtHand:
        def next_admitted() -> Event | None:
            event = at_hand()
            if event is None:
                return None
            event, rejected = admit(event)
            if rejected is None:
                return event
            refused.append((event, rejected))
            return None

        return next_admitted

    return forward(receive, admitted, admitted_at_hand)


def _watched(channel: Channel, receive: Receive) -> Receive:
    def look(event: Event) -> Event:
        event, rejected = channel.admit(event)
        if rejected is not None:
            log.warning("%s; delivered all the same (validate: warn)", rejected)
        return event

    async def watched() -> Event:
        return look(await receive())

    def watched_at_hand(at_hand: AtHand) -> AtHand:
        return lambda: None if (event := at_hand()) is None else look(event)

    return forward(receive, watched, watched_at_hand)


def _rejection(event: Event, rejected: EventRejected) -> Event:
    return {
        "type": "channel.reject",
        "event": event,
        "code": rejected.code,
        "violations": rejected.violations,
        "reason": str(rejected),
    }


async def _only_log(rejection: Event) -> None:
    log.error("%s", rejection["reason"])
