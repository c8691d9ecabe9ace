"""What a sender holds as a subclass of str, int, float, dict or list arrives as its plain value, over any layer."""

import ast
import asyncio
import enum
import json
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.db import models
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from channelmap import EventRejected, get_channel_layer
from channelmap.sending import ContractLayer

from .redis_servers import Server


class Kind(models.TextChoices):  # type: ignore[misc]  # Django ships no types
    JOB = "job", "A job"
    FREE = "free", "Whatever there is"


class Level(models.IntegerChoices):  # type: ignore[misc]
    LOW = 1, "rather low"


class Color(enum.StrEnum):
    RED = "red"


class Share(float):
    def __repr__(self) -> str:
        return "OTHER"


class Spelled(InMemoryChannelLayer):  # type: ignore[misc]
    """A layer that writes its messages as Python shows them."""

    async def send(self, channel: str, message: Any) -> None:
        await super().send(channel, ast.literal_eval(repr(message)))

    async def group_send(self, group: str, message: Any) -> None:
        await super().group_send(group, ast.literal_eval(repr(message)))


EVENT = {
    "type": Kind.JOB,
    "id": Level.LOW,
    "html": mark_safe("<b>ü</b>"),
    "share": Share(0.5),
    Color.RED: [Color.RED, True, None],
    "by": OrderedDict({Kind.FREE: defaultdict(list, levels=[Level.LOW] * 9), mark_safe("last"): {"a": Kind.JOB}}),
}
ARRIVES = {
    "type": "job",
    "id": 1,
    "html": "<b>ü</b>",
    "share": 0.5,
    "red": ["red", True, None],
    "by": {"free": {"levels": [1] * 9}, "last": {"a": "job"}},
}
LAYERS = {
    "memory": "memory://",
    "SQLite": "sqlite:///events.db",
    "Redis": "{url}",
    "Redis, JSON": {"url": "{url}", "options": {"serializer_format": "json"}},
    "Redis as a backend": {"backend": "channelmap.layers.redis.RedisChannelLayer", "config": {"hosts": ["{url}"]}},
    "Channels": {"backend": "channels.layers.InMemoryChannelLayer"},
    "another's": {"backend": f"{__name__}.Spelled"},
    "channels_redis": {
        "backend": "channels_redis.core.RedisChannelLayer",
        "config": {"hosts": [{"address": "{url}", "socket_timeout": None}]},
    },
    "channels_redis, JSON": {
        "backend": "channels_redis.core.RedisChannelLayer",
        "config": {"hosts": [{"address": "{url}", "socket_timeout": None}], "serializer_format": "json"},
    },
}
CONTRACT = """\
version: 1
layer: {layer}
channels:
  enforced: {{consumer: a.B, events: {{job: job.json, free: true}}}}
  warned: {{consumer: a.B, validate: warn, events: {{job: job.json, free: true}}}}
  unjudged: {{consumer: a.B, validate: "off", events: {{job: job.json, free: true}}}}
"""
SCHEMA = {"properties": {"id": {"type": "integer"}, "html": {"type": "string"}, "by": {"required": ["free"]}}}


@pytest.fixture(params=list(LAYERS.values()), ids=list(LAYERS))
def run(request: pytest.FixtureRequest, server: Server, project: Path) -> Callable[..., Any]:
    """Run a scenario with the layer that a contract names, and close it."""
    layer_setting = json.dumps(request.param).replace("{url}", server.url)
    (project / "job.json").write_text(json.dumps(SCHEMA))
    (project / "channels.yaml").write_text(CONTRACT.format(layer=layer_setting))

    def run(scenario: Callable[[ContractLayer], Any]) -> Any:
        async def main() -> Any:
            layer = get_channel_layer(project / "channels.yaml")
            async with asyncio.timeout(20):
                try:
                    return await scenario(layer)
                finally:
                    inner: Any = getattr(layer.layer, "inner", None)
                    if hasattr(inner, "close_pools"):
                        await inner.close_pools()
                    await layer.close()

        return asyncio.run(main())

    return run


@pytest.mark.parametrize("channel", ["enforced", "warned", "unjudged"])
@pytest.mark.parametrize("kind", [Kind.JOB, Kind.FREE])
def test_subclasses_arrive_as_plain_values_however_they_are_sent(
    run: Callable[..., Any], channel: str, kind: Kind
) -> None:
    sent, arrives = {**EVENT, "type": kind}, {**ARRIVES, "type": kind.value}

    async def scenario(layer: ContractLayer) -> list[Any]:
        await layer.send(channel, sent)
        await layer.send_many(channel, [sent, OrderedDict(sent)])
        await asyncio.to_thread(layer.send_sync, channel, defaultdict(int, sent))
        return [await layer.receive(channel) for _ in range(4)]

    # repr tells a plain value from any other, and shows the order of keys.
    assert [repr(event) for event in run(scenario)] == [repr(arrives)] * 4


def test_subclasses_arrive_as_plain_values_on_private_channels_and_in_groups(run: Callable[..., Any]) -> None:
    async def scenario(layer: ContractLayer) -> list[Any]:
        private = await layer.new_channel()
        await layer.send(private, EVENT)
        first = await layer.receive(private)
        await layer.group_add("all", "enforced")
        await layer.group_send("all", EVENT)
        return [first, await layer.receive("enforced")]

    assert [repr(event) for event in run(scenario)] == [repr(ARRIVES)] * 2


def test_a_lazy_text_is_rejected_before_anything_is_sent(run: Callable[..., Any]) -> None:
    async def scenario(layer: ContractLayer) -> Any:
        with pytest.raises(EventRejected) as caught:
            await layer.send_many("enforced", [EVENT, {**EVENT, "by": OrderedDict(free=gettext_lazy("s3cret"))}])
        await layer.send("enforced", {"type": "free"})
        assert await layer.receive("enforced") == {"type": "free"}
        return str(caught.value)

    assert run(scenario) == (
        "channel 'enforced' rejected 'job' [unsupported-value]: "
        "$.by.free expected a JSON value, got __proxy__; send `str(value)`"
    )
