"""Those who keep the promise of `layer.py`; each is imported only when its URL asks for it."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from channelmap.errors import LayerUnavailable, did_you_mean, quoted
from channelmap.imports import ImportProblem, import_dotted
from channelmap.layer import ChannelLayer


def open_layer(url: str, **options: Any) -> ChannelLayer:
    """Make the layer that a URL names; nothing is opened before it is first used.

    ``memory://`` lives in this process, ``sqlite:///relative.db`` and ``sqlite:////absolute.db`` in a file.

    Args:
        url: which layer, and where.
        options: what `ChannelLayer` takes: capacity, expiry and so on.

    Raises:
        LayerUnavailable: there is no such kind of layer, or the URL lacks what its kind needs.

    """
    scheme = urlsplit(url).scheme
    if scheme not in _OPENERS:
        hint = did_you_mean(scheme, _OPENERS)
        known = ", ".join(f"{name}://" for name in _OPENERS)
        reason = f"unknown scheme {quoted(scheme)}; expected one of {known}"
        raise LayerUnavailable(_without_password(url), f"{reason}; {hint}" if hint else reason)
    return _OPENERS[scheme](url, options)


def open_backend(dotted_path: str, config: Mapping[str, Any]) -> ChannelLayer:
    """Make a layer of any Channels layer class, as ``BACKEND`` and ``CONFIG`` of ``CHANNEL_LAYERS`` name it.

    Raises:
        LayerUnavailable: the class cannot be imported, or does not take this configuration.

    """
    try:
        layer = import_dotted(dotted_path)(**config)
    except (ImportProblem, TypeError, ValueError) as error:
        raise LayerUnavailable(dotted_path, f"cannot be made: {error}") from error
    if isinstance(layer, ChannelLayer):
        return layer
    from channelmap.layers.foreign import ForeignChannelLayer

    return ForeignChannelLayer(layer)


def _open_memory(url: str, options: dict[str, Any]) -> ChannelLayer:
    from channelmap.layers.memory import MemoryChannelLayer

    return MemoryChannelLayer(url, **options)


def _open_sqlite(url: str, options: dict[str, Any]) -> ChannelLayer:
    from channelmap.layers.sqlite import SQLiteChannelLayer

    return SQLiteChannelLayer(url, **options)


_OPENERS: dict[str, Callable[[str, dict[str, Any]], ChannelLayer]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
}


def _without_password(url: str) -> str:
    head, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return head + separator + authority.rpartition("@")[2] + slash + path
