"""An event that is sent with a delay waits apart from the queue until it is due."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from channelmap.errors import ChannelFull
from channelmap.layer import ChannelLayer, Delivery
from channelmap.limits import Limits

from .suite import Suite, event, numbers, until_blocked

LEASES = pytest.mark.parametrize("lease", [None, 60.0], ids=["for good", "leased"])


class Scheduled(Suite):
    """An event that is sent with a delay waits apart from the queue until it is due."""

    @LEASES
    def test_a_delayed_event_wakes_a_waiting_take_when_it_is_due_and_not_before(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[Delivery, float]:
            taking = asyncio.create_task(layer.take("jobs", 1, lease=lease))
            await until_blocked()
            begun = time.monotonic()
            await layer.send("jobs", event(1), delay=0.2)
            assert not taking.done()
            (delivery,) = await taking
            return delivery, time.monotonic() - begun

        delivery, waited = self.run(scenario)
        assert (numbers([delivery]), delivery.attempt, delivery.suspect) == ([1], 1, False)
        assert waited >= 0.2

    def test_a_waiting_take_gets_a_delayed_event_when_it_is_due_while_another_event_is_leased(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1))
            await layer.take("jobs", 1, lease=3_600)
            await layer.send("jobs", event(2), delay=0.1)
            # Sooner than the regular check of all channels, which needs no notification.
            async with asyncio.timeout(10):
                return numbers(await layer.take("jobs", 1, lease=60))

        assert self.run(scenario) == [2]

    @LEASES
    def test_delayed_events_are_taken_in_the_order_in_which_they_are_due(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            for number, delay in ((1, 0.15), (2, 0.05), (3, 0.1)):
                await layer.send("jobs", event(number), delay=delay)
            return [number for _ in range(3) for number in numbers(await layer.take("jobs", 1, lease=lease))]

        assert self.run(scenario) == [2, 3, 1]

    def test_a_due_event_is_taken_after_events_sent_before_it_was_due(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1), delay=0.05)
            await layer.send_many("jobs", [event(2), event(3)])
            while await self.due_in(layer) > 0:
                pass
            return [number for _ in range(3) for number in numbers(await layer.take("jobs", 1, lease=60))]

        assert self.run(scenario) == [2, 3, 1]

    async def due_in(self, layer: ChannelLayer) -> float:
        """Return the seconds until the scheduled event is due; 0 or less if none is scheduled."""
        return max([one.due - time.time() async for one in layer.peek("jobs") if one.due is not None], default=0)

    @LEASES
    def test_events_that_are_sent_together_with_a_delay_keep_their_order(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(number) for number in range(20)], delay=0.01)
            shown = numbers([one async for one in layer.peek("jobs")])
            assert shown == [*range(20)]
            return [number for _ in range(20) for number in numbers(await layer.take("jobs", 1, lease=lease))]

        assert self.run(scenario) == [*range(20)]

    def test_every_way_of_sending_takes_a_delay_or_a_time(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[Any], dict[str, Any]]:
            now = datetime.now(UTC)
            ids = [
                await layer.send("jobs", event(1), delay=100),
                await layer.send("jobs", event(2), at=now + timedelta(seconds=200)),
                layer.send_sync("jobs", event(3), delay=300),
                *(await layer.send_many("jobs", [event(4), event(5)], delay=400) or []),
            ]
            found = {one.id: one async for one in layer.peek("jobs")}
            assert await layer.take("jobs", 9, wait=False) == []
            return ids, {
                id_: (numbers([one]), one.due and round(one.due - now.timestamp(), -1)) for id_, one in found.items()
            }

        ids, found = self.run(scenario)
        assert [found[id_] for id_ in ids] == [([1], 100), ([2], 200), ([3], 300), ([4], 400), ([5], 400)]

    def test_an_event_keeps_its_id_while_it_waits(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[Any, Delivery]:
            sent = await layer.send("jobs", event(1), delay=0.01)
            return sent, (await layer.take("jobs", 1))[0]

        sent, delivery = self.run(scenario)
        assert delivery.id == sent

    def test_the_sent_time_of_a_delayed_event_is_the_time_at_which_it_was_due(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[float, float]:
            await layer.send("jobs", event(1), delay=0.3)
            (shown,) = [one async for one in layer.peek("jobs")]
            (delivery,) = await layer.take("jobs", 1)
            assert shown.due is not None
            return shown.due, delivery.sent

        due, sent = self.run(scenario, expiry=0.25)
        assert abs(due - sent) < 0.1

    def test_scheduled_events_are_not_counted_as_waiting_and_not_taken_before_they_are_due(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[int | None, list[Delivery]]:
            await layer.send("jobs", event(1), delay=60)
            return await layer.waiting("jobs"), await layer.take("jobs", 9, lease=60, wait=False)

        assert self.run(scenario) == (0, [])

    def test_scheduled_events_count_towards_the_capacity(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[str]:
            await layer.send("jobs", event(1), delay=60)
            await layer.send("jobs", event(2))
            outcomes = []
            for send in (
                lambda: layer.send("jobs", event(3)),
                lambda: layer.send("jobs", event(3), delay=60),
                lambda: layer.send_many("jobs", [event(3)]),
            ):
                with pytest.raises(ChannelFull) as raised:
                    await send()
                outcomes.append(raised.value.channel)
            with pytest.raises(ChannelFull):
                layer.send_sync("jobs", event(3))
            await layer.take("jobs", 1)
            await layer.send("jobs", event(3), delay=60)
            with pytest.raises(ChannelFull):
                await layer.send("jobs", event(4))
            return outcomes

        assert self.run(scenario, limits={"jobs": Limits(capacity=2)}) == ["jobs"] * 3

    def test_several_delayed_events_are_all_sent_or_none(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            with pytest.raises(ChannelFull):
                await layer.send_many("jobs", [event(number) for number in range(3)], delay=60)
            return [one async for one in layer.peek("jobs")]

        assert self.run(scenario, limits={"jobs": Limits(capacity=2)}) == []

    def test_a_time_in_the_past_means_now(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1), at=datetime.now(UTC) - timedelta(days=400))
            await layer.send("jobs", event(2), delay=0)
            return numbers(await layer.take("jobs", 9, wait=False))

        assert self.run(scenario) == [1, 2]

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"delay": -1}, ValueError, "delay: expected 0 to 31622400 seconds"),
            ({"delay": float("nan")}, ValueError, "delay: expected 0 to"),
            ({"delay": 367 * 86_400}, ValueError, "366 days"),
            ({"at": datetime(9999, 1, 1, tzinfo=UTC)}, ValueError, "at: expected 0 to"),
            ({"at": datetime(2030, 1, 1)}, ValueError, "has no time zone"),  # noqa: DTZ001
            ({"at": 12.0}, TypeError, "at: expected a datetime with a time zone, got float"),
            ({"delay": "5"}, TypeError, "delay: expected a number of seconds, got str"),
            ({"delay": True}, TypeError, "got bool"),
            ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, TypeError, "not both"),
        ],
    )
    def test_an_invalid_time_is_an_error_with_a_clear_message(
        self, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            with pytest.raises(error, match=words):
                await layer.send("jobs", event(1), **options)
            with pytest.raises(error, match=words):
                layer.send_sync("jobs", event(1), **options)
            with pytest.raises(error, match=words):
                await layer.send_many("jobs", [event(1)], **options)
            assert [one async for one in layer.peek("jobs")] == []

        self.run(scenario)

    def test_a_flush_deletes_scheduled_events(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1), delay=60)
            await layer.flush()
            await layer.send("jobs", event(2))
            return [one async for one in layer.peek("jobs")]

        assert numbers(self.run(scenario, limits={"jobs": Limits(capacity=1)})) == [2]

    @LEASES
    def test_a_burst_takes_events_that_are_due_by_then(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.take("jobs", 9, lease=lease, wait=False)
            await layer.send("jobs", event(1), delay=0.05)
            while not (taken := await layer.take("jobs", 9, lease=lease, wait=False)):
                await asyncio.sleep(0)
            return numbers(taken)

        assert self.run(scenario) == [1]


class Pauses(Suite):
    """No event is taken from a paused channel; sends go on."""

    @LEASES
    def test_nothing_is_taken_from_a_paused_channel_until_it_is_resumed(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[Delivery], list[int]]:
            await layer.pause("jobs")
            await layer.send_many("jobs", [event(1), event(2)])
            nothing = await layer.take("jobs", 9, lease=lease, wait=False)
            assert numbers([one async for one in layer.peek("jobs")]) == [1, 2]
            taking = asyncio.create_task(layer.take("jobs", 9, lease=lease))
            await until_blocked()
            await layer.send("jobs", event(3))
            await until_blocked()
            assert not taking.done()
            await layer.resume("jobs")
            return nothing, numbers(await taking)

        assert self.run(scenario) == ([], [1, 2, 3])

    @LEASES
    def test_a_waiting_take_stops_at_once_when_the_channel_is_paused(self, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            taking = asyncio.create_task(layer.take("jobs", 1, lease=lease))
            await until_blocked()
            await layer.pause("jobs")
            while not await self.has_noticed(layer):
                await asyncio.sleep(0)
            await layer.send("jobs", event(1))
            await until_blocked()
            assert not taking.done()
            assert await layer.waiting("jobs") == 1
            await layer.resume("jobs")
            return numbers(await taking)

        assert self.run(scenario) == [1]

    async def has_noticed(self, layer: ChannelLayer) -> bool:
        """Return whether the waiting takes on `layer` have noticed the pause."""
        return await layer.is_paused("jobs")

    def test_a_pause_is_kept_in_the_layer_for_one_channel(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[bool]:
            found = [await layer.is_paused("jobs")]
            await layer.pause("jobs")
            await layer.pause("jobs")
            found += [await layer.is_paused("jobs"), await layer.is_paused("other")]
            await layer.send("other", event(1))
            assert numbers(await layer.take("other", 1, wait=False)) == [1]
            await layer.resume("jobs")
            await layer.resume("jobs")
            return [*found, await layer.is_paused("jobs")]

        assert self.run(scenario) == [False, True, False, False]

    def test_redeliveries_wait_for_the_end_of_a_pause_too(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            (first, second) = await layer.take("jobs", 2, lease=60)
            await layer.pause("jobs")
            await layer.retry(first, 0)
            await layer.renew([second], 0)
            await layer.send("jobs", event(4), delay=0.01)
            nothing = numbers(await layer.take("jobs", 9, lease=60, wait=False))
            await layer.resume("jobs")
            taken: list[int] = []
            while len(taken) < 4:
                taken += numbers(await layer.take("jobs", 9, lease=60))
            return [nothing, sorted(taken)]

        assert self.run(scenario) == [[], [1, 2, 3, 4]]

    def test_taken_events_can_be_settled_and_returned_during_a_pause(self) -> None:
        async def scenario(layer: ChannelLayer) -> int | None:
            await layer.send_many("jobs", [event(1), event(2)])
            first, second = await layer.take("jobs", 2, lease=60)
            await layer.pause("jobs")
            await layer.settle([first])
            await layer.give_back([second])
            return await layer.waiting("jobs")

        assert self.run(scenario) == 1
