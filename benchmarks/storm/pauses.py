"""Pauses a channel and resumes it: `python -m storm.pauses CHANNEL SECONDS`, in the directory of a run."""

import asyncio
import sys
from contextlib import suppress

from channelmap import get_channel_layer
from channelmap.errors import LayerError
from storm.history import Pen


async def pause(channel: str, seconds: float) -> None:
    layer, pen = get_channel_layer(), Pen()
    try:
        # A call that fails may have paused the channel all the same: it is resumed in any case.
        with suppress(LayerError):
            await layer.pause(channel)
            pen.note("pause", channel)
            await asyncio.sleep(seconds)
    finally:
        pen.note("resume", channel)
        while True:
            with suppress(LayerError):
                await layer.resume(channel)
                break
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(pause(sys.argv[1], float(sys.argv[2])))
