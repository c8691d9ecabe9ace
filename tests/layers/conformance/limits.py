"""Tests of invalid names and values, and of capacity and expiry."""

import uuid
from contextlib import suppress
from typing import Any

import pytest

from channelmap.errors import ChannelFull, EventRejected
from channelmap.layer import ChannelLayer, Delivery
from channelmap.limits import Limits

from .suite import Suite, event, numbers

CHANNEL_NAME = (
    "Channel name must be a valid unicode string with length < 100 containing only ASCII alphanumerics, "
    "hyphens, underscores, or periods."
)
INVALID_NAMES = ["a" * 100, "", "a b", "a/b", b"a", None, "a!b!c", "!a", "a\u0661", "a\n", ["a"]]


class Names(Suite):
    """Names of channels and groups, with the error messages of Channels."""

    @pytest.mark.parametrize("name", INVALID_NAMES)
    def test_every_method_rejects_an_invalid_name(self, name: Any) -> None:
        calls: Any = [
            lambda layer: layer.send(name, event(1)),
            lambda layer: layer.send_many(name, [event(1)]),
            lambda layer: layer.receive(name),
            lambda layer: layer.take(name, 1),
            lambda layer: layer.group_add("group", name),
        ]
        for call in calls:
            with pytest.raises(TypeError) as caught:
                self.run(call)
            assert str(caught.value) == CHANNEL_NAME

    def test_a_name_may_have_ninety_nine_characters(self) -> None:
        self.run(lambda layer: layer.send("a" * 99, event(1)))

    def test_the_name_of_a_group_has_no_exclamation_mark(self) -> None:
        with pytest.raises(TypeError) as caught:
            self.run(lambda layer: layer.group_add("a!b", "jobs"))
        assert str(caught.value) == CHANNEL_NAME.replace("Channel", "Group")

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            (uuid.UUID(int=0), "type"),
            ({1, 2}, "type"),
            (2**64, "64 bits"),
            ("\ud800", "Unicode"),
            ("nest", "nested"),
        ],
    )
    def test_a_value_that_cannot_be_sent_is_rejected_and_not_quoted(self, value: Any, complaint: str) -> None:
        if value == "nest":
            for _ in range(100_000):
                value = [value]
        with pytest.raises(EventRejected) as caught:
            self.run(lambda layer: layer.send_many("jobs", [event(1), {"type": "job", "secret": value}]))
        rejected = caught.value
        assert (rejected.channel, rejected.type, rejected.code) == ("jobs", "job", "unsupported-value")
        assert complaint in str(rejected)
        assert "secret" not in str(rejected)


class Capacity(Suite):
    """A channel is full, or its events have expired."""

    def test_a_full_channel_accepts_no_event_until_one_is_taken(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            for number in range(3):
                await layer.send("jobs", event(number))
            with pytest.raises(ChannelFull) as caught:
                await layer.send("jobs", event(3))
            assert caught.value.args == (layer.url, "jobs", 3, 1, 0)
            await layer.take("jobs", 1)
            await layer.send("jobs", event(3))
            with pytest.raises(ChannelFull):
                layer.send_sync("jobs", event(4))
            assert numbers(await layer.take("jobs", 9)) == [1, 2, 3]

        self.run(scenario, capacity=3)

    @pytest.mark.parametrize(("channel", "capacity"), [("tiny", 1), ("bigone", 5), ("other", 2)])
    def test_capacities_are_looked_up_by_name(self, channel: str, capacity: int) -> None:
        async def scenario(layer: ChannelLayer) -> int | None:
            with suppress(ChannelFull):
                for number in range(10):
                    await layer.send(channel, event(number))
            return await layer.waiting(channel)

        assert self.run(scenario, capacity=2, channel_capacity={"tiny": 1, "big*": 5}) == capacity

    def test_of_several_events_all_fit_or_none_is_sent(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(0))
            with pytest.raises(ChannelFull) as caught:
                await layer.send_many("jobs", [event(1), event(2), event(3)])
            assert caught.value.reason == "channel 'jobs' has no room for 3 more events (capacity 3)"
            await layer.send_many("jobs", [event(4), event(5)])
            return numbers(await layer.take("jobs", 9))

        assert self.run(scenario, capacity=3) == [0, 4, 5]

    def test_returned_events_do_not_count_against_the_capacity(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1))
            taken = await layer.take("jobs", 1)
            await layer.send("jobs", event(2))
            await layer.give_back(taken)
            with pytest.raises(ChannelFull):
                await layer.send("jobs", event(3))
            return numbers(await layer.take("jobs", 9))

        assert self.run(scenario, capacity=1) == [1, 2]

    def test_an_expired_event_is_never_delivered(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("brief", event(1))
            await layer.send_many("brief", [event(2), event(3)])
            return await layer.take("brief", 9, wait=False)

        assert self.run(scenario, limits={"brief": Limits(expiry=0)}) == []

    def test_an_expired_event_does_not_count_towards_the_capacity(self) -> None:
        async def scenario(layer: ChannelLayer) -> int | None:
            for number in range(3):
                await layer.send("brief", event(number))
            await layer.send_many("brief", [event(3)])
            return await layer.waiting("brief")

        assert self.run(scenario, limits={"brief": Limits(capacity=1, expiry=0)}) == 1
