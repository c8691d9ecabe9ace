"""One event for many channels."""

import asyncio

from channelmap.asgi import Event
from channelmap.layer import ChannelLayer, Delivery

from .suite import Suite, event, numbers, until_blocked


class Groups(Suite):
    """One event for every member."""

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

    def test_who_left_gets_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.group_add("group", "one")
            await layer.group_discard("group", "one")
            await layer.group_discard("group", "never")
            await layer.group_send("group", event(1))
            return await layer.take("one", 1, wait=False)

        assert self.run(scenario) == []


class Memberships(Groups):
    """What can be said of groups where capacity and age are ours to set."""

    def test_a_full_member_goes_without(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.group_add("group", "full")
            await layer.group_add("group", "idle")
            await layer.send("full", event(1))
            await layer.group_send("group", event(2))
            return numbers(await layer.take("full", 9) + await layer.take("idle", 9))

        assert self.run(scenario, capacity=1) == [1, 2]

    def test_a_membership_ends_with_its_time(self) -> None:
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
