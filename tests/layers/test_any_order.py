"""Whatever is done to a channel and in whatever order: each event is where it should be, exactly once."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from channelmap.layer import ChannelLayer, Counts, Delivery
from channelmap.layers import open_layer
from channelmap.layers.redis import RedisChannelLayer

from .conformance import event, letter
from .redis_servers import Cluster, Server

#: Longer than any test.
LEASE = 600.0


class Model(RuleBasedStateMachine):
    """A channel, and what the promise says of it: where each event is, its attempts, and which may come next."""

    layer: ChannelLayer
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    #: What is given back stands where it was sent, among others that were; else before everything.
    goes_by_time: bool
    keeps_retries_apart: bool

    held = Bundle("held")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.run(self.layer.flush())
        self._numbers = itertools.count(1)
        #: When each event was sent, for the last time.
        self.places: dict[int, int] = {}
        self._places = itertools.count(1)
        #: Sent or given back, and waiting in order.
        self.queue: list[int] = []
        #: To come again, as they are due: after a retry.
        self.retried: set[int] = set()
        #: Sent with a delay that no test lives to see the end of.
        self.delayed: set[int] = set()
        self.is_paused = False
        self.suspects: set[int] = set()
        self.leased: dict[int, Delivery] = {}
        self.begun: set[int] = set()
        #: Whose lease has run out, and nobody has taken it since: its last holder may still be heard, or not.
        self.lapsed: dict[int, Delivery] = {}
        self.dead: set[int] = set()
        self.attempts: Counter[int] = Counter()
        self.crashes: Counter[int] = Counter()

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        numbers = [next(self._numbers) for _ in range(count)]
        self.run(self.layer.send_many("jobs", [event(number) for number in numbers]))
        self.queue += numbers
        self.attempts.update(numbers)
        self.places.update(zip(numbers, self._places, strict=False))

    @rule()
    def send_with_a_delay(self) -> None:
        number = next(self._numbers)
        self.run(self.layer.send("jobs", event(number), delay=LEASE))
        self.delayed.add(number)

    @rule()
    def pause_or_resume(self) -> None:
        self.run(self.layer.resume("jobs") if self.is_paused else self.layer.pause("jobs"))
        self.is_paused = not self.is_paused
        assert self.run(self.layer.is_paused("jobs")) == self.is_paused

    @precondition(lambda self: self.is_paused)
    @rule(lease=st.sampled_from([None, LEASE]))
    def take_in_vain(self, lease: float | None) -> None:
        assert self.run(self.layer.take("jobs", 5, lease=lease, wait=False)) == []

    @precondition(lambda self: not self.is_paused and (self.queue or self.retried or self.suspects))
    @rule(target=held, limit=st.integers(1, 5))
    def take(self, limit: int) -> Any:
        taken: list[Delivery] = self.run(self.layer.take("jobs", limit, lease=LEASE, wait=False))
        numbers = [number_of(delivery) for delivery in taken]
        assert [one.attempt for one in taken] == [self.attempts[number] for number in numbers]
        if numbers and taken[0].suspect:
            assert len(numbers) == 1
            assert numbers[0] in self.suspects
            assert taken[0].crashes == self.crashes[numbers[0]]
            self.suspects.discard(numbers[0])
        else:
            assert not any(one.suspect for one in taken)
            again = [number for number in numbers if number in self.retried]
            fresh = [number for number in numbers if number not in self.retried]
            assert fresh == self.queue[: len(fresh)]
            assert numbers == [*again, *fresh]
            if self.suspects:
                assert again
                assert not fresh
            else:
                assert len(numbers) == min(limit, len(self.retried) + len(self.queue))
            self.retried.difference_update(again)
            del self.queue[: len(fresh)]
        for number, delivery in zip(numbers, taken, strict=True):
            self.leased[number] = delivery
            self.lapsed.pop(number, None)
        return multiple(*taken)

    def begin(self, delivery: Delivery) -> None:
        if delivery.suspect:
            assert self.run(self.layer.begin(delivery)) == self.is_leased(delivery)
            if self.is_leased(delivery):
                self.begun.add(number_of(delivery))

    @rule(delivery=held)
    def renew(self, delivery: Delivery) -> None:
        self.run(self.layer.renew([delivery], LEASE))

    @rule(target=ended, delivery=consumes(held))
    def settle(self, delivery: Delivery) -> Delivery:
        self.run(self.layer.settle([delivery]))
        self.let_go(delivery)
        return delivery

    @rule(target=ended, delivery=consumes(held))
    def give_back(self, delivery: Delivery) -> Delivery:
        self.run(self.layer.give_back([delivery]))
        number = self.let_go(delivery)
        if number and delivery.suspect:
            self.suspects.add(number)
        elif number and self.keeps_retries_apart and self.attempts[number] > 1:
            # It must not expire with the others, and comes before them.
            self.retried.add(number)
        elif number:
            self.queue.insert(0, number)
            if self.goes_by_time:
                self.queue.sort(key=self.places.__getitem__)
        return delivery

    @rule(target=ended, delivery=consumes(held))
    def retry(self, delivery: Delivery) -> Delivery:
        self.run(self.layer.retry(delivery, 0))
        number = self.let_go(delivery)
        if number:
            self.retried.add(number)
            self.attempts[number] += 1
            self.crashes[number] = 0
        return delivery

    @rule(target=ended, delivery=consumes(held), begin=st.booleans())
    def let_the_lease_run_out(self, delivery: Delivery, *, begin: bool) -> Delivery:
        if begin:
            self.begin(delivery)
        self.run(self.layer.renew([delivery], 0))
        begun = number_of(delivery) in self.begun
        number = self.let_go(delivery)
        if number:
            self.suspects.add(number)
            self.lapsed[number] = delivery
            self.attempts[number] += begun
            self.crashes[number] += begun
        return delivery

    @rule(target=ended, delivery=consumes(held))
    def bury(self, delivery: Delivery) -> Delivery:
        if self.is_leased(delivery):
            self.run(self.layer.bury(delivery, letter("jobs", number_of(delivery))))
            self.dead.add(self.let_go(delivery))
        return delivery

    @precondition(lambda self: self.dead)
    @rule(chance=st.randoms(use_true_random=False))
    def replay(self, chance: Any) -> None:
        letters = self.run(self.layer.dead_letters("jobs"))
        if letters:
            chosen = chance.choice(letters)
            self.run(self.layer.replay(chosen.id))
            number = chosen.event["id"]
            self.dead.remove(number)
            self.queue.append(number)
            self.places[number] = next(self._places)
            self.attempts[number], self.crashes[number] = 1, 0

    @precondition(lambda self: self.dead)
    @rule(chance=st.randoms(use_true_random=False))
    def drop(self, chance: Any) -> None:
        letters = self.run(self.layer.dead_letters("jobs"))
        if letters:
            chosen = chance.choice(letters)
            self.run(self.layer.drop(chosen.id))
            self.dead.remove(chosen.event["id"])

    @rule(delivery=ended, late=st.sampled_from(["settle", "give_back", "retry", "renew", "begin"]))
    def come_too_late(self, delivery: Delivery, late: str) -> None:
        if self.lapsed.get(number_of(delivery)) is delivery:
            return
        match late:
            case "settle":
                self.run(self.layer.settle([delivery]))
            case "give_back":
                self.run(self.layer.give_back([delivery]))
            case "retry":
                self.run(self.layer.retry(delivery, 0))
            case "renew":
                self.run(self.layer.renew([delivery], LEASE))
            case "begin":
                self.run(self.layer.begin(delivery))

    @invariant()
    def each_event_is_there_once(self) -> None:
        async def look() -> Counter[int]:
            return Counter([number_of(delivery) async for delivery in self.layer.peek("jobs")])

        there = [*self.queue, *self.retried, *self.suspects, *self.leased, *self.delayed]
        assert self.run(look()) == Counter(there)
        letters = self.run(self.layer.dead_letters("jobs"))
        assert Counter(one.event["id"] for one in letters) == Counter(self.dead)
        counts = self.run(self.layer.counts(["jobs"]))["jobs"]
        assert (counts.oldest is None) == (not self.queue)
        assert replace(counts, oldest=None) == Counts(
            len(self.queue), len(self.retried) + len(self.delayed), len(self.leased) + len(self.suspects),
            {"failed": len(self.dead)} if self.dead else {}, paused=self.is_paused,
        )  # fmt: skip

    def is_leased(self, delivery: Delivery) -> bool:
        return self.leased.get(number_of(delivery)) is delivery

    def let_go(self, delivery: Delivery) -> int:
        """Forget a lease; the number of its event, or 0 where the lease had ended before."""
        if not self.is_leased(delivery):
            return 0
        number = number_of(delivery)
        del self.leased[number]
        self.begun.discard(number)
        return number


def number_of(delivery: Delivery) -> int:
    assert delivery.event is not None
    return int(delivery.event["id"])


def require_the_promise(make: Callable[[], ChannelLayer], examples: int, **differences: bool) -> None:
    with asyncio.Runner() as runner:
        layer = make()
        chosen = {"goes_by_time": False, "keeps_retries_apart": False, **differences}
        own = type("Own", (Model,), {"layer": layer, "run": staticmethod(runner.run), **chosen})
        limits = settings(
            derandomize=True, max_examples=examples, stateful_step_count=30, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        run_state_machine_as_test(own, settings=limits)
        runner.run(layer.close())


def test_in_memory() -> None:
    require_the_promise(lambda: open_layer("memory://"), 100)


def test_in_sqlite(tmp_path: Path) -> None:
    require_the_promise(lambda: open_layer(f"sqlite:///{tmp_path}/events.db"), 200, keeps_retries_apart=True)


def test_in_redis(server: Server) -> None:
    require_the_promise(lambda: RedisChannelLayer([server.url]), 40, goes_by_time=True, keeps_retries_apart=True)


def test_in_redis_cluster(cluster: Cluster) -> None:
    require_the_promise(lambda: RedisChannelLayer([cluster.url]), 20, goes_by_time=True, keeps_retries_apart=True)
