"""Every event has an id, from its send until it is settled or a dead letter."""

import asyncio

import pytest

from channelmap.layer import ChannelLayer, DeadLetter, Delivery, letter_for

from .suite import Suite, event


class Identity(Suite):
    """Every event has an id, from its send until it is settled or a dead letter."""

    def test_each_send_returns_an_id_that_no_other_event_has(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[str | None]:
            ids = [await layer.send("jobs", event(1)), layer.send_sync("jobs", event(1))]
            return [
                *ids,
                *(await layer.send_many("jobs", [event(1), event(1)]) or []),
                await layer.send("other", event(1)),
            ]

        ids = self.run(scenario)
        assert len(set(ids)) == 5
        assert all(id_ and len(id_) >= 16 and int(id_, 16) >= 0 for id_ in ids)

    def test_sends_that_are_awaited_together_get_the_ids_of_their_own_events(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[dict[str | None, int], list[Delivery]]:
            ids = await asyncio.gather(*[layer.send("jobs", event(number)) for number in range(20)])
            return dict(zip(ids, range(20), strict=True)), await layer.take("jobs", 99)

        numbers, taken = self.run(scenario)
        assert {one.id: one.event["id"] for one in taken if one.event} == numbers

    @pytest.mark.parametrize("lease", [None, 60.0])
    def test_a_delivery_has_the_id_of_its_event(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[str] | None, list[Delivery]]:
            sent = await layer.send_many("jobs", [event(1), event(2), event(3)])
            return sent, await layer.take("jobs", 9, lease=lease)

        sent, taken = self.run(scenario)
        assert [one.id for one in taken] == sent

    def test_the_id_stays_the_same_however_often_the_event_is_delivered(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[str | None, list[str]]:
            sent = await layer.send("jobs", event(1))
            await layer.send("jobs", event(2))
            seen = [(await layer.take("jobs", 1, lease=0))[0]]
            # A suspect, a returned suspect, a begun suspect, a retry, and a returned retry.
            seen += (taken := await layer.take("jobs", 1, lease=60))
            await layer.give_back(taken)
            seen += (taken := await layer.take("jobs", 1, lease=60))
            await layer.begin(taken[0])
            await layer.renew(taken, 0)
            seen += (taken := await layer.take("jobs", 1, lease=60))
            await layer.retry(taken[0], 0)
            seen += (taken := await layer.take("jobs", 1, lease=60))
            await layer.give_back(taken)
            seen += await layer.take("jobs", 1, lease=60)
            return sent, [one.id for one in seen]

        sent, seen = self.run(scenario)
        assert seen == [sent] * 6

    @pytest.mark.parametrize("lease", [None, 60.0])
    def test_a_returned_event_keeps_its_id(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[str] | None, list[Delivery]]:
            sent = await layer.send_many("jobs", [event(1), event(2)])
            await layer.give_back(await layer.take("jobs", 9, lease=lease))
            return sent, await layer.take("jobs", 9)

        sent, taken = self.run(scenario)
        assert [one.id for one in taken] == sent

    def test_a_peeked_event_has_its_id(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[str] | None, set[str]]:
            sent = await layer.send_many("jobs", [event(1), event(2), event(3)])
            first, _ = await layer.take("jobs", 2, lease=60)
            await layer.retry(first, 60)
            return sent, {one.id async for one in layer.peek("jobs")}

        sent, seen = self.run(scenario)
        assert seen == set(sent or [])

    @pytest.mark.parametrize("lease", [None, 60.0])
    def test_a_dead_letter_has_the_id_of_its_event_and_a_replay_keeps_it(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[str | None, DeadLetter, Delivery]:
            sent = await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=lease)
            await layer.bury(delivery, letter_for(delivery, "failed", "it broke"))
            (letter,) = await layer.dead_letters("jobs")
            await layer.replay(letter.id)
            (again,) = await layer.take("jobs", 1)
            return sent, letter, again

        sent, letter, again = self.run(scenario)
        assert letter.event_id == again.id == sent

    def test_a_dead_letter_without_an_id_is_replayed_with_a_new_one(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[str, Delivery]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1)
            delivery.raw_id = 0
            await layer.bury(delivery, letter_for(delivery, "failed", "it broke"))
            (letter,) = await layer.dead_letters("jobs")
            await layer.replay(letter.id)
            return letter.event_id, (await layer.take("jobs", 1))[0]

        event_id, again = self.run(scenario)
        assert event_id == ""
        assert len(again.id) >= 16

    def test_each_copy_of_an_event_for_a_group_has_its_own_id(self) -> None:
        async def scenario(layer: ChannelLayer) -> set[str]:
            for channel in ("jobs", "other"):
                await layer.group_add("all", channel)
            await layer.group_send("all", event(1))
            return {one.id for channel in ("jobs", "other") for one in await layer.take(channel, 1)}

        assert len(self.run(scenario)) == 2
