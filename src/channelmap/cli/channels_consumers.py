"""Lets consumers that are derived from `channels.consumer` send with the worker's own layer, as channelmap's do."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from channelmap.asgi import Event
from channelmap.consumers import receive_private
from channelmap.environment import shown
from channelmap.errors import LayerError, quoted
from channelmap.layers import open_backend, open_layer
from channelmap.sending import ContractLayer

log = logging.getLogger("channelmap.worker")

#: Other classes for the same servers and keys.
_DROP_INS = {"channels_redis.core.RedisChannelLayer": "channelmap.layers.redis.RedisChannelLayer"}
#: Layers of the worker's process alone: what a consumer sends there reaches no other process.
_IN_MEMORY = frozenset({"channels.layers.InMemoryChannelLayer", "channelmap.layers.memory.MemoryChannelLayer"})


def lend_layer(layer: ContractLayer, url: str | None) -> None:
    """Make a layer `self.channel_layer` of Channels' consumers, whose base class asks for it by an alias.

    Only the default alias is answered so: another one is a choice among Django's CHANNEL_LAYERS.

    Args:
        layer: the worker's layer.
        url: where it is, if not where the contract says.

    """
    module: Any = sys.modules.get("channels.consumer")
    if module is None:
        return
    of_django, lent = module.get_channel_layer, _LentLayer(layer.contract, layer.layer)
    answered: set[str] = set()

    def get_channel_layer(alias: str) -> Any:
        found = lent if alias == module.DEFAULT_CHANNEL_LAYER else of_django(alias)
        if alias not in answered:
            if found is None:
                reason = "is not in CHANNEL_LAYERS: self.channel_layer is None"
                log.warning("channel_layer_alias %s %s", quoted(alias), reason)
            elif found is lent:
                _warn_of_another(alias, layer, url)
            answered.add(alias)
        return found

    module.get_channel_layer = get_channel_layer


class _LentLayer(ContractLayer):
    """The worker's layer for consumers that listen to their private channel from the start."""

    async def receive(self, channel: str) -> Event:
        """Wait for an event, also while the layer is away."""
        return await receive_private(self.layer, channel)


def _warn_of_another(alias: str, layer: ContractLayer, url: str | None) -> None:
    """Warn when Django has another layer under the alias: groups and private channels there are out of reach."""
    # Without settings of Django this raises, at the consumer's start: none of its handlers would work.
    configured = sys.modules["channels.layers"].channel_layers.configs.get(alias, {})
    backend, config = configured.get("BACKEND", ""), configured.get("CONFIG", {})
    if configured and backend not in _IN_MEMORY and not _is_same(layer, url, backend, config):
        log.warning(
            "self.channel_layer of Channels' consumers is the worker's layer, %s, not the %s of CHANNEL_LAYERS[%s]: "
            "groups and private channels of that one are not reached; to reach them, name it by a second alias in "
            "CHANNEL_LAYERS and in the consumer's channel_layer_alias",
            shown(layer.url), backend, quoted(alias),
        )  # fmt: skip


def _is_same(layer: ContractLayer, url: str | None, backend: str, config: Mapping[str, Any]) -> bool:
    """Return whether a backend with its arguments is the worker's layer, as far as that shows without opening it."""
    setting = layer.contract.layer
    if url is None and (backend, config) == (setting.backend, setting.config):
        return True
    backend = _DROP_INS.get(backend, backend)
    if not backend.startswith("channelmap.layers."):
        return False
    try:
        theirs = open_backend(backend, config)
        # Where the URL is from the environment, the layer is called by the name of its variable.
        named = str(url or setting.url)
        ours = open_layer(named, **({} if url else setting.options)) if named else layer.layer
    except LayerError:
        return False
    return (theirs.url, getattr(theirs, "prefix", "")) == (ours.url, getattr(ours, "prefix", ""))
