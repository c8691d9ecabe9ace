"""A worker and a sender, both real, that note what happens to their events while something is broken under them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from channelmap import Worker
from channelmap.asgi import Receive, Scope, Send
from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer

from .conformance import event

#: Nothing here may take so long: whatever does hangs.
PATIENCE = 30

T = TypeVar("T")


def run(main: Awaitable[T]) -> T:
    """Run a drill, and end it when it hangs somewhere."""

    async def bounded() -> T:
        async with asyncio.timeout(2 * PATIENCE):
            return await main

    return asyncio.run(bounded())


class Drill:
    """A worker that notes what it handles, and a sender that notes what was acknowledged and what was not."""

    def __init__(self, url: str, **options: Any) -> None:
        self.worker_layer = open_layer(url, capacity=1_000_000, **options)
        self.layer = open_layer(url, capacity=1_000_000, **options)
        self.handled: list[int] = []
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self._numbers = iter(range(1_000_000))
        self._over = False

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            self.handled.append((await receive())["id"])

    async def send(self) -> bool:
        """Send the next number; whether it was acknowledged. It may fail, but not hang, and not with another error."""
        number = next(self._numbers)
        try:
            async with asyncio.timeout(PATIENCE):
                await self.layer.send("jobs", event(number))
        except LayerUnavailable as error:
            self.refused.append(str(error))
            return False
        self.acknowledged.append(number)
        return True

    async def send_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.send()
            await asyncio.sleep(0)

    async def send_for(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        await self.send_until(lambda: asyncio.get_running_loop().time() >= end)

    async def go_on(self, count: int = 20) -> None:
        """Send until so many more are acknowledged: the layer is back."""
        enough = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < enough:
                if not await self.send():
                    await asyncio.sleep(0.02)

    async def all_since(self, number: int) -> None:
        """Wait until everything acknowledged from that number on is handled."""
        async with asyncio.timeout(PATIENCE):
            while not set(self.handled) >= {one for one in self.acknowledged if one >= number}:
                await asyncio.sleep(0.005)

    @property
    def next_number(self) -> int:
        return self.acknowledged[-1] + 1

    @property
    def lost(self) -> list[int]:
        return sorted(set(self.acknowledged) - set(self.handled))


@asynccontextmanager
async def drill(url: str, channels: tuple[str, ...] = ("jobs",), **options: Any) -> AsyncIterator[Drill]:
    """Serve while the block runs."""
    this = Drill(url, **options)
    worker = Worker(this.application, channels, this.worker_layer)
    serving = asyncio.ensure_future(worker.serve())
    try:
        yield this
        assert not serving.done()
    finally:
        worker.stop(5)
        async with asyncio.timeout(PATIENCE):
            await serving
            await this.layer.close()
            await this.worker_layer.close()
