"""Taken with a lease, an event stays until it is settled."""

import asyncio

import pytest

from channelmap.errors import LayerError
from channelmap.layer import ChannelLayer, Delivery
from channelmap.terms import Limits

from .suite import Suite, event, numbers, until_blocked


class Leases(Suite):
    """Taken with a lease, an event stays until it is settled."""

    def test_what_is_not_settled_comes_again_as_the_second_attempt(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            taken = await layer.take("jobs", 3, lease=0.02)
            await layer.settle(taken[1:2])
            return taken + await layer.take("jobs", 3, lease=60)

        deliveries = self.run(scenario)
        assert [(d.event["id"], d.attempt) for d in deliveries if d.event] == [
            (1, 1), (2, 1), (3, 1), (1, 2), (3, 2)
        ]  # fmt: skip

    def test_a_leased_event_is_nobody_elses(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=60)
            return numbers(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [2]

    def test_what_comes_again_comes_before_the_rest_and_in_order(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 2, lease=0)
            await layer.send("jobs", event(3))
            return numbers(await layer.take("jobs", 9))

        assert self.run(scenario) == [1, 2, 3]

    def test_retrying_is_a_further_attempt(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1))
            attempts = []
            for _ in range(3):
                (delivery,) = await layer.take("jobs", 1, lease=60)
                attempts.append(delivery.attempt)
                await layer.retry(delivery, 0.01)
            return attempts

        assert self.run(scenario) == [1, 2, 3]

    def test_a_retry_wakes_one_who_waits_for_the_end_of_the_lease(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=60)
            taking = asyncio.create_task(layer.take("jobs", 1, lease=60))
            await until_blocked()
            await layer.retry(delivery, 0.01)
            return await taking

        (delivery,) = self.run(scenario)
        assert delivery.attempt == 2

    def test_a_renewed_lease_runs_longer(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            first = await layer.take("jobs", 1, lease=0.05)
            await layer.renew(first, 60)
            await layer.take("jobs", 1, lease=0.1)
            return numbers(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [2]

    def test_giving_back_is_no_attempt(self) -> None:
        async def scenario(layer: ChannelLayer) -> Delivery:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=0)
            await layer.give_back(await layer.take("jobs", 1, lease=60))
            (delivery,) = await layer.take("jobs", 1, lease=60)
            return delivery

        delivery = self.run(scenario)
        assert (numbers([delivery]), delivery.attempt) == ([1], 2)

    def test_who_comes_too_late_touches_nobody_elses(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            late = await layer.take("jobs", 1, lease=0)
            await layer.take("jobs", 1, lease=0.05)
            await layer.settle(late)
            await layer.give_back(late)
            await layer.renew(late, 60)
            assert await layer.waiting("jobs") == 0
            return await layer.take("jobs", 9)

        (delivery,) = self.run(scenario)
        assert delivery.attempt == 3

    def test_what_was_taken_for_good_cannot_be_retried(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1)
            await layer.settle([delivery])
            await layer.retry(delivery, 1)

        with pytest.raises(LayerError, match="only what was taken with a lease"):
            self.run(scenario)

    def test_what_was_delivered_before_does_not_expire(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=0)
            layer._known["jobs"] = Limits(expiry=0)
            return await layer.take("jobs", 9)

        (delivery,) = self.run(scenario)
        assert (numbers([delivery]), delivery.attempt) == ([1], 2)
