"""Measure what it costs to reject events: `python benchmarks/reject.py`.

Every figure that has a goal is a ratio of this run: the same channel judges an event that it accepts, and one that it
rejects. Words are made when somebody reads them; what that costs is given beside it.
"""

import asyncio
import json
import logging
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from channelmap import AsyncConsumer, Worker, load_router
from channelmap.asgi import Event
from channelmap.contract import Channel, EventType
from channelmap.loader import load
from channelmap.sending import ContractLayer
from channelmap.validation import Schema, Validator, with_type

GOAL = "<= 20x"

FLAT = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "when": {"type": "string", "format": "date-time"},
        "kind": {"enum": ["a", "b", "c"]},
    },
    "required": ["id", "kind"],
    "additionalProperties": False,
}  # fmt: skip
TREE = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "child": {"$ref": "#"}},
    "required": ["id"],
}


def row(name: str, *cells: str) -> None:
    print(f"{name:<44}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def microseconds(call: Callable[[], Any]) -> float:
    """The least of seven runs, each of which takes about 5 ms."""
    once = timeit.timeit(call, number=1)
    count = max(1, min(2_000, int(0.005 / (once or 1e-9))))
    return min(timeit.repeat(call, number=count, repeat=7)) / count * 1e6


def compare(name: str, channel: Channel, good: Event, bad: Event) -> None:
    assert channel.judge(good) is None
    assert channel.judge(bad) is not None
    accepted, rejected = microseconds(lambda: channel.judge(good)), microseconds(lambda: channel.judge(bad))
    read = microseconds(lambda: str(channel.judge(bad)))
    cells = (f"{accepted:,.1f} us", f"{rejected:,.1f} us", f"{rejected / accepted:.1f}x", GOAL, f"{read:,.0f} us")
    row(name, *cells)


def channel_of(schema: Schema, types: int = 1) -> Channel:
    names = [f"event.{number}" for number in range(types)]
    return Channel("c", "a.B", {name: EventType(name, schema, Validator(with_type(schema))) for name in names})


def nested(depth: int, innermost: Any) -> Event:
    event: Event = {"type": "event.0", "id": innermost}
    for _ in range(depth - 1):
        event = {"type": "event.0", "id": 1, "child": event}
    return event


def chain(levels: int) -> Schema:
    """Definitions with two alternatives each, both of which refer to the next one."""
    alternatives = {
        f"n{level}": {"anyOf": [{"$ref": f"#/$defs/n{level + 1}"}, {"$ref": f"#/$defs/n{level + 1}"}]}
        for level in range(levels)
    }
    last = {f"n{levels}": {"type": "integer"}}
    return {"properties": {"id": {"$ref": "#/$defs/n0"}}, "$defs": {**alternatives, **last}}


def judging() -> None:
    row("", "accepted", "rejected", "ratio", "goal", "and read")
    good = {"type": "event.0", "id": 5, "kind": "a"}
    for types in (10, 100, 1_000):
        channel = channel_of(FLAT, types)
        compare(f"{types:,} types: a wrong property", channel, good, {**good, "id": "5"})
        compare(f"{types:,} types: an unknown type", channel, good, {**good, "type": "evemt.0"})
        compare(f"{types:,} types: not JSON", channel, good, {**good, "id": b"5"})
    for depth in (1, 10, 50):
        channel = channel_of(TREE)
        compare(f"depth {depth}: a wrong property", channel, nested(depth, 1), nested(depth, "1"))
        compare(f"depth {depth}: not JSON", channel, nested(depth, 1), nested(depth, b"1"))
    for levels in (10, 18, 40):
        good = {"type": "event.0", "id": 1}
        compare(f"{levels} definitions, two alternatives each", channel_of(chain(levels)), good, {**good, "id": "1"})
    long_list()


def long_list() -> None:
    items = list(range(1_300_000))
    schema = {"properties": {"items": {"items": {"type": "integer"}}}}
    good, bad = {"type": "event.0", "items": items}, {"type": "event.0", "items": [*items, "1"]}
    compare("1,300,000 integers: a wrong item", channel_of(schema), good, bad)
    engine = Validator(schema)
    assert engine.fits(good)
    ratio = microseconds(lambda: engine.is_valid(good)) / microseconds(lambda: engine.fits(good))
    row("  guard and engine against the engine alone", "", "", f"{ratio:.1f}x", "<= 10x")


# A worker that is fed with events that its gate rejects.

CHANNELS = """\
version: 1
layer: {url}
defaults: {{capacity: 10000000}}
channels:
  rejecting: {{consumer: reject.Stamp, events: {{generate: generate.json}}}}
  other: {{consumer: reject.Stamp, events: {{generate: generate.json}}}}
"""


class Stamp(AsyncConsumer):
    """Notes how long an event has waited, in seconds."""

    waits: ClassVar[list[float]] = []

    async def generate(self, event: Event) -> None:
        self.waits.append((time.perf_counter_ns() - event["id"]) / 1e9)


def serving(directory: Path, url: str, count: int = 20_000) -> tuple[float, float]:
    """Return events rejected a second by one worker, and the p99 wait, in seconds, on another of its channels."""
    # As `python benchmarks/reject.py` this module has another name.
    sys.modules.setdefault("reject", sys.modules[__name__])
    (directory / "generate.json").write_text(json.dumps({"properties": {"id": {"type": "integer"}}}))
    (directory / "rejecting.yaml").write_text(CHANNELS.format(url=url))
    contract = load(directory / "rejecting.yaml")
    layer = ContractLayer(contract)
    handler = logging.FileHandler(directory / "rejected.log")
    logging.getLogger("channelmap").addHandler(handler)
    bad = [{"type": "generate", "id": "one"}, {"type": "generated", "id": 1}]

    async def send_now_and_then() -> None:
        while True:
            await layer.send("other", {"type": "generate", "id": time.perf_counter_ns()})
            await asyncio.sleep(0.004)

    async def main() -> float:
        for _ in range(count // 1_000):
            await layer.layer.send_many("rejecting", bad * 500)
        worker = Worker(load_router(contract), ["rejecting", "other"], layer.layer)
        begun = time.perf_counter()
        tasks = [asyncio.ensure_future(worker.serve()), asyncio.ensure_future(send_now_and_then())]
        while await layer.layer.waiting("rejecting"):  # noqa: ASYNC110  (a layer tells nobody that it is empty)
            await asyncio.sleep(0.01)
        took = time.perf_counter() - begun
        tasks[1].cancel()
        worker.stop(10)
        await tasks[0]
        await layer.flush()
        await layer.close()
        return count / took

    Stamp.waits.clear()
    try:
        rate = asyncio.run(main())
    finally:
        logging.getLogger("channelmap").removeHandler(handler)
        handler.close()
    return rate, statistics.quantiles(Stamp.waits, n=100)[98]


if __name__ == "__main__":
    judging()
