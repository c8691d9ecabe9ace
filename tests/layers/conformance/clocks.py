"""Tests with a wall clock that is set backward or forward: no event is lost, delivered twice or late."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from channelmap.layer import ChannelLayer
from channelmap.limits import Limits

from .suite import Suite, event, numbers

HOUR = 3_600.0
STEPS = pytest.mark.parametrize("step", [-HOUR, 120.0, 2 * HOUR])


@contextmanager
def wall_clock() -> Iterator[Callable[[float], None]]:
    """Return a function that shifts the wall clock of this process by seconds."""
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        yield lambda step: patch.setattr(time, "time", lambda: real() + step)


class Clocks(Suite):
    """The wall clocks of senders and workers have no effect."""

    @STEPS
    def test_an_event_does_not_expire_because_a_clock_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            with wall_clock() as turn:
                await layer.send("jobs", event(1))
                layer.send_sync("held", event(1))
                turn(step)
                await layer.send("jobs", event(2))
                seen = [delivery async for delivery in layer.peek("jobs")]
                held = await layer.take("held", 9, lease=60, wait=False)
                taken = await layer.take("jobs", 9, wait=False)
            return [sorted(numbers(deliveries)) for deliveries in (seen, held, taken)]

        assert self.run(scenario, expiry=60) == [[1, 2], [1], [1, 2]]

    @STEPS
    def test_an_event_of_a_sender_whose_clock_is_wrong_does_not_expire(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                turn(step)
                await layer.send("jobs", event(1))
                await layer.send_many("jobs", [event(2)])
                turn(0)
                await layer.send("jobs", event(3))
                return sorted(numbers(await layer.take("jobs", 9, wait=False)))

        assert self.run(scenario, expiry=60) == [1, 2, 3]

    @STEPS
    @pytest.mark.parametrize("lease", [None, 60])
    def test_a_returned_event_does_not_expire_because_a_clock_was_set(self, step: float, lease: float | None) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                await layer.send("jobs", event(1))
                taken = await layer.take("jobs", 9, lease=lease)
                turn(step)
                await layer.give_back(taken)
                return numbers(await layer.take("jobs", 9, lease=lease, wait=False))

        assert self.run(scenario, expiry=60) == [1]

    def test_an_event_that_has_waited_too_long_expires_although_the_clock_was_set_back(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                await layer.send("brief", event(1))
                turn(-HOUR)
                return numbers(await layer.take("brief", 9, wait=False))

        assert self.run(scenario, limits={"brief": Limits(expiry=0)}) == []

    @STEPS
    def test_a_lease_does_not_end_because_a_clock_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                await layer.send_many("jobs", [event(1), event(2)])
                first, _ = await layer.take("jobs", 2, lease=60)
                turn(step)
                await layer.renew([first], 60)
                return numbers(await layer.take("jobs", 9, lease=60, wait=False))

        assert self.run(scenario) == []

    @STEPS
    def test_a_lease_ends_in_time_although_a_clock_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                await layer.send("jobs", event(1))
                await layer.take("jobs", 1, lease=0.02)
                turn(step)
                return numbers(await layer.take("jobs", 9, lease=60))

        assert self.run(scenario) == [1]

    @STEPS
    def test_a_retry_is_due_in_time_although_a_clock_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[list[int]]:
            with wall_clock() as turn:
                await layer.send_many("jobs", [event(1), event(2)])
                soon, late = await layer.take("jobs", 2, lease=60)
                await layer.retry(soon, 0.02)
                await layer.retry(late, 60)
                turn(step)
                return [
                    numbers(await layer.take("jobs", 1, lease=60)),
                    numbers(await layer.take("jobs", 1, lease=60, wait=False)),
                ]

        assert self.run(scenario) == [[1], []]

    @STEPS
    def test_a_membership_does_not_expire_because_a_clock_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                await layer.group_add("group", "one")
                turn(step)
                await layer.group_add("group", "two")
                turn(0)
                await layer.group_send("group", event(1))
                return numbers(await layer.take("one", 9, wait=False) + await layer.take("two", 9, wait=False))

        assert self.run(scenario, group_expiry=60) == [1, 1]

    @STEPS
    def test_an_event_for_one_consumer_does_not_expire_because_a_clock_was_set(self, step: float) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            with wall_clock() as turn:
                name = await layer.new_channel()
                await layer.send(name, event(1))
                turn(step)
                ids = [(await layer.receive(name))["id"]]
                await layer.send(name, event(2))
                turn(0)
                return [*ids, (await layer.receive(name))["id"]]

        assert self.run(scenario, expiry=60) == [1, 2]
