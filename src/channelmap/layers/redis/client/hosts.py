"""Read `hosts`, in all forms of channels_redis, and URLs of Sentinel services and Clusters."""

import functools
import inspect
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from channelmap.environment import FilledText
from channelmap.errors import LayerUnavailable
from channelmap.layers.naming import layer_name
from channelmap.layers.redis.client.tls import PATHS
from channelmap.layers.redis.client.topology import Address, Cluster, SentinelService, SingleServer, Topology

_DEFAULT = "redis://localhost:6379"
_SENTINEL_PORT = 26_379
_FORMS = (
    "expected redis://host:port/db, rediss://…, unix:///path, redis+sentinel://host:port,host:port/service/db "
    "or redis+cluster://host:port,host:port"
)


def read_hosts(hosts: Sequence[Any] | None) -> list[Topology]:
    """Return the topology of each entry; `None` stands for one server on this machine.

    Raises:
        ValueError: `hosts` is not a list.
        LayerUnavailable: an entry cannot be read.

    """
    if isinstance(hosts, str | bytes):
        raise ValueError("You must pass a list of Redis hosts, even if there is only one.")  # noqa: TRY004  (Channels')
    return [_topology(entry) for entry in hosts or [_DEFAULT]]


def _topology(entry: Any) -> Topology:
    if isinstance(entry, tuple | list):
        return _server({"host": entry[0], "port": entry[1]})
    if isinstance(entry, FilledText):
        return _from_environment(entry)
    if not isinstance(entry, dict):
        return _from_url(str(entry), {})
    options = dict(entry)
    if "address" in options:
        return _from_url(str(options.pop("address")), options)
    service = options.pop("master_name", None)
    if service is None:
        return _server(options)
    sentinels = [_address(host, port) for host, port in options.pop("sentinels")]
    return _sentinel_service("redis+sentinel", service, sentinels, options, options.pop("sentinel_kwargs", None) or {})


def _from_environment(url: FilledText) -> Topology:
    """Return the topology of a URL from the environment; messages show the URL as it was written."""
    name = layer_name(url)
    written = _query(url.written)
    paths = {option: path for option, path in _query(url).items() if option in PATHS}
    try:
        topology = _from_url(
            str(url), {option: FilledText(path, written.get(option, "…")) for option, path in paths.items()}
        )
    except LayerUnavailable as error:
        raise LayerUnavailable(name, error.reason) from None
    topology.url = name
    return topology


def _query(url: str) -> dict[str, str]:
    """Return the options of a URL as redis-py reads them."""
    return {option: unquote(value) for option, value in parse_qsl(url.partition("?")[2])}


def _from_url(url: str, options: dict[str, Any]) -> Topology:
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    try:
        _require_unambiguous(urlsplit(url), kind)
        if kind not in ("sentinel", "cluster"):
            return _server(_options(url) | options)
        # redis-py cannot read lists of hosts, so it reads the URL with the first host only.
        authority, _, tail = rest.partition("/")
        login, at, listed = authority.rpartition("@")
        default = _SENTINEL_PORT if kind == "sentinel" else 6379
        addresses = [_address_in(one, default) for one in listed.split(",")]
        service, _, database = tail.partition("?")[0].partition("/")
        query = f"?{urlsplit(url).query}"
        path = f"/{database if kind == 'sentinel' else ''}"
        options = _options(f"{base}://{login}{at}{addresses[0]}{path}{query}") | options
    except (ValueError, TypeError):
        # The reason may quote an invalid port, which may be a part of a password.
        raise LayerUnavailable(f"{scheme[:20]}://…", f"this URL cannot be read; {_FORMS}") from None
    if kind == "cluster":
        return Cluster(f"{scheme}://{','.join(map(str, addresses))}", options, addresses)
    if not service:
        raise LayerUnavailable(f"{scheme}://{listed}", f"the URL does not name a service; {_FORMS}")
    return _sentinel_service(scheme, unquote(service), addresses, options, {})


def _require_unambiguous(parts: SplitResult, kind: str) -> None:
    """Raise ValueError if a part of the URL would be ignored, or be mistaken for another part."""
    path = parts.path.strip("/")
    if parts.scheme == "unix":
        is_clear = bool(path) and not parts.hostname
    elif kind:
        # Hosts between commas are read one by one. A Cluster has only one database.
        is_clear = kind == "sentinel" or path in {"", "0"}
    else:
        is_clear = parts.port != 0 and "," not in parts.netloc and not path.startswith("-")
    if parts.fragment or not is_clear:
        raise ValueError
    if parts.query and not {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} <= _known_options():
        # The option is not named: text after a '?' may be a part of a password.
        reason = "the URL has an option in its query that redis-py does not know"
        raise LayerUnavailable(f"{parts.scheme[:20]}://…", reason)


@functools.cache
def _known_options() -> frozenset[str]:
    """Return the names of all options of redis-py's connections and URLs."""
    from redis import connection

    classes = (connection.Connection, connection.SSLConnection, connection.UnixDomainSocketConnection)
    constructors = [vars(owner)["__init__"] for kind in classes for owner in kind.__mro__ if "__init__" in vars(owner)]
    arguments = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    return frozenset(arguments.union(connection.URL_QUERY_ARGUMENT_PARSERS))


def _options(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme == "redis" and not parts.query:
        # The usual case, read as redis-py does. Importing redis-py would cost each process 10 MB.
        login = {"username": parts.username, "password": parts.password}
        options: dict[str, Any] = {name: unquote(value) for name, value in login.items() if value}
        database = parts.path.strip("/")
        return options | {"host": parts.hostname, "port": parts.port, "db": int(database or 0)}
    from redis.connection import parse_url

    return dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py's own


def _address_in(text: str, default_port: int) -> Address:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(text)
    if parts.port == 0:
        raise ValueError(text)
    return Address(parts.hostname, parts.port or default_port)


def _address(host: Any, port: Any) -> Address:
    return Address(str(host), int(port))


def _server(options: dict[str, Any]) -> SingleServer:
    path = options.get("path") or options.get("unix_socket_path")
    if path:
        address = Address("", 0, str(path))
        return SingleServer(f"unix://{address}", options, address)
    address = _address(options.get("host") or "localhost", options.get("port") or 6379)
    topology = SingleServer(str(address), options, address)
    topology.url = f"redis{'s' if topology.uses_tls else ''}://{address}/{options.get('db') or 0}"
    return topology


def _sentinel_service(
    scheme: str, service: str, addresses: Sequence[Address], options: dict[str, Any], sentinel_options: dict[str, Any]
) -> SentinelService:
    url = f"{scheme}://{','.join(map(str, addresses))}/{service}/{options.get('db') or 0}"
    # Sentinels share the TLS options of the servers, but not their user and password.
    shared = {name: value for name, value in options.items() if name.startswith("ssl") or name == "connection_class"}
    sentinels = [SingleServer(f"redis://{one}", shared | sentinel_options, one) for one in addresses]
    return SentinelService(url, options, service, sentinels)
