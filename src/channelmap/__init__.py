"""A YAML file maps channels to consumers and JSON Schemas; a fast worker validates and dispatches the events.

What is imported from here is loaded when it is first asked for, so that a process pays only for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from channelmap.codes import Severity
    from channelmap.consumers import AsyncConsumer, SyncConsumer
    from channelmap.contract import Channel, Contract, EventType
    from channelmap.diagnostics import Diagnostic, Location
    from channelmap.errors import (
        ChannelFull,
        ChannelMapError,
        ContractError,
        EventRejected,
        LayerError,
        LayerUnavailable,
        UnknownChannel,
        Violation,
    )
    from channelmap.handling import CurrentDelivery, Reject, Retry, StopConsumer, current_delivery
    from channelmap.layer import ChannelLayer, Counts, DeadLetter, Delivery, Purged, WorkerInfo
    from channelmap.loader import load
    from channelmap.routing import ChannelNameRouter, ProtocolTypeRouter, load_router
    from channelmap.sending import ContractLayer, get_channel_layer
    from channelmap.worker import Worker

_PACKAGES = {
    "codes": ("Severity",),
    "consumers": ("AsyncConsumer", "SyncConsumer"),
    "contract": ("Channel", "Contract", "EventType"),
    "diagnostics": ("Diagnostic", "Location"),
    "errors": (
        "ChannelFull", "ChannelMapError", "ContractError", "EventRejected",
        "LayerError", "LayerUnavailable", "UnknownChannel", "Violation",
    ),
    "handling": ("CurrentDelivery", "Reject", "Retry", "StopConsumer", "current_delivery"),
    "layer": ("ChannelLayer", "Counts", "DeadLetter", "Delivery", "Purged", "WorkerInfo"),
    "loader": ("load",),
    "routing": ("ChannelNameRouter", "ProtocolTypeRouter", "load_router"),
    "sending": ("ContractLayer", "get_channel_layer"),
    "worker": ("Worker",),
}  # fmt: skip
_PACKAGE_OF = {name: package for package, names in _PACKAGES.items() for name in names}

__all__ = [
    "AsyncConsumer",
    "Channel",
    "ChannelFull",
    "ChannelLayer",
    "ChannelMapError",
    "ChannelNameRouter",
    "Contract",
    "ContractError",
    "ContractLayer",
    "Counts",
    "CurrentDelivery",
    "DeadLetter",
    "Delivery",
    "Diagnostic",
    "EventRejected",
    "EventType",
    "LayerError",
    "LayerUnavailable",
    "Location",
    "ProtocolTypeRouter",
    "Purged",
    "Reject",
    "Retry",
    "Severity",
    "StopConsumer",
    "SyncConsumer",
    "UnknownChannel",
    "Violation",
    "Worker",
    "WorkerInfo",
    "current_delivery",
    "get_channel_layer",
    "load",
    "load_router",
]


if not TYPE_CHECKING:  # A misspelt name must not pass a type checker.

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("channelmap")
        if name not in _PACKAGE_OF:
            raise AttributeError(f"module 'channelmap' has no attribute '{name}'")
        return getattr(import_module(f"channelmap.{_PACKAGE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
