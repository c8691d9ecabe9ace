"""The layer of a Django site: which one it is, and the class for `CHANNEL_LAYERS` that judges what is sent."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from channelmap.contract import Contract
from channelmap.django.settings import contract_path
from channelmap.errors import LayerError, LayerUnavailable, did_you_mean, quoted
from channelmap.layer import ChannelLayer as Layer
from channelmap.layers import EQUIVALENT_BACKENDS, open_backend, open_layer
from channelmap.loader.files import absolute
from channelmap.sending import FileLayer

DEFAULT_ALIAS = "default"
#: Names of `ChannelLayer` below in `CHANNEL_LAYERS`.
OUR_BACKENDS = frozenset({"channelmap.django.ChannelLayer", "channelmap.django.layers.ChannelLayer"})
_REDIS = "channelmap.layers.redis.RedisChannelLayer"


class ChannelLayer(FileLayer):
    """The site's layer as a `BACKEND` of `CHANNEL_LAYERS`: an event that the contract rejects is not sent.

    Without `CONFIG` it is the layer of the contract. The arguments are for a contract without `layer:`.

    Args:
        config: `url`, a layer's URL, and its options; or the arguments of channels_redis, such as `hosts`.

    """

    def __init__(self, **config: Any) -> None:
        super().__init__(absolute(contract_path()))
        self._config = config

    def _open_layer(self, contract: Contract) -> Layer:
        if self._config:
            return _open_configured("channelmap.django.ChannelLayer", self._config, contract)
        return super()._open_layer(contract)


def open_site_layer(contract: Contract, alias: str | None = None) -> Layer:
    """Open a layer of `CHANNEL_LAYERS` with the limits of a contract.

    Args:
        contract: the contract.
        alias: the alias; `None` for the default one, or, if there is none, the default layer of contracts.

    Raises:
        LayerUnavailable: there is no such alias, or the layer cannot be opened.

    """
    configured = layers_setting()
    if alias is None and DEFAULT_ALIAS not in configured:
        return open_layer(contract.layer.url, limits=contract.limits)
    name = alias or DEFAULT_ALIAS
    if name not in configured:
        hint = did_you_mean(name, configured) or "expected an alias of CHANNEL_LAYERS, or a URL such as redis://host"
        raise LayerUnavailable(name, f"{quoted(name)} is not in CHANNEL_LAYERS; {hint}")
    setting = configured[name]
    return _open_configured(setting.get("BACKEND", ""), setting.get("CONFIG", {}), contract)


def layers_setting() -> Mapping[str, Mapping[str, Any]]:
    """Return the setting `CHANNEL_LAYERS`; empty if there is none."""
    found: Mapping[str, Mapping[str, Any]] = getattr(settings, "CHANNEL_LAYERS", {})
    return found


def is_site_layer(contract: Contract) -> bool:
    """Return whether the layer that a contract names is the default one of `CHANNEL_LAYERS`, without connecting."""
    setting = layers_setting()[DEFAULT_ALIAS]
    backend, config = setting.get("BACKEND", ""), setting.get("CONFIG", {})
    if backend in OUR_BACKENDS and not config:
        return True
    named = contract.layer
    if (backend, config) == (named.backend, named.config):
        return True
    try:
        theirs = _open_configured(backend, config, contract)
        ours = open_layer(named.url, **named.options) if named.url else open_backend(named.backend, named.config)
    except LayerError:
        return False
    return _identity(theirs) == _identity(ours)


def _identity(layer: Layer) -> tuple[str, str]:
    return layer.url, getattr(layer, "prefix", "")


def _open_configured(backend: str, config: Mapping[str, Any], contract: Contract) -> Layer:
    backend = EQUIVALENT_BACKENDS.get(backend, backend)
    # The settings may hold passwords, which a library could quote.
    if backend in OUR_BACKENDS:
        if not config:
            return open_layer(contract.layer.url, limits=contract.limits)
        if "url" in config:
            options = {name: value for name, value in config.items() if name != "url"}
            return open_layer(config["url"], quotes_errors=False, limits=contract.limits, **options)
        backend = _REDIS
    limits = {"limits": contract.limits} if backend == _REDIS else {}
    return open_backend(backend, {**config, **limits}, quotes_errors=False)
