"""Code that calls channels_redis beyond the interface of a layer finds the same calls, with the same answers."""

from collections.abc import Callable
from typing import Any

import pytest
from channels_redis.core import RedisChannelLayer as TheirLayer  # type: ignore[import-untyped]  # ships no types

from channelmap.layers.redis import RedisChannelLayer

# Nothing connects to them.
HOSTS = [f"redis://127.0.0.1:{port}/0" for port in (1, 2, 3)]
OPTIONS: dict[str, Any] = {"prefix": "site", "capacity": 7, "channel_capacity": {"mail.*": 3}}


@pytest.fixture(params=[1, 2, 3])
def layers(request: pytest.FixtureRequest) -> tuple[RedisChannelLayer, Any]:
    """Our layer and theirs, with the same configuration."""
    hosts = HOSTS[: request.param]
    return RedisChannelLayer(hosts, **OPTIONS), TheirLayer(hosts, **OPTIONS)


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: [layer.consistent_hash(f"room.{number}") for number in range(200)],
        lambda layer: [layer.consistent_hash(b"\xff%d" % number) for number in range(200)],
        lambda layer: layer._group_key("room.1"),
        lambda layer: [layer.get_capacity(name) for name in ("jobs", "mail.send", "mail.x!y")],
    ],
    ids=["hash of text", "hash of bytes", "key of a group", "capacity"],
)
def test_the_answers_are_those_of_channels_redis(
    layers: tuple[RedisChannelLayer, Any], call: Callable[[Any], object]
) -> None:
    ours, theirs = layers
    assert call(ours) == call(theirs)


@pytest.mark.parametrize("method", ["valid_channel_name", "valid_group_name"])
def test_the_old_names_of_the_checks_answer_like_the_new_ones(
    layers: tuple[RedisChannelLayer, Any], method: str
) -> None:
    ours, theirs = layers
    with pytest.deprecated_call():
        assert getattr(theirs, method)("room.1")
    assert getattr(ours, method)("room.1")
    with pytest.raises(TypeError) as said_by_theirs, pytest.deprecated_call():
        getattr(theirs, method)("room 1")
    with pytest.raises(TypeError) as said_by_ours:
        getattr(ours, method)("room 1")
    assert str(said_by_ours.value) == str(said_by_theirs.value)
