"""The implementations of `layer.py`; each is imported only when a URL names it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from channelmap.environment import FilledText
from channelmap.errors import LayerUnavailable, did_you_mean, quoted
from channelmap.imports import ImportProblem, import_dotted
from channelmap.layer import ChannelLayer
from channelmap.layers.naming import SCHEME, in_words, layer_name

#: Classes in `CHANNEL_LAYERS` that use the same servers and keys as another class.
EQUIVALENT_BACKENDS = {"channels_redis.core.RedisChannelLayer": "channelmap.layers.redis.RedisChannelLayer"}
#: Classes whose events reach no other process.
IN_MEMORY_BACKENDS = frozenset({
    "channels.layers.InMemoryChannelLayer", "channelmap.layers.memory.MemoryChannelLayer"
})  # fmt: skip


def open_layer(url: str, *, quotes_errors: bool = True, **options: Any) -> ChannelLayer:
    """Return the layer that a URL names; it opens its connections at first use.

    ``memory://`` lives in this process, ``sqlite:///relative.db`` and ``sqlite:////absolute.db`` in a file;
    ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` and ``redis+cluster://`` name servers.

    Args:
        url: the URL.
        quotes_errors: whether a message may quote what a library says about URL and options.
        options: arguments of `ChannelLayer`, such as capacity and expiry.

    Raises:
        LayerUnavailable: the scheme is unknown, or the URL is incomplete.

    """
    # Not urlsplit, which raises for some malformed URLs.
    match = SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    if scheme not in _OPENERS:
        hint = did_you_mean(scheme, _OPENERS)
        known = ", ".join(f"{name}://" for name in _OPENERS)
        subject = "unknown scheme" if isinstance(url, FilledText) else f"unknown scheme {quoted(scheme)}"
        reason = f"{subject}; expected one of {known}"
        raise LayerUnavailable(layer_name(url), f"{reason}; {hint}" if hint else reason)
    foreign = [name for name in options if name in _REDIS_OPTIONS]
    if foreign and _OPENERS[scheme] is not _open_redis:
        raise LayerUnavailable(layer_name(url), f"only a layer in Redis has the option {quoted(foreign[0])}")
    try:
        return _OPENERS[scheme](url, options)
    except (TypeError, ValueError, AssertionError) as error:
        raise _cannot_create(layer_name(url), error, quotes_errors=quotes_errors) from (
            error if quotes_errors else None
        )


def open_backend(dotted_path: str, config: Mapping[str, Any], *, quotes_errors: bool = True) -> ChannelLayer:
    """Return a layer of any Channels layer class, as named by ``BACKEND`` and ``CONFIG`` of ``CHANNEL_LAYERS``.

    Args:
        dotted_path: the class.
        config: its keyword arguments.
        quotes_errors: whether a message may quote what the class says about these.

    Raises:
        LayerUnavailable: the class cannot be imported, or rejects the arguments.

    """
    try:
        layer = import_dotted(dotted_path)(**config)
        _require_layer(layer)
    except ImportProblem as error:
        raise LayerUnavailable(dotted_path, f"cannot be made: {error}") from error
    except Exception as error:  # noqa: BLE001  (it is raised again, unless it may hold a secret)
        # A third-party constructor may raise anything; the cause is this configuration.
        raise _cannot_create(dotted_path, error, quotes_errors=quotes_errors) from (error if quotes_errors else None)
    if isinstance(layer, ChannelLayer):
        return layer
    from channelmap.layers.foreign import ForeignChannelLayer

    return ForeignChannelLayer(layer, quotes_errors=quotes_errors)


def _cannot_create(name: str, error: Exception, *, quotes_errors: bool) -> LayerUnavailable:
    return LayerUnavailable(name, f"cannot be made: {in_words(error, quotes_errors=quotes_errors)}")


def _require_layer(layer: Any) -> None:
    """Raise TypeError for wrong arguments that Channels' layers store unchecked and fail on later."""
    if not all(_has_attribute(layer, name) for name in ("send", "receive")):
        raise TypeError(f"expected a Channels layer, got {type(layer).__name__}")
    for name in ("capacity", "expiry"):
        value = getattr(layer, "__dict__", {}).get(name)
        if not isinstance(value, int | float | None):
            raise TypeError(f"expected a number as {quoted(name)}, got {type(value).__name__}")


def _has_attribute(layer: Any, name: str) -> bool:
    """Return whether a layer has, or may have, an attribute, without running the layer's code.

    Some layers compute attributes in the running event loop, which does not exist yet.
    """
    return inspect.getattr_static(layer, name, None) is not None or hasattr(type(layer), "__getattr__")


def _open_memory(url: str, options: dict[str, Any]) -> ChannelLayer:
    if url.lower() != "memory://":
        raise LayerUnavailable(layer_name(url), "events in memory have no address; expected memory://")
    from channelmap.layers.memory import MemoryChannelLayer

    return MemoryChannelLayer(url, **options)


def _open_sqlite(url: str, options: dict[str, Any]) -> ChannelLayer:
    from channelmap.layers.sqlite import SQLiteChannelLayer

    return SQLiteChannelLayer(url, **options)


def _open_redis(url: str, options: dict[str, Any]) -> ChannelLayer:
    from channelmap.layers.redis import RedisChannelLayer

    return RedisChannelLayer([url], **options)


#: Options of the Redis layer only.
_REDIS_OPTIONS = frozenset({"prefix", "random_prefix_length", "serializer_format", "symmetric_encryption_keys"})

_OPENERS: dict[str, Callable[[str, dict[str, Any]], ChannelLayer]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    **dict.fromkeys(
        ["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"], _open_redis
    ),
}
