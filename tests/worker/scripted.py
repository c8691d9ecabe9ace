"""A layer, an application and a worker that do what a test says, at the times of a clock that it turns."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from channelmap.asgi import Event, Receive, Scope, Send
from channelmap.errors import LayerUnavailable
from channelmap.layer import ChannelLayer, Counts, DeadLetter, Delivery, Purged, WorkerInfo
from channelmap.limits import RetryPolicy, Service
from channelmap.worker import Timing, Worker
from tests.turned_clock import TurnedClock

LEASED = Service(retry=RetryPolicy(attempts=3, delay=1.0, backoff=10.0, max_delay=1_000.0, jitter=0))

Verb = str
Services = Mapping[str, Service]
Failure = BaseException | Callable[[Sequence[Delivery]], BaseException | None]


def away() -> LayerUnavailable:
    return LayerUnavailable("scripted://", "away")


def job(number: int, **script: Any) -> Event:
    """An event that says what its handler does, see `Application`."""
    return {"type": "job", "n": number, **script}


def jobs(count: int, first: int = 0, **script: Any) -> list[Event]:
    return [job(number, **script) for number in range(first, first + count)]


def number_of(delivery: Delivery | DeadLetter) -> Any:
    return delivery.event and delivery.event.get("n")


@dataclass(frozen=True)
class Call:
    """A call of the layer: when, which, on which channel, with the numbers of which events."""

    time: float
    verb: Verb
    channel: str
    numbers: list[Any]
    #: The limit of `take`, the delay of `retry`, the lease of `renew`.
    amount: float | None = None


class ScriptedLayer(ChannelLayer):
    """Keeps events in lists; its calls fail or hang when the test says so, and are noted with the clock's time."""

    url = "scripted://"
    has_heartbeats = False

    def __init__(self, clock: TurnedClock) -> None:
        super().__init__()
        self.clock = clock
        self.calls: list[Call] = []
        self.queues: dict[str, deque[Delivery]] = defaultdict(deque)
        self.out: list[Delivery] = []
        self.letters: list[DeadLetter] = []
        #: The calls that hung and were cancelled, each with the time of its cancellation.
        self.given_up: list[tuple[float, Verb]] = []
        self.leases: set[float | None] = set()
        self.paused: set[str] = set()
        #: The heartbeats that were applied: worker, increments, number, whether it was the last one.
        self.heartbeats: list[tuple[WorkerInfo, dict[str, dict[str, int]], int, bool]] = []
        self._arrivals: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._failures: dict[Verb, tuple[Failure, float]] = {}
        self._closed: set[Verb] = set()
        self._hanging: dict[Verb, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(list)

    # What the test says.

    def fill(self, channel: str, events: Iterable[Event]) -> None:
        """Put events at the end of a channel."""
        for event in events:
            self._put(Delivery(channel, event, b"", 0.0))

    def put(self, channel: str, event: Event | None, **attributes: Any) -> None:
        """Put a delivery with those attributes at the end of a channel."""
        self._put(Delivery(channel, event, attributes.pop("body", b"?"), 0.0, **attributes))

    def fail(self, verb: Verb, error: Failure, times: float = float("inf")) -> None:
        """Let so many calls fail; a function says for which deliveries."""
        self._failures[verb] = error, times

    def heal(self, verb: Verb) -> None:
        """Let no further call fail."""
        self._failures.pop(verb, None)

    def hang(self, *verbs: Verb) -> None:
        """Let calls hang until they are resumed."""
        self._closed.update(verbs)

    def go_on(self, *verbs: Verb) -> None:
        """Let the calls that hang go on, and no further one hang."""
        for verb in verbs:
            self._closed.discard(verb)
            for loop, opened in self._hanging.pop(verb, []):
                if not loop.is_closed():
                    loop.call_soon_threadsafe(opened.set)

    def of(self, *verbs: Verb) -> list[Call]:
        """Return the calls of those verbs."""
        return [call for call in self.calls if call.verb in verbs]

    def waits(self, channel: str) -> list[Any]:
        """Return the numbers of the events that wait on a channel."""
        return [number_of(delivery) for delivery in self.queues[channel]]

    # What the worker calls.

    async def take(self, channel: str, limit: int, *, lease: float | None = None, wait: bool = True) -> list[Delivery]:
        await self._call("take", channel, [], limit)
        queue = deque() if channel in self.paused else self.queues[channel]
        while wait and not queue:
            self._arrivals[channel].clear()
            await self._arrivals[channel].wait()
        self.leases.add(lease)
        limit = 1 if queue and queue[0].suspect else limit
        taken = [queue.popleft() for _ in range(min(limit, len(queue)))]
        if lease is not None:
            self.out += taken
        return taken

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        await self._call("settle", "", deliveries)
        self._forget(deliveries)

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        await self._call("give_back", "", deliveries)
        self._forget(deliveries)
        for delivery in reversed(deliveries):
            self._put(delivery, first=True)

    async def begin(self, delivery: Delivery) -> bool:
        await self._call("begin", "", [delivery])
        return delivery in self.out

    async def retry(self, delivery: Delivery, delay: float) -> None:
        await self._call("retry", delivery.channel, [delivery], delay)
        self._forget([delivery])
        again = Delivery(
            delivery.channel, delivery.event, b"", 0.0, delivery.attempt + 1, raw_id=delivery.raw_id
        )  # fmt: skip
        self.clock.call_later(delay, lambda: self._put(again, first=True))

    async def renew(self, deliveries: Sequence[Delivery], lease: float) -> None:
        await self._call("renew", "", deliveries, lease)

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self._call("bury", delivery.channel, [delivery])
        self._forget([delivery])
        self.letters.append(letter)

    async def bury_many(self, buried: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        deliveries = [delivery for delivery, _ in buried]
        await self._call("bury_many", "", deliveries)
        self._forget(deliveries)
        self.letters += [letter for _, letter in buried]

    async def is_paused(self, channel: str) -> bool:
        await self._call("is_paused", channel, [])
        return channel in self.paused

    async def counts(self, channels: Iterable[str]) -> dict[str, Counts]:
        raise NotImplementedError

    async def heartbeat(
        self, worker: WorkerInfo, totals: Mapping[str, Mapping[str, int]], number: int, *, last: bool = False
    ) -> None:
        await self._call("heartbeat", "", [], number)
        self.heartbeats.append((worker, {channel: dict(counts) for channel, counts in totals.items()}, number, last))

    async def workers(self) -> list[WorkerInfo]:
        raise NotImplementedError

    async def purge(self, channel: str) -> Purged:
        raise NotImplementedError

    async def foreign_readers(self) -> int | None:
        raise NotImplementedError

    async def waiting(self, channel: str) -> int | None:
        return len(self.queues[channel])

    async def _call(
        self, verb: Verb, channel: str, deliveries: Sequence[Delivery], amount: float | None = None
    ) -> None:
        channel = channel or (deliveries[0].channel if deliveries else "")
        self.calls.append(Call(self.clock.time(), verb, channel, [*map(number_of, deliveries)], amount))
        if verb in self._closed:
            opened = asyncio.Event()
            self._hanging[verb].append((asyncio.get_running_loop(), opened))
            try:
                await opened.wait()
            except asyncio.CancelledError:
                self.given_up.append((self.clock.time(), verb))
                raise
        failure, times = self._failures.get(verb, (None, 0))
        error = failure if failure is None or isinstance(failure, BaseException) else failure(deliveries)
        if failure is not None and error is not None and times > 0:
            self._failures[verb] = failure, times - 1
            raise error

    def _put(self, delivery: Delivery, *, first: bool = False) -> None:
        queue = self.queues[delivery.channel]
        (queue.appendleft if first else queue.append)(delivery)
        self._arrivals[delivery.channel].set()

    def _forget(self, deliveries: Iterable[Delivery]) -> None:
        gone = set(deliveries)
        self.out = [delivery for delivery in self.out if delivery not in gone]

    # What no worker calls.

    async def send(self, channel: str, event: Event, **_options: Any) -> None:
        self.fill(channel, [event])

    def send_sync(self, channel: str, event: Event, **_options: Any) -> None:
        raise NotImplementedError

    async def send_many(self, channel: str, events: Sequence[Event], **_options: Any) -> None:
        self.fill(channel, events)

    async def pause(self, channel: str) -> None:
        self.paused.add(channel)

    async def resume(self, channel: str) -> None:
        raise NotImplementedError

    async def group_add(self, group: str, channel: str) -> None:
        raise NotImplementedError

    async def group_discard(self, group: str, channel: str) -> None:
        raise NotImplementedError

    async def group_send(self, group: str, event: Event) -> None:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    async def peek(self, channel: str) -> AsyncIterator[Delivery]:
        await self._call("peek", channel, [])
        for delivery in [*self.queues[channel]]:
            yield delivery

    async def dead_letters(self, channel: str | None = None) -> list[DeadLetter]:
        return [letter for letter in self.letters if channel in {None, letter.channel}]

    async def replay(self, id: str) -> None:  # noqa: A002
        raise NotImplementedError

    async def drop(self, id: str) -> None:  # noqa: A002
        raise NotImplementedError


class Application:
    """Does with each event what the event says, and notes when each was begun.

    An event may have: `blocks`, seconds for which it keeps the event loop busy; `takes`, seconds for which it waits;
    `hangs`, it waits forever; `fails`, it raises that exception, or a ValueError of that text; `rejected`, the verdict
    of a gate with that reason, `code` and `violations`; `deaf`, it outlives its cancellation by so many seconds;
    `breaks`, so many of the next instances fail before they take one; `then` is called.
    """

    def __init__(self, clock: TurnedClock) -> None:
        self.clock = clock
        self.begun: list[tuple[float, Any]] = []
        self.done: list[Any] = []
        self.starts: list[float] = []
        #: How many instances fail before they take an event.
        self.broken_starts: float = 0

    @property
    def seen(self) -> list[Any]:
        return [number for _, number in self.begun]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.starts.append(self.clock.time())
        if len(self.starts) <= self.broken_starts:
            raise RuntimeError("no settings")
        while True:
            event = await receive()
            self.begun.append((self.clock.time(), event.get("n")))
            await self._handle(event, send)
            self.done.append(event.get("n"))

    async def _handle(self, event: Event, send: Send) -> None:
        if "blocks" in event:
            self.clock.turn_while_blocked(event["blocks"])
        if "takes" in event:
            await self.clock.sleep(event["takes"])
        if "hangs" in event:
            await asyncio.Event().wait()
        if "deaf" in event:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await self.clock.sleep(event["deaf"])
        if "then" in event:
            event["then"]()
        if "breaks" in event:
            self.broken_starts = len(self.starts) + event["breaks"]
        if "fails" in event:
            raise ValueError(event["fails"]) if isinstance(event["fails"], str) else event["fails"]
        if "rejected" in event:
            verdict = {"code": event.get("code", "schema-mismatch"), "violations": event.get("violations", [])}
            await send({"type": "channel.reject", "reason": event["rejected"], **verdict})


class Stage:
    """A clock, a layer, an application, and the worker that a test starts on them."""

    def __init__(self, clock: TurnedClock | None = None) -> None:
        self.clock = clock or TurnedClock()
        self.layer = ScriptedLayer(self.clock)
        self.application = Application(self.clock)
        self.worker: Worker
        self.running: asyncio.Task[None]

    async def start(
        self, channels: Mapping[str, Service] | None = None, *, burst: bool = False, **options: Any
    ) -> None:
        """Start the worker; channel `a` is served at-least-once if nothing else is said."""
        services = {"a": LEASED} if channels is None else channels
        of_worker = {
            name: options.pop(name)
            for name in ("drain_timeout", "max_events", "observe", "metrics", "contract")
            if name in options
        }
        self.worker = Worker(
            self.application, services, self.layer, burst=burst, timing=Timing(clock=self.clock, **options), **of_worker
        )
        self.running = asyncio.ensure_future(self.worker.serve())
        self.running.add_done_callback(lambda _: setattr(self, "ended_at", self.clock.time()))
        if any(service.retry for service in services.values()):
            await self.clock.joined(self.running)
        await self.clock.settled()

    async def turn(self, seconds: float) -> None:
        await self.clock.turn(seconds)

    async def end(self, deadline: float | None = None, within: float = 60.0) -> float:
        """Stop the worker, turn the clock until it has ended, and return the seconds that this took."""
        begun = self.clock.now
        self.worker.stop(deadline)
        return await self.finish(within) - begun

    async def finish(self, within: float = 60.0) -> float:
        """Turn the clock until the worker has ended; return when that was."""
        await self.clock.turn(within)
        assert self.running.done(), f"the worker still runs after {within} s"
        await self.running
        return self.ended_at

    ended_at: float


def play(scene: Callable[[Stage], Awaitable[None]]) -> Stage:
    """Run a scene in an event loop of its own; a worker that still runs is stopped, and its layer answers."""

    async def main() -> Stage:
        on = Stage()
        try:
            await scene(on)
        finally:
            on.layer.go_on(*on.layer._closed)
            on.layer._failures.clear()
            if not on.running.done():
                on.worker.stop(0)
                await on.turn(60)
        return on

    return asyncio.run(main())


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return what was logged at that level or above."""
    return [record.getMessage() for record in caplog.records if record.levelno >= level]
