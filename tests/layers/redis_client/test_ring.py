"""The hash ring has each name where channels_redis has it."""

from collections import Counter

import pytest

from channelmap.layers.redis.client import HashRing, read_hosts


def ring(count: int) -> HashRing:
    return HashRing(read_hosts([f"redis://host-{number}" for number in range(count)]))


@pytest.mark.parametrize("name", [b"", b"jobs", b"specific.abc!", bytes(range(256))])
def test_one_host_has_all_names(name: bytes) -> None:
    assert ring(1).index(name) == 0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_names_are_where_channels_redis_has_them(count: int) -> None:
    core = pytest.importorskip("channels_redis.utils")
    for number in range(500):
        name = f"name-{number}"
        assert ring(count).index(name.encode()) == core._consistent_hash(name, count)


def test_each_host_has_its_share() -> None:
    names = [f"name-{number}" for number in range(3_000)]
    three = ring(3)
    shares = Counter(three.hashed(name).url for name in names)
    assert len(shares) == 3
    assert min(shares.values()) > 800
