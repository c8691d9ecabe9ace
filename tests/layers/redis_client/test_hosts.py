"""Each entry of `hosts` becomes a topology; messages name it without user, password and query."""

from typing import Any

import pytest

from channelmap.environment import FilledText
from channelmap.errors import LayerUnavailable
from channelmap.layers.redis.client import Topology, read_hosts
from channelmap.layers.redis.client.topology import Address, Cluster, SentinelService, SingleServer


def read(entry: Any) -> Topology:
    (topology,) = read_hosts([entry])
    return topology


def refusal(entry: Any) -> str:
    with pytest.raises(LayerUnavailable) as caught:
        read_hosts([entry])
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "url", "address"),
    [
        ("redis://localhost", "redis://localhost:6379/0", Address("localhost", 6379)),
        ("redis://cache.example:7000/5", "redis://cache.example:7000/5", Address("cache.example", 7000)),
        ("redis://[::1]:7000", "redis://[::1]:7000/0", Address("::1", 7000)),
        ("rediss://cache.example/2", "rediss://cache.example:6379/2", Address("cache.example", 6379)),
        ("redis://cache.example?db=3", "redis://cache.example:6379/3", Address("cache.example", 6379)),
        ("unix:///run/redis.sock", "unix:///run/redis.sock", Address("", 0, "/run/redis.sock")),
        (("10.0.0.1", 7000), "redis://10.0.0.1:7000/0", Address("10.0.0.1", 7000)),
        (["10.0.0.1", "7000"], "redis://10.0.0.1:7000/0", Address("10.0.0.1", 7000)),
        ({"host": "10.0.0.1", "db": 4}, "redis://10.0.0.1:6379/4", Address("10.0.0.1", 6379)),
        ({"path": "/run/redis.sock"}, "unix:///run/redis.sock", Address("", 0, "/run/redis.sock")),
        ({"address": "redis://cache.example/1"}, "redis://cache.example:6379/1", Address("cache.example", 6379)),
    ],
)
def test_one_server_is_read_in_all_forms(entry: Any, url: str, address: Address) -> None:
    topology = read(entry)
    assert isinstance(topology, SingleServer)
    assert (topology.url, topology.known("any")) == (url, address)


def test_no_hosts_stand_for_one_server_on_this_machine() -> None:
    assert [topology.url for topology in read_hosts(None)] == ["redis://localhost:6379/0"]


def test_hosts_keep_their_order() -> None:
    urls = [f"redis://host-{number}:6379/0" for number in range(5)]
    assert [topology.url for topology in read_hosts(urls)] == urls


def test_user_and_password_are_sent_and_not_shown() -> None:
    topology = read("redis://worker:open%2Fsesame@cache.example/2")
    assert topology.handshake() == [("HELLO", "3", "AUTH", "worker", "open/sesame"), ("SELECT", 2)]
    assert topology.url == "redis://cache.example:6379/2"


def test_a_password_without_a_user_is_the_default_users() -> None:
    assert read("redis://:sesame@cache.example").handshake() == [("HELLO", "3", "AUTH", "default", "sesame")]


def test_without_a_password_only_the_protocol_is_agreed_on() -> None:
    assert read("redis://cache.example").handshake() == [("HELLO", "3")]


class Provider:
    """Credentials as redis-py's providers return them."""

    def __init__(self, *credentials: str) -> None:
        self.get_credentials = lambda: credentials


@pytest.mark.parametrize(("credentials", "user"), [(("worker", "sesame"), "worker"), (("sesame",), "default")])
def test_a_credential_provider_is_asked(credentials: tuple[str, ...], user: str) -> None:
    topology = read({"host": "cache.example", "credential_provider": Provider(*credentials)})
    assert topology.handshake() == [("HELLO", "3", "AUTH", user, "sesame")]


@pytest.mark.parametrize(
    ("entry", "timeouts"),
    [
        ("redis://cache.example", (3.0, 5.0)),
        ("redis://cache.example?socket_timeout=2&socket_connect_timeout=1", (1.0, 2.0)),
        ({"address": "redis://cache.example", "socket_timeout": None}, (3.0, 5.0)),
    ],
)
def test_time_limits_are_redis_pys_options(entry: Any, timeouts: tuple[float, float]) -> None:
    assert read(entry).timeouts == timeouts


@pytest.mark.parametrize("entry", ["rediss://cache.example", {"host": "cache.example", "ssl": True}])
def test_tls_is_used_when_the_url_or_an_option_asks_for_it(entry: Any) -> None:
    assert read(entry).uses_tls
    assert read(entry).tls_context() is not None


def test_tls_is_not_used_otherwise() -> None:
    topology = read("redis://cache.example")
    assert not topology.uses_tls
    assert topology.tls_context() is None


def test_a_sentinel_service_is_read_from_a_url() -> None:
    topology = read("redis+sentinel://worker:sesame@one,two:7000/main/2")
    assert isinstance(topology, SentinelService)
    assert topology.url == "redis+sentinel://one:26379,two:7000/main/2"
    assert topology.handshake() == [("HELLO", "3", "AUTH", "worker", "sesame"), ("SELECT", 2)]
    asked: list[Address] = []

    def ask(sentinel: Topology, address: Address, command: Any) -> list[bytes]:
        asked.append(address)
        assert command == ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        assert sentinel.handshake() == [("HELLO", "3")]  # user and password are the master's
        return [b"master.example", b"6380"]

    assert topology.find("any", ask) == Address("master.example", 6380)
    assert asked == [Address("one", 26_379)]


def test_a_sentinel_service_is_read_from_options_of_channels_redis() -> None:
    topology = read({"sentinels": [("one", 26_379)], "master_name": "main", "db": 3})
    assert isinstance(topology, SentinelService)
    assert topology.url == "redis+sentinel://one:26379/main/3"


def test_a_cluster_is_read_from_a_url() -> None:
    topology = read("redis+cluster://one,two:7000,[::1]:7001")
    assert isinstance(topology, Cluster)
    assert topology.url == "redis+cluster://one:6379,two:7000,[::1]:7001"
    assert topology.known("any") is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:port", "redis://host:0", "redis://one,two", "redis://host/-1", "redis://host/jobs",
        "redis://host/0#fragment", "unix://", "unix://host/path", "http://host",
        "redis+sentinel://one:0/main", "redis+sentinel:///main", "redis+cluster://one/1", "redis+cluster://",
    ],
)  # fmt: skip
def test_a_url_that_is_not_clear_is_refused_with_the_forms(url: str) -> None:
    assert "this URL cannot be read; expected redis://host:port/db, rediss://…" in refusal(url)


def test_a_url_without_a_service_is_refused() -> None:
    assert "redis+sentinel://one: the URL does not name a service" in refusal("redis+sentinel://one/")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_an_unknown_option_is_refused_and_not_named(scheme: str) -> None:
    told = refusal(f"{scheme}://user:open?sesame=1@host")
    assert "has an option in its query that redis-py does not know" in told or "this URL cannot be read" in told
    assert "sesame" not in told


@pytest.mark.parametrize(
    "url", ["redis://user:pass@host:sesame", "redis://sesame:host", "redis+cluster://:sesame@one:x"]
)
def test_a_refused_url_is_not_repeated(url: str) -> None:
    assert "sesame" not in refusal(url)


def test_a_url_from_the_environment_is_named_as_it_was_written() -> None:
    topology = read(FilledText("redis://:sesame@cache.example/1", "redis://${LOGIN}@cache.example/1"))
    assert topology.url == "redis://cache.example/1"
    assert topology.known("any") == Address("cache.example", 6379)
    told = refusal(FilledText("redis://sesame:port", "redis://${PLACE}"))
    assert "redis://${PLACE}" in told
    assert "sesame" not in told
