"""An event that was taken with a lease stays in the layer until it is settled."""

import asyncio
import time

import pytest

from channelmap.errors import LayerError
from channelmap.layer import ChannelLayer, Delivery
from channelmap.limits import Limits

from .suite import Suite, event, letter, numbers, until_blocked


def facts(deliveries: list[Delivery]) -> list[tuple[int, int, bool]]:
    """Return number, attempt and whether it is a suspect, of each delivery."""
    return [(number, one.attempt, one.suspect) for one, number in zip(deliveries, numbers(deliveries), strict=True)]


class Leases(Suite):
    """An event that was taken with a lease stays in the layer until it is settled."""

    def test_an_unsettled_event_is_redelivered_alone_as_the_same_attempt_and_is_a_suspect(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[tuple[int, int, bool]]]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            taken = await layer.take("jobs", 3, lease=0.02)
            await layer.settle(taken[1:2])
            first = await layer.take("jobs", 3, lease=60)
            await layer.send("jobs", event(4))
            again = [await layer.take("jobs", 3, lease=60) for _ in range(2)]
            return [facts(taken), facts(first), *map(facts, again)]

        assert self.run(scenario) == [
            [(1, 1, False), (2, 1, False), (3, 1, False)], [(1, 1, True)], [(3, 1, True)], [(4, 1, False)]
        ]  # fmt: skip

    def test_a_leased_event_is_not_taken_by_another_worker(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=60)
            return numbers(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [2]

    def test_redelivered_events_come_before_others_and_in_order(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 2, lease=0)
            await layer.send("jobs", event(3))
            return numbers(await layer.take("jobs", 9))

        assert self.run(scenario) == [1, 2, 3]

    def test_a_take_without_a_lease_may_take_fewer_events_than_are_due_for_redelivery(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[tuple[int, int, bool]]]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            await layer.take("jobs", 3, lease=0)
            first = await layer.take("jobs", 1)
            return [facts(first), facts(await layer.take("jobs", 9, lease=60)), facts(await layer.take("jobs", 9))]

        assert self.run(scenario) == [[(1, 1, False)], [(2, 1, True)], [(3, 1, False)]]

    def test_due_retries_and_waiting_events_are_taken_together_up_to_the_limit_and_leased(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            await layer.send_many("jobs", [event(number) for number in range(6)])
            for delivery in await layer.take("jobs", 2, lease=60):
                await layer.retry(delivery, 0)
            first = await layer.take("jobs", 3, lease=60)
            for delivery in first:
                await layer.retry(delivery, 0)
            second = await layer.take("jobs", 4)
            await layer.send_many("jobs", [event(6)])
            third = await layer.take("jobs", 9, lease=60)
            return [*map(numbers, (first, second, third, await layer.take("jobs", 9, wait=False)))]

        assert self.run(scenario) == [[0, 1, 2], [0, 1, 2, 3], [4, 5, 6], []]

    def test_a_waiting_take_with_a_lease_returns_a_leased_event(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            taking = asyncio.create_task(layer.take("jobs", 1, lease=60))
            await until_blocked()
            await layer.send("jobs", event(1))
            (delivery,) = await taking
            await layer.retry(delivery, 0)
            return [delivery.attempt for delivery in await layer.take("jobs", 1)]

        assert self.run(scenario) == [2]

    def test_suspects_and_other_events_with_and_without_leases_are_returned_together(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            await layer.send_many("jobs", [event(number) for number in range(6)])
            await layer.take("jobs", 1, lease=0)
            taken = await layer.take("jobs", 1, lease=60)
            taken += await layer.take("jobs", 2, lease=60)
            taken += await layer.take("jobs", 2)
            await layer.give_back(taken[1:] + taken[:1])
            return [numbers(await layer.take("jobs", 9, lease=60)) for _ in range(2)]

        assert self.run(scenario) == [[0], [1, 2, 3, 4, 5]]

    def test_a_retry_counts_as_a_further_attempt(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send("jobs", event(1))
            attempts = []
            for _ in range(3):
                (delivery,) = await layer.take("jobs", 1, lease=60)
                attempts.append(delivery.attempt)
                await layer.retry(delivery, 0.01)
            return attempts

        assert self.run(scenario) == [1, 2, 3]

    def test_a_retry_wakes_a_take_that_waits_for_the_end_of_the_lease(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=60)
            taking = asyncio.create_task(layer.take("jobs", 1, lease=60))
            await until_blocked()
            await layer.retry(delivery, 0.01)
            return await taking

        (delivery,) = self.run(scenario)
        assert delivery.attempt == 2

    def test_a_renewed_lease_lasts_longer(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            first = await layer.take("jobs", 1, lease=0.05)
            await layer.renew(first, 60)
            await layer.take("jobs", 1, lease=0.1)
            return numbers(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [2]

    def test_peek_shows_when_a_leased_event_was_sent(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[float], list[float]]:
            await layer.send_many("jobs", [event(1), event(2)])
            taken = await layer.take("jobs", 2, lease=60)
            return [one.sent for one in taken], [one.sent async for one in layer.peek("jobs")]

        taken, peeked = self.run(scenario)
        assert peeked == pytest.approx(taken, abs=0.01)

    def test_an_event_that_was_renewed_alone_is_counted_once(self) -> None:
        async def scenario(layer: ChannelLayer) -> int:
            await layer.send_many("jobs", [event(number) for number in range(3)])
            taken = await layer.take("jobs", 3, lease=60)
            await layer.renew(taken[1:2], 60)
            return (await layer.counts(["jobs"]))["jobs"].leased

        assert self.run(scenario) == 3

    @pytest.mark.parametrize("together", [True, False])
    def test_events_of_which_one_was_renewed_alone_are_all_settled(self, together: bool) -> None:  # noqa: FBT001
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            taken = await layer.take("jobs", 3, lease=60)
            await layer.renew(taken[1:2], 90)
            for some in [taken] if together else [taken[2:], taken[:2]]:
                await layer.settle(some)
            return [one async for one in layer.peek("jobs")]

        assert self.run(scenario) == []

    def test_events_are_redelivered_in_the_order_in_which_they_became_due(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[tuple[int, int, bool]]]:
            await layer.send_many("jobs", [event(1), event(2)])
            first, second = await layer.take("jobs", 2, lease=60)
            await layer.renew([second], 0)
            await layer.retry(first, 0.01)
            while found := [one async for one in layer.peek("jobs") if one.due and one.due > time.time()]:
                assert len(found) == 1
            return [facts(await layer.take("jobs", 9, lease=60)) for _ in range(2)]

        assert self.run(scenario) == [[(2, 1, True)], [(1, 2, False)]]

    def test_returning_an_event_does_not_count_as_an_attempt(self) -> None:
        async def scenario(layer: ChannelLayer) -> Delivery:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=0)
            await layer.give_back(await layer.take("jobs", 1, lease=60))
            (delivery,) = await layer.take("jobs", 1, lease=60)
            return delivery

        assert facts([self.run(scenario)]) == [(1, 1, True)]

    def test_returned_suspects_are_taken_first_in_order_and_alone(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[tuple[int, int, bool]]:
            await layer.send_many("jobs", [event(number) for number in range(1, 5)])
            await layer.take("jobs", 3, lease=0)
            suspects = [*await layer.take("jobs", 9, lease=60), *await layer.take("jobs", 9, lease=60)]
            await layer.give_back(suspects)
            await layer.settle(suspects)
            return facts([one for _ in range(4) for one in await layer.take("jobs", 1, lease=60)])

        assert self.run(scenario) == [(1, 1, True), (2, 1, True), (3, 1, True), (4, 1, False)]

    def test_a_returned_suspect_keeps_its_crashes(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[tuple[int, bool, int]]:
            await layer.send("jobs", event(1))
            await layer.take("jobs", 1, lease=0)
            (suspect,) = await layer.take("jobs", 1, lease=60)
            await layer.begin(suspect)
            await layer.renew([suspect], 0)
            deliveries = []
            for _ in range(2):
                deliveries += (taken := await layer.take("jobs", 1, lease=60))
                await layer.give_back(taken)
            return [(one.attempt, one.suspect, one.crashes) for one in deliveries]

        assert self.run(scenario) == [(2, True, 1)] * 2

    def test_a_returned_suspect_wakes_a_waiting_take(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            await layer.take("jobs", 1, lease=0)
            taken = await layer.take("jobs", 1, lease=60)
            taking = asyncio.create_task(layer.take("jobs", 1, lease=60))
            await until_blocked()
            await layer.give_back(taken)
            return await taking

        assert facts(self.run(scenario)) == [(1, 1, True)]

    def test_an_ended_lease_counts_as_an_attempt_only_if_its_handler_had_begun(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[tuple[int, bool, int]]:
            await layer.send("jobs", event(1))
            deliveries = await layer.take("jobs", 1, lease=0)
            for begins in (False, True, False, True):
                (suspect,) = await layer.take("jobs", 9, lease=60)
                if begins:
                    assert await layer.begin(suspect)
                await layer.renew([suspect], 0)
                deliveries.append(suspect)
            deliveries += await layer.take("jobs", 9, lease=60)
            return [(one.attempt, one.suspect, one.crashes) for one in deliveries]

        assert self.run(scenario) == [
            (1, False, 0), (1, True, 0), (1, True, 0), (2, True, 1), (2, True, 1), (3, True, 2)
        ]  # fmt: skip

    def test_a_begun_suspect_can_be_renewed_settled_and_buried(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 2, lease=0)
            for number in (1, 2):
                (suspect,) = await layer.take("jobs", 1, lease=60)
                assert await layer.begin(suspect)
                await layer.renew([suspect], 90)
                if number == 1:
                    await layer.settle([suspect])
                else:
                    await layer.bury(suspect, letter("jobs", 2))
            assert [one async for one in layer.peek("jobs")] == []

        self.run(scenario)

    def test_a_retried_suspect_is_no_longer_a_suspect_and_has_no_crashes(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[tuple[int, bool, int]]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=0)
            (suspect,) = await layer.take("jobs", 1, lease=60)
            await layer.begin(suspect)
            await layer.renew([suspect], 0)
            (suspect,) = await layer.take("jobs", 1, lease=60)
            assert suspect.crashes == 1
            await layer.begin(suspect)
            await layer.retry(suspect, 0)
            retried, _ = await layer.take("jobs", 9, lease=0)
            (again,) = await layer.take("jobs", 1, lease=60)
            return [(one.attempt, one.suspect, one.crashes) for one in (retried, again)]

        assert self.run(scenario) == [(3, False, 0), (3, True, 0)]

    def test_due_retries_are_never_taken_together_with_a_suspect(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[tuple[int, int, bool]]]:
            await layer.send_many("jobs", [event(number) for number in range(1, 6)])
            first, second, third, _ = await layer.take("jobs", 4, lease=60)
            await layer.retry(first, 0)
            await layer.retry(second, 0)
            await layer.renew([third], 0)
            return [facts(await layer.take("jobs", 9, lease=60)) for _ in range(3)]

        assert self.run(scenario) == [[(1, 2, False), (2, 2, False)], [(3, 1, True)], [(5, 1, False)]]

    @pytest.mark.parametrize("call", ["settle", "give_back", "renew", "begin", "retry", "bury"])
    def test_after_a_retry_its_former_delivery_has_no_effect(self, call: str) -> None:
        async def scenario(layer: ChannelLayer) -> list[tuple[int, int, bool]]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=60)
            await layer.retry(delivery, 0.05)
            match call:
                case "settle":
                    await layer.settle([delivery])
                case "give_back":
                    await layer.give_back([delivery])
                case "renew":
                    await layer.renew([delivery], 60)
                case "begin":
                    assert not await layer.begin(delivery)
                case "retry":
                    await layer.retry(delivery, 60)
                case "bury":
                    await layer.bury(delivery, letter("jobs", 1))
            assert await layer.waiting("jobs") == 0
            return facts(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [(1, 2, False)]

    def test_a_stale_delivery_does_not_affect_the_new_lease(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            late = await layer.take("jobs", 1, lease=0)
            await layer.take("jobs", 1, lease=0.05)
            await layer.settle(late)
            await layer.give_back(late)
            await layer.renew(late, 60)
            assert not await layer.begin(late[0])
            await layer.retry(late[0], 60)
            assert await layer.waiting("jobs") == 0
            return await layer.take("jobs", 9, lease=60)

        assert facts(self.run(scenario)) == [(1, 1, True)]

    def test_an_event_taken_without_a_lease_cannot_be_begun(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send("jobs", event(1))
            await layer.begin(*await layer.take("jobs", 1))

        with pytest.raises(LayerError, match="only an event that was taken with a lease"):
            self.run(scenario)

    def test_an_event_taken_without_a_lease_cannot_be_retried(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1)
            await layer.settle([delivery])
            await layer.retry(delivery, 1)

        with pytest.raises(LayerError, match="only an event that was taken with a lease"):
            self.run(scenario)

    def test_a_redelivered_event_does_not_expire(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=0)
            layer._cached_limits["jobs"] = Limits(expiry=0)
            return await layer.take("jobs", 9)

        assert numbers(self.run(scenario)) == [1]

    @pytest.mark.parametrize("attempt", [1, 2])
    def test_a_returned_suspect_or_retry_does_not_expire(self, attempt: int) -> None:
        async def scenario(layer: ChannelLayer) -> list[tuple[int, int, bool]]:
            await layer.send_many("jobs", [event(1), event(2)])
            (delivery,) = await layer.take("jobs", 1, lease=60)
            if attempt == 1:
                await layer.renew([delivery], 0)
            else:
                await layer.retry(delivery, 0)
            again = await layer.take("jobs", 1, lease=60)
            layer._cached_limits["jobs"] = Limits(expiry=0)
            await layer.give_back(again)
            assert numbers([one async for one in layer.peek("jobs")]) == [1]
            return facts(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [(1, attempt, attempt == 1)]
