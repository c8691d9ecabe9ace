"""Dead letters are stored, listed, replayed and dropped."""

import asyncio
from typing import Any

import pytest

from channelmap.asgi import Event
from channelmap.errors import ChannelFull
from channelmap.layer import ChannelLayer, DeadLetter, Delivery, letter_for
from channelmap.limits import Limits

from .suite import Suite, event, letter, numbers, until_blocked


class DeadLetters(Suite):
    """Dead letters are stored, listed, replayed and dropped."""

    async def bury(self, layer: ChannelLayer, channel: str, number: int, **fields: Any) -> str:
        await layer.send(channel, event(number))
        (delivery,) = await layer.take(channel, 1)
        await layer.bury(delivery, letter(channel, number, body=delivery.body, **fields))
        return (await layer.dead_letters(channel))[-1].id

    def test_a_dead_letter_is_stored_unchanged(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[DeadLetter]:
            fields = {"traceback": "Traceback: \ud800", "attempts": 3, "sent": 1.5, "died": 2.5}
            await self.bury(layer, "jobs", 1, code="invalid", violations=("$.id is bad", "$ too"), **fields)
            return await layer.dead_letters()

        (kept,) = self.run(scenario)
        assert kept.id
        assert (kept.channel, kept.code, kept.reason, kept.event) == ("jobs", "invalid", "it broke", event(1))
        assert kept.violations == ("$.id is bad", "$ too")
        assert kept.traceback.startswith("Traceback: ")
        assert (kept.attempts, kept.sent, kept.died) == (3, 1.5, 2.5)
        assert kept.body

    def test_dead_letters_are_listed_oldest_first_for_one_channel_or_all(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[Any]]:
            for number, channel in enumerate(["a", "b", "a"]):
                await self.bury(layer, channel, number)
            return [[kept.event for kept in await layer.dead_letters(name)] for name in (None, "a", "c")]

        assert self.run(scenario) == [[event(0), event(1), event(2)], [event(0), event(2)], []]

    def test_the_oldest_dead_letter_is_dropped_beyond_the_limit_of_its_channel(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await self.bury(layer, "other", 9)
            for number in range(4):
                await self.bury(layer, "jobs", number)
            return [kept.event for kept in await layer.dead_letters()]

        assert self.run(scenario, dead_letters=2) == [event(9), event(2), event(3)]

    def test_deleted_dead_letters_leave_room_for_others(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[Event | None]]:
            listed = []
            for leave in (layer.drop, layer.replay):
                ids = [await self.bury(layer, "jobs", number) for number in range(3)]
                await self.bury(layer, "others", 9)
                await leave(ids[1])
                await layer.take("jobs", 1, wait=False)
                await self.bury(layer, "jobs", 3)
                listed.append([one.event for one in await layer.dead_letters("jobs")])
                await layer.flush()
            return listed

        assert self.run(scenario, limits={"jobs": Limits(dead_letters=3)}) == [[event(0), event(2), event(3)]] * 2

    def test_dropped_dead_letters_are_logged_at_once_and_then_summed_up(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            for number in range(5):
                await self.bury(layer, "jobs", number)

        self.run(scenario, dead_letters=2)

        said = [record.getMessage() for record in caplog.records if record.name == "channelmap.layers"]
        assert said == ["channel 'jobs': dropped its 1 oldest dead letters, since it keeps the newest 2 (dead_letters)"]

    def test_by_default_as_many_dead_letters_are_kept_as_events_may_wait(self) -> None:
        async def scenario(layer: ChannelLayer) -> int:
            return layer.limits_of("jobs").dead_letters

        assert self.run(scenario, capacity=20_000) == 20_000
        assert self.run(scenario, capacity=5) == 1_000
        assert self.run(scenario, capacity=5, dead_letters=3) == 3

    def test_no_dead_letter_is_kept_with_a_limit_of_0(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[DeadLetter]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=0)
            await layer.bury(delivery, letter("jobs", 1))
            assert await layer.take("jobs", 1, wait=False) == []
            return await layer.dead_letters()

        assert self.run(scenario, limits={"jobs": Limits(dead_letters=0)}) == []

    def test_burying_settles_the_delivery(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=0)
            await layer.bury(delivery, letter("jobs", 1))
            return await layer.take("jobs", 1, wait=False)

        assert self.run(scenario) == []

    def test_many_events_are_buried_in_order_and_settled_and_the_oldest_are_dropped_beyond_the_limit(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await layer.send_many("jobs", [event(number) for number in range(5)])
            deliveries = await layer.take("jobs", 5, lease=0)
            await layer.bury_many([(delivery, letter("jobs", n)) for n, delivery in enumerate(deliveries)])
            await layer.bury_many([])
            assert await layer.take("jobs", 1, wait=False) == []
            return [kept.event for kept in await layer.dead_letters("jobs")]

        assert self.run(scenario, dead_letters=3) == [event(2), event(3), event(4)]

    def test_events_of_several_channels_with_and_without_leases_are_buried_together(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await layer.send_many("a", [event(1), event(2)])
            await layer.send("b", event(3))
            (first,) = await layer.take("a", 1)
            (second,) = await layer.take("a", 1, lease=0)
            (third,) = await layer.take("b", 1, lease=0)
            buried = [(first, letter("a", 1)), (third, letter("b", 3)), (second, letter("a", 2))]
            await layer.bury_many(buried)
            assert await layer.take("b", 1, wait=False) == await layer.take("a", 1, wait=False) == []
            return [[kept.event for kept in await layer.dead_letters(name)] for name in "ab"]

        assert self.run(scenario) == [[event(1), event(2)], [event(3)]]

    def test_a_replay_sends_the_event_to_the_end_and_deletes_the_dead_letter(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            id_ = await self.bury(layer, "jobs", 1, attempts=5)
            await layer.send("jobs", event(2))
            await layer.replay(id_)
            assert await layer.dead_letters() == []
            return await layer.take("jobs", 9)

        deliveries = self.run(scenario)
        assert numbers(deliveries) == [2, 1]
        assert {delivery.attempt for delivery in deliveries} == {1}

    def test_a_replay_wakes_a_waiting_take(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            id_ = await self.bury(layer, "jobs", 1)
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            await layer.replay(id_)
            return numbers(await taking)

        assert self.run(scenario) == [1]

    def test_a_dead_letter_is_kept_if_its_channel_is_full(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[DeadLetter]:
            id_ = await self.bury(layer, "jobs", 1)
            await layer.send("jobs", event(2))
            with pytest.raises(ChannelFull):
                await layer.replay(id_)
            return await layer.dead_letters()

        assert len(self.run(scenario, capacity=1)) == 1

    def test_a_dropped_dead_letter_no_longer_exists(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            id_ = await self.bury(layer, "jobs", 1)
            await layer.drop(id_)
            assert await layer.dead_letters() == []
            for call in (layer.drop, layer.replay):
                for unknown in (id_, "nonsense", ""):
                    with pytest.raises(KeyError) as caught:
                        await call(unknown)
                    assert caught.value.args == (unknown,)

        self.run(scenario)

    def test_a_flush_deletes_dead_letters(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[DeadLetter]:
            await self.bury(layer, "jobs", 1)
            await layer.flush()
            return await layer.dead_letters()

        assert self.run(scenario) == []

    def test_a_dead_letter_without_bytes_keeps_its_event(self) -> None:
        async def scenario(layer: ChannelLayer) -> DeadLetter:
            await layer.bury(Delivery("jobs", event(1), b"", 0.0), letter("jobs", 1))
            (kept,) = await layer.dead_letters()
            return kept

        assert self.run(scenario).event == event(1)

    @pytest.mark.parametrize("body", [b"\xc1", b"\x81\xa1", b"\x01", b"\xa1\xff", b"\x81\x90\x01"])
    def test_unreadable_bytes_are_a_delivery_with_a_problem(self, body: bytes) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[Delivery, DeadLetter]:
            await self.plant(layer, body)
            (delivery,) = await layer.take("jobs", 1)
            await layer.bury(delivery, letter_for(delivery, "unreadable", delivery.problem))
            (kept,) = await layer.dead_letters()
            return delivery, kept

        delivery, kept = self.run(scenario)
        assert (delivery.event, delivery.body) == (None, body)
        assert (kept.event, kept.body, kept.code, kept.reason) == (None, body, "unreadable", delivery.problem)

    def test_a_waiting_take_survives_unreadable_bytes(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[Event, list[str]]:
            await self.plant(layer, b"\xc1")
            await layer.send("jobs", event(1))
            return await layer.receive("jobs"), [kept.code for kept in await layer.dead_letters()]

        assert self.run(scenario) == (event(1), ["unreadable"])

    def test_burying_an_event_that_another_worker_has_taken_stores_no_dead_letter(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Any]:
            await layer.send("jobs", event(1))
            (late,) = await layer.take("jobs", 1, lease=0)
            (suspect,) = await layer.take("jobs", 1, lease=60)
            await layer.bury(late, letter("jobs", 1))
            kept: list[Any] = [await layer.dead_letters("jobs")]
            for _ in range(2):
                await layer.bury(suspect, letter("jobs", 1))
                kept.append(len(await layer.dead_letters("jobs")))
            return kept

        assert self.run(scenario) == [[], 1, 1]
