"""Tests with several events, takers and event loops at once."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from channelmap.errors import LayerUnavailable
from channelmap.layer import ChannelLayer, Delivery

from .suite import Suite, event, numbers, until_blocked


class Batches(Suite):
    """Several events, takers and event loops at once."""

    def test_a_take_returns_all_waiting_events_up_to_its_limit(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            await layer.send_many("jobs", [event(number) for number in range(5)])
            return [numbers(await layer.take("jobs", 3)), numbers(await layer.take("jobs", 3))]

        assert self.run(scenario) == [[0, 1, 2], [3, 4]]

    def test_sending_no_events_does_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> int | None:
            await layer.send_many("jobs", [])
            return await layer.waiting("jobs")

        assert self.run(scenario) == 0

    def test_competing_takers_get_each_event_once(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            got: list[int] = []

            async def take() -> None:
                while len(got) < 200:
                    got.extend(numbers(await layer.take("jobs", 3)))

            takers = [asyncio.create_task(take()) for _ in range(4)]
            for number in range(200):
                await layer.send("jobs", event(number))
                await asyncio.sleep(0)
            await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
            for taker in takers:
                taker.cancel()
            await asyncio.gather(*takers, return_exceptions=True)
            return got

        assert sorted(self.run(scenario)) == list(range(200))

    @pytest.mark.parametrize("lease", [None, 60])
    def test_cancelling_a_take_at_any_moment_loses_nothing(self, lease: float | None) -> None:
        """No event is left under a lease without an owner."""

        async def scenario(layer: ChannelLayer) -> list[int]:
            got: list[int] = []
            for number in range(40):
                taking = asyncio.create_task(layer.take("jobs", 5, lease=lease))
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                await layer.send("jobs", event(number))
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                taking.cancel()
                with suppress(asyncio.CancelledError):
                    got += numbers(await taking)
            return got + numbers(await layer.take("jobs", 100, wait=False))

        assert self.run(scenario) == list(range(40))

    def test_event_loops_of_two_threads_share_a_layer(self) -> None:
        layer = self.open()
        started = threading.Event()

        async def take() -> list[int]:
            first = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            started.set()
            return numbers(await first) + numbers(await layer.take("jobs", 1))

        async def send() -> None:
            await layer.send("jobs", event(1))
            await layer.send("jobs", event(2))

        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(lambda: asyncio.run(take()))
            assert started.wait(20)
            asyncio.run(send())
            assert taken.result(20) == [1, 2]
        asyncio.run(layer.close())

    def test_waiting_events_are_counted(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int | None]:
            counts = [await layer.waiting("jobs")]
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            counts.append(await layer.waiting("jobs"))
            await layer.give_back(await layer.take("jobs", 2))
            counts.append(await layer.waiting("jobs"))
            return counts

        assert self.run(scenario) == [0, 3, 3]

    def test_returned_events_are_taken_first_and_in_order(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send_many("jobs", [event(number) for number in range(5)])
            taken = await layer.take("jobs", 3)
            await layer.settle(taken[:1])
            await layer.give_back(taken[1:])
            return await layer.take("jobs", 10)

        deliveries = self.run(scenario)
        assert numbers(deliveries) == [1, 2, 3, 4]
        assert {delivery.attempt for delivery in deliveries} == {1}

    def test_a_returned_event_wakes_a_waiting_take(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1))
            taken = await layer.take("jobs", 1)
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            await layer.give_back(taken)
            return numbers(await taking)

        assert self.run(scenario) == [1]

    def test_closing_ends_a_waiting_take(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            await layer.close()
            await taking

        with pytest.raises(LayerUnavailable, match=r"the layer was closed$"):
            self.run(scenario)

    def test_closing_ends_a_take_in_another_thread(self) -> None:
        layer = self.open()
        started = threading.Event()

        async def take() -> None:
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            started.set()
            await asyncio.wait_for(taking, 20)

        with ThreadPoolExecutor(1) as thread:
            ended = thread.submit(lambda: asyncio.run(take()))
            assert started.wait(20)
            asyncio.run(layer.close())
            assert isinstance(ended.exception(20), LayerUnavailable)

    def test_a_closed_layer_can_be_used_again(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1))
            await layer.close()
            taken = await layer.take("jobs", 1)
            await layer.close()
            taking = asyncio.create_task(layer.take("jobs", 1))
            await until_blocked()
            await layer.send("jobs", event(2))
            return numbers(taken + await taking)

        assert self.run(scenario) == [1, 2]

    def test_a_delivery_has_the_time_at_which_it_was_sent(self) -> None:
        async def scenario(layer: ChannelLayer) -> Delivery:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1)
            return delivery

        delivery = self.run(scenario)
        age = time.time() - delivery.sent
        assert (delivery.channel, delivery.attempt, delivery.problem) == ("jobs", 1, "")
        assert 0 <= age < 20
