"""Tests of groups: an event is sent to every member."""

import asyncio

from channelmap.asgi import Event
from channelmap.layer import ChannelLayer, Delivery

from .suite import Suite, event, numbers, until_blocked


class Groups(Suite):
    """An event is sent to every member."""

    def test_every_member_gets_a_copy(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Event]:
            await layer.group_add("group", "one")
            await layer.group_add("group", "two")
            await layer.group_add("group", "two")
            await layer.group_add("other", "three")
            await layer.group_send("group", event(1))
            assert await layer.take("three", 1, wait=False) == []
            both = [await layer.receive("one"), await layer.receive("two")]
            assert await layer.take("two", 1, wait=False) == []
            return both

        assert self.run(scenario) == [event(1), event(1)]

    def test_a_group_wakes_its_members(self) -> None:
        async def scenario(layer: ChannelLayer) -> Event:
            await layer.group_add("group", "one")
            receiving = asyncio.create_task(layer.receive("one"))
            await until_blocked()
            await layer.group_send("group", event(1))
            return await receiving

        assert self.run(scenario) == event(1)

    def test_a_discarded_member_gets_no_group_sends(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.group_add("group", "one")
            await layer.group_discard("group", "one")
            await layer.group_discard("group", "never")
            await layer.group_send("group", event(1))
            return await layer.take("one", 1, wait=False)

        assert self.run(scenario) == []


class Memberships(Groups):
    """Groups of layers whose capacity and expiry the test can set."""

    def test_a_member_with_a_full_channel_does_not_get_the_event(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.group_add("group", "full")
            await layer.group_add("group", "idle")
            await layer.send("full", event(1))
            await layer.group_send("group", event(2))
            return numbers(await layer.take("full", 9) + await layer.take("idle", 9))

        assert self.run(scenario, capacity=1) == [1, 2]

    def test_a_membership_expires(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.group_add("group", "one")
            await layer.group_send("group", event(1))
            return await layer.take("one", 1, wait=False)

        assert self.run(scenario, group_expiry=0) == []

    def test_flushing_ends_all_memberships(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.group_add("group", "one")
            await layer.flush()
            await layer.group_send("group", event(1))
            return await layer.take("one", 1, wait=False)

        assert self.run(scenario) == []
