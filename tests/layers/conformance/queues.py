"""Events are sent and taken."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from asgiref.sync import async_to_sync

from channelmap.asgi import Event
from channelmap.layer import ChannelLayer, Delivery

from .suite import Suite, event, numbers, until_blocked


class Queues(Suite):
    """Events are sent and taken."""

    def test_events_are_taken_in_the_order_in_which_they_were_sent(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Event]:
            for number in range(5):
                await layer.send("jobs", event(number))
            return [await layer.receive("jobs") for _ in range(5)]

        assert self.run(scenario) == [event(number) for number in range(5)]

    def test_events_of_different_channels_are_kept_apart(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[list[Delivery], list[Delivery]]:
            await layer.send("jobs", event(1))
            await layer.send("jobs.more", event(2))
            return await layer.take("jobs.more", 1), await layer.take("jobs", 1)

        second, first = self.run(scenario)
        assert (numbers(first), numbers(second)) == ([1], [2])

    def test_a_take_that_does_not_wait_returns_nothing_from_an_empty_channel(self) -> None:
        assert self.run(lambda layer: layer.take("jobs", 5, wait=False)) == []

    def test_a_send_wakes_a_waiting_take(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            taking = asyncio.create_task(layer.take("jobs", 5))
            await until_blocked()
            await layer.send("jobs", event(7))
            return numbers(await taking)

        assert self.run(scenario) == [7]

    def test_cancelling_a_blocked_take_loses_nothing(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[int]:
            taking = asyncio.create_task(layer.take("jobs", 5))
            await until_blocked()
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
            await layer.send("jobs", event(1))
            return numbers(await layer.take("jobs", 5))

        assert self.run(scenario) == [1]

    def test_values_are_delivered_as_msgpack_encodes_them(self) -> None:
        sent = {"type": "a", "raw": b"\x00\xff", "pair": (1, 2), "deep": {"list": [None, True, 1.5, "ü"]}, "big": 2**63}
        sent["keys"] = {1: 2}
        received = self.run(lambda layer: self._through(layer, sent))
        assert received == {**sent, "pair": self.pair_arrives_as}

    def test_an_event_without_a_type_is_accepted(self) -> None:
        assert self.run(lambda layer: self._through(layer, {})) == {}

    def test_changing_an_event_after_its_send_has_no_effect(self) -> None:
        async def scenario(layer: ChannelLayer) -> Event:
            mine = {"type": "a", "items": [1]}
            await layer.send("jobs", mine)
            mine["items"].append(2)  # type: ignore[attr-defined]
            return await layer.receive("jobs")

        assert self.run(scenario) == {"type": "a", "items": [1]}

    async def _through(self, layer: ChannelLayer, sent: Event) -> Event:
        await layer.send("jobs", sent)
        return await layer.receive("jobs")

    def test_private_channels_are_unique(self) -> None:
        async def scenario(layer: ChannelLayer) -> tuple[str, str, Event]:
            mine, yours = await layer.new_channel(), await layer.new_channel()
            await layer.send(mine, event(1))
            return mine, yours, await layer.receive(mine)

        mine, yours, received = self.run(scenario)
        assert mine.startswith("specific.")
        assert "!" in mine
        assert mine != yours
        assert received == event(1)

    def test_a_flush_deletes_waiting_events(self) -> None:
        async def scenario(layer: ChannelLayer) -> list[Delivery]:
            await layer.send("jobs", event(1))
            await layer.flush()
            return await layer.take("jobs", 1, wait=False)

        assert self.run(scenario) == []

    def test_a_message_must_be_a_dict(self) -> None:
        with pytest.raises(AssertionError, match=r"^message is not a dict$"):
            self.run(lambda layer: layer.send("jobs", [1]))  # type: ignore[arg-type]

    def test_the_reserved_key_is_rejected(self) -> None:
        with pytest.raises(AssertionError):
            self.run(lambda layer: layer.send("jobs", {"__asgi_channel__": "x"}))

    def test_threads_send_without_a_loop(self) -> None:
        layer = self.open()
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: layer.send_sync("jobs", event(number)), range(40)))

        async def take() -> list[int]:
            return [(await layer.receive("jobs"))["id"] for _ in range(40)]

        assert sorted(asyncio.run(take())) == list(range(40))
        asyncio.run(layer.close())

    def test_async_to_sync_sends_repeatedly(self) -> None:
        layer = self.open()
        async_to_sync(layer.send)("jobs", event(1))
        async_to_sync(layer.send)("jobs", event(2))

        async def take() -> list[int]:
            return [(await layer.receive("jobs"))["id"] for _ in range(2)]

        assert asyncio.run(take()) == [1, 2]
        asyncio.run(layer.close())
