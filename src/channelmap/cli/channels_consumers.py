"""Make consumers derived from `channels.consumer` send with the worker's layer, as channelmap's consumers do."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from channelmap.asgi import Event
from channelmap.consumers import receive_private
from channelmap.environment import shown
from channelmap.errors import LayerError, quoted
from channelmap.layers import EQUIVALENT_BACKENDS, IN_MEMORY_BACKENDS, open_backend, open_layer
from channelmap.sending import ContractLayer
from channelmap.site import current_site

log = logging.getLogger("channelmap.worker")


def lend_layer(layer: ContractLayer, url: str | None) -> None:
    """Make a layer the `self.channel_layer` of Channels' consumers, whose base class looks it up by an alias.

    This affects only the default alias: another alias is a choice among Django's CHANNEL_LAYERS.

    Args:
        layer: the worker's layer.
        url: the URL of the layer, if it is not that of the contract.

    """
    module: Any = sys.modules.get("channels.consumer")
    if module is None:
        return
    django_layer, worker_layer = module.get_channel_layer, _WorkerLayer(layer.contract, layer.layer)
    requested: set[str] = set()

    def get_channel_layer(alias: str) -> Any:
        found = worker_layer if alias == module.DEFAULT_CHANNEL_LAYER else django_layer(alias)
        if alias not in requested:
            if found is None:
                reason = "is not in CHANNEL_LAYERS: self.channel_layer is None"
                log.warning("channel_layer_alias %s %s", quoted(alias), reason)
            elif found is worker_layer:
                _warn_of_other_layer(alias, layer, url)
            requested.add(alias)
        return found

    module.get_channel_layer = get_channel_layer


class _WorkerLayer(ContractLayer):
    """The worker's layer, for consumers that receive from their private channel from the start."""

    async def receive(self, channel: str) -> Event:
        """Wait for an event, and retry while the layer is unavailable."""
        return await receive_private(self.layer, channel)


def _warn_of_other_layer(alias: str, layer: ContractLayer, url: str | None) -> None:
    """Warn if Django has another layer under the alias, whose groups and private channels are not reached."""
    if url is None and current_site() is not None:
        return  # the site's system checks compare the two
    # Without Django's settings this raises when the consumer starts; its handlers could not work either.
    configured = sys.modules["channels.layers"].channel_layers.configs.get(alias, {})
    backend, config = configured.get("BACKEND", ""), configured.get("CONFIG", {})
    if configured and backend not in IN_MEMORY_BACKENDS and not _is_same(layer, url, backend, config):
        log.warning(
            "self.channel_layer of Channels' consumers is the worker's layer, %s, not the %s of CHANNEL_LAYERS[%s]: "
            "groups and private channels of that one are not reached; to reach them, name it by a second alias in "
            "CHANNEL_LAYERS and in the consumer's channel_layer_alias",
            shown(layer.url), backend, quoted(alias),
        )  # fmt: skip


def _is_same(layer: ContractLayer, url: str | None, backend: str, config: Mapping[str, Any]) -> bool:
    """Return whether a backend with its arguments is the worker's layer, as far as known without opening it."""
    setting = layer.contract.layer
    if url is None and (backend, config) == (setting.backend, setting.config):
        return True
    backend = EQUIVALENT_BACKENDS.get(backend, backend)
    if not backend.startswith("channelmap.layers."):
        return False
    try:
        theirs = open_backend(backend, config)
        # If the URL is from the environment, the layer's name is that of the variable.
        named = str(url or setting.url)
        ours = open_layer(named, **({} if url else setting.options)) if named else layer.layer
    except LayerError:
        return False
    return (theirs.url, getattr(theirs, "prefix", "")) == (ours.url, getattr(ours, "prefix", ""))
