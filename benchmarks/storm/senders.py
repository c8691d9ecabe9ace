"""A process that sends until it is killed: `python -m storm.senders KIND NAME SEED`, in the directory of a run.

Kinds: `async` sends from an event loop, several at once; `sync` from threads; `forked` from children that are forked
while a thread of their parent sends; `batches` sends several events in one step.
"""

import asyncio
import itertools
import os
import random
import sys
import threading
import time

from channelmap import get_channel_layer
from channelmap.asgi import Event
from channelmap.errors import LayerError
from storm.history import Pen

CHANNELS = ("least", "least-sync", "most")
#: Seconds between two sends of a thread or task, on average.
PAUSE = 0.02
#: One event of so many takes longer than a lease lasts.
SLOW_ONE_IN = int(os.environ.get("CHAOS_SLOW_ONE_IN", "0"))
#: One send of so many is delayed; one event of so many asks its handler for a retry, and one for a rejection.
DELAYED_ONE_IN, RETRIED_ONE_IN, REJECTED_ONE_IN = 6, 12, 12


class Sender:
    def __init__(self, name: str, seed: str) -> None:
        self.layer = get_channel_layer()
        self.pen = Pen()
        self.random = random.Random(seed)
        self._name = name
        self._numbers = itertools.count()

    def event(self) -> Event:
        """Make up the next event."""
        slow = SLOW_ONE_IN and self.random.randrange(SLOW_ONE_IN) == 0
        work = 40.0 if slow else self.random.choice([0.0, 0.002, 0.005, 0.02])
        channel = self.random.choice(CHANNELS)
        id_ = f"{self._name}.{os.getpid()}.{next(self._numbers)}"
        # At-most-once, there is no retry.
        is_retried = channel != "most" and self.random.randrange(RETRIED_ONE_IN) == 0
        return {
            "type": "job", "id": id_, "channel": channel, "work": work,
            "retry": self.random.uniform(0.1, 1) if is_retried else 0.0,
            "reject": self.random.randrange(REJECTED_ONE_IN) == 0,
        }  # fmt: skip

    def delay(self) -> float | None:
        """Make up the delay of the next send; None for most."""
        return self.random.uniform(0.05, 3) if self.random.randrange(DELAYED_ONE_IN) == 0 else None

    async def send(self) -> None:
        event, delay = self.event(), self.delay()
        self.pen.note("try", event["channel"], event["id"], delay or 0.0)
        try:
            await self.layer.send(event["channel"], event, delay=delay)
        except LayerError:
            self.pen.note("failed", event["channel"], event["id"])
            await asyncio.sleep(0.1)
        else:
            self.pen.note("acknowledged", event["channel"], event["id"])

    async def send_batch(self) -> None:
        first, delay = self.event(), self.delay()
        shared = {"channel": first["channel"], "retry": first["retry"]}
        events = [first, *({**self.event(), **shared} for _ in range(4))]
        for event in events:
            self.pen.note("try", event["channel"], event["id"], delay or 0.0)
        try:
            await self.layer.send_many(first["channel"], events, delay=delay)
        except LayerError:
            outcome = "failed"
        else:
            outcome = "acknowledged"
        for event in events:
            self.pen.note(outcome, event["channel"], event["id"])
        await asyncio.sleep(5 * PAUSE)

    def send_sync(self) -> None:
        event, delay = self.event(), self.delay()
        self.pen.note("try", event["channel"], event["id"], delay or 0.0)
        try:
            self.layer.send_sync(event["channel"], event, delay=delay)
        except LayerError:
            self.pen.note("failed", event["channel"], event["id"])
            time.sleep(0.1)
        else:
            self.pen.note("acknowledged", event["channel"], event["id"])

    async def loop(self) -> None:
        while True:
            await asyncio.gather(*(self.send() for _ in range(self.random.randrange(1, 5))))
            await asyncio.sleep(2 * PAUSE)

    async def batches(self) -> None:
        while True:
            await self.send_batch()

    def thread(self, count: float = float("inf")) -> None:
        while count > 0:
            self.send_sync()
            time.sleep(PAUSE)
            count -= 1

    def fork(self) -> None:
        threading.Thread(target=self.thread, daemon=True).start()
        while True:
            pid = os.fork()
            if pid == 0:
                try:
                    self.thread(10)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)


def main() -> None:
    kind, name, seed = sys.argv[1:]
    sender = Sender(name, seed)
    if kind == "async":
        asyncio.run(sender.loop())
    elif kind == "batches":
        asyncio.run(sender.batches())
    elif kind == "forked":
        sender.fork()
    else:
        threading.Thread(target=sender.thread, daemon=True).start()
        sender.thread()


if __name__ == "__main__":
    main()
