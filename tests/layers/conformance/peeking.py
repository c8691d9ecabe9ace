"""Events of a channel are returned by `peek`, without taking them."""

from dataclasses import replace

import pytest

from channelmap.layer import ChannelLayer, Counts, Delivery
from channelmap.limits import Limits

from .suite import Suite, event, letter, numbers


async def peeked(layer: ChannelLayer, channel: str = "jobs") -> list[Delivery]:
    return [delivery async for delivery in layer.peek(channel)]


class Peeking(Suite):
    """Events of a channel are returned by `peek`, without taking them."""

    def test_peek_returns_waiting_events_oldest_first(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(0))
            await layer.give_back(await layer.take("jobs", 1))
            await layer.send("jobs", event(1))
            await layer.send("jobs", event(2))
            await layer.send("other", event(3))
            return await peeked(layer)

        shown = self.run(scenario)
        assert [(d.channel, d.event, d.attempt, d.problem) for d in shown] == [
            ("jobs", event(number), 1, "") for number in range(3)
        ]
        assert [d.sent for d in shown] == sorted(d.sent for d in shown)
        assert all(d.sent and d.body for d in shown)

    def test_peek_at_an_empty_channel_returns_nothing(self) -> None:
        assert self.run(peeked) == []

    def test_peek_takes_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> None:
            await layer.send_many("jobs", [event(number) for number in range(5)])
            leased = await layer.take("jobs", 2, lease=60)
            first, second = await peeked(layer), await peeked(layer)
            assert numbers(first) == numbers(second) == [0, 1, 2, 3, 4]
            assert await layer.waiting("jobs") == 3
            taken = await layer.take("jobs", 9)
            assert [(d.body, d.sent, d.attempt) for d in taken] == [(d.body, d.sent, d.attempt) for d in first[2:]]
            await layer.settle(leased)
            assert await peeked(layer) == []

        self.run(scenario)

    def test_peek_returns_leased_events_first(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            await layer.take("jobs", 2, lease=0)
            await layer.take("jobs", 2, lease=60)
            return await peeked(layer)

        shown = self.run(scenario)
        assert [(d.event, d.attempt) for d in shown] == [(event(2), 1), (event(1), 1), (event(3), 1)]

    def test_peek_returns_a_scheduled_retry_as_its_next_attempt(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            (delivery,) = await layer.take("jobs", 1, lease=60)
            await layer.retry(delivery, 60)
            return await peeked(layer)

        assert [(d.event, d.attempt) for d in self.run(scenario)] == [(event(1), 2)]

    def test_a_peeked_event_cannot_be_settled(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(1), event(2)])
            await layer.take("jobs", 1, lease=60)
            await layer.settle(await peeked(layer))
            return numbers(await peeked(layer))

        assert self.run(scenario) == [1, 2]

    def test_peek_leaves_out_expired_events_and_does_not_drop_them(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[int], list[int]]:
            await layer.send_many("jobs", [event(1), event(2), event(3)])
            await layer.take("jobs", 1, lease=60)
            layer._cached_limits["jobs"] = Limits(expiry=0)
            shown = numbers(await peeked(layer))
            layer._cached_limits["jobs"] = Limits()
            return shown, numbers(await layer.take("jobs", 9))

        assert self.run(scenario, expiry=None) == ([1], [2, 3])

    def test_peek_returns_unreadable_bytes_with_a_problem(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await self.plant(layer, b"\xc1")
            await layer.send("jobs", event(1))
            return await peeked(layer)

        unreadable, readable = self.run(scenario)
        assert (unreadable.event, unreadable.body) == (None, b"\xc1")
        assert unreadable.problem
        assert (readable.event, readable.problem) == (event(1), "")

    def test_peek_at_a_private_channel_returns_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            name = await layer.new_channel()
            await layer.send(name, event(1))
            return await peeked(layer, name)

        assert self.run(scenario) == []

    def test_peek_returns_many_events_once_each_and_in_order(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(number) for number in range(2_500)])
            await layer.take("jobs", 250, lease=60)
            return numbers(await peeked(layer))

        assert self.run(scenario, capacity=2_500) == list(range(2_500))

    def test_peek_returns_all_remaining_events_during_takes_and_sends(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            await layer.send_many("jobs", [event(number) for number in range(400)])
            shown: list[Delivery] = []
            async for delivery in layer.peek("jobs"):
                if len(shown) == 10:
                    assert numbers(await layer.take("jobs", 300)) == list(range(300))
                    await layer.send("jobs", event(400))
                shown.append(delivery)
            return numbers(shown)

        shown = self.run(scenario, capacity=500)
        assert shown == sorted(set(shown))
        assert set(range(300, 400)) <= set(shown)

    def test_peek_rejects_an_invalid_name(self) -> None:
        with pytest.raises(TypeError):
            self.run(lambda layer: peeked(layer, "no channel"))

    def test_counts_returns_the_events_of_many_channels_by_state(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[dict[str, Counts], dict[str, Counts]]:
            await layer.send_many("jobs", [event(number) for number in range(9)])
            await layer.send_many("jobs", [event(9), event(10)], delay=60)
            first, second, third, *_ = await layer.take("jobs", 5, lease=60)
            await layer.take("jobs", 1, lease=60)
            await layer.retry(first, 60)
            await layer.settle([second])
            await layer.renew([third], 60)
            await layer.bury(third, letter("jobs", 3))
            await layer.send("other", event(1))
            before = await layer.counts(["jobs", "other", "empty"])
            await layer.flush()
            return before, await layer.counts(["jobs"])

        before, after = self.run(scenario)
        assert {name: replace(counts, oldest=None) for name, counts in before.items()} == {
            "jobs": Counts(3, 3, 3, {"failed": 1}), "other": Counts(1, 0, 0, {}), "empty": Counts(0, 0, 0, {}),
        }  # fmt: skip
        assert after == {"jobs": Counts(0, 0, 0, {})}
