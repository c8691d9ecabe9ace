"""The base class of the suite, with helpers for events and scenarios.

No test waits for a fixed time: it waits for an event, with a time limit that only a failure reaches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, TypeVar

from channelmap.asgi import Event
from channelmap.layer import ChannelLayer, DeadLetter, Delivery

T = TypeVar("T")


def event(number: int) -> Event:
    return {"type": "job", "id": number}


def numbers(deliveries: Iterable[Delivery]) -> list[int]:
    return [delivery.event["id"] for delivery in deliveries if delivery.event is not None]


def letter(channel: str, number: int, **fields: Any) -> DeadLetter:
    known = {"code": "failed", "reason": "it broke", "event": event(number), "body": b""}
    return DeadLetter(**{"channel": channel, **known, **fields})


async def until_blocked() -> None:
    """Let every other task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


class Suite:
    """Base class of all tests of a layer: a subclass implements `open`."""

    pair_arrives_as: ClassVar[Any] = [1, 2]

    def open(self, **options: Any) -> ChannelLayer:
        raise NotImplementedError

    async def elapse(self, layer: ChannelLayer, seconds: float) -> None:
        """Make everything in the layer so many seconds older, as if time had passed: events and heartbeats."""
        raise NotImplementedError

    def run(self, scenario: Callable[[ChannelLayer], Awaitable[T]], **options: Any) -> T:
        async def main() -> T:
            layer = self.open(**options)
            try:
                async with asyncio.timeout(20):
                    return await scenario(layer)
            finally:
                await layer.close()

        return asyncio.run(main())

    async def plant(self, layer: ChannelLayer, body: bytes) -> None:
        """Put bytes onto the channel `jobs` that no sender would send."""
        await layer.bury(Delivery("jobs", None, body, 0.0), letter("jobs", 0, event=None, body=body))
        (planted,) = await layer.dead_letters()
        await layer.replay(planted.id)
