"""The checker of `benchmarks/chaos.py` finds each kind of fault in the records of a run, and no other."""

import itertools
from typing import Any

import pytest
from storm.checker import Remaining, judge
from storm.history import Record

KILLED, ALIVE = 7, 8
ENDS = {KILLED: 10.0}


class Run:
    """The records of a run, one channel of each kind."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.remaining = Remaining()
        self._clock = itertools.count()

    def note(
        self, what: str, id_: str = "1", pid: int = ALIVE, at: float | None = None, channel: str = "least"
    ) -> None:
        self.records.append(Record(what, channel, id_, pid, next(self._clock) if at is None else at))

    def sent(self, id_: str = "1", channel: str = "least") -> None:
        self.note("try", id_, channel=channel)
        self.note("acknowledged", id_, channel=channel)

    def faults(self, kills: int = 0, channel: str = "least", **options: Any) -> list[str]:
        verdicts = judge(self.records, self.remaining, {"least": "at-least-once", "most": "at-most-once"}, ENDS)
        return verdicts[channel].faults(kills, **options)


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.mark.parametrize("place", ["handled", "waiting", "leased", "dead"])
def test_an_acknowledged_event_that_is_somewhere_is_no_fault(run: Run, place: str) -> None:
    run.sent()
    if place == "handled":
        run.note("begin")
        run.note("end")
    else:
        getattr(run.remaining, place)["least"].add("1")
    assert run.faults() == []


@pytest.mark.parametrize("begun", [False, True])
def test_at_least_once_an_event_that_no_handler_finished_is_lost(run: Run, begun: bool) -> None:  # noqa: FBT001
    run.sent()
    if begun:
        run.note("begin", pid=KILLED)
    assert run.faults(kills=5) == ["lost by 5 kills: 1 events, such as 1"]
    assert run.faults(kills=5, may_lose=True) == []


def test_a_replica_that_takes_over_may_have_missed_that_an_event_was_taken(run: Run) -> None:
    run.sent()
    for pid in (1, 2):
        run.note("begin", pid=pid)
    run.note("end", pid=2)
    assert run.faults(kills=5) == ["handled twice though nobody was killed: 1 events, such as 1"]
    assert run.faults(kills=5, may_lose=True) == []
    # The kills bound redeliveries all the same.
    assert run.faults(kills=0, may_lose=True) == ["handled twice by 0 kills: 1 events, such as 1"]


def test_at_most_once_loses_less_than_one_event_for_each_kill(run: Run) -> None:
    for id_ in "12":
        run.sent(id_, "most")
    assert run.faults(3, "most") == []
    assert run.faults(2, "most") == ["lost by 2 kills: 2 events, such as 1, 2"]
    run.note("begin", "1", channel="most")
    assert run.faults(2, "most") == []


def test_an_event_whose_send_failed_may_be_anywhere(run: Run) -> None:
    run.note("try")
    run.note("failed")
    assert run.faults() == []
    run.remaining.dead["least"].add("1")
    assert run.faults() == []


def test_an_event_that_nobody_has_sent_is_a_fault(run: Run) -> None:
    run.note("begin", "9")
    run.remaining.waiting["least"].add("8")
    assert run.faults() == ["nobody has sent 2 events, such as 8, 9"]


def test_an_event_in_two_places_of_the_layer_is_a_fault(run: Run) -> None:
    run.sent()
    run.remaining.waiting["least"].add("1")
    run.remaining.leased["least"].add("1")
    assert run.faults() == ["in two places: 1 events, such as 1"]


def test_each_kill_may_cost_one_and_a_half_events_that_are_handled_twice(run: Run) -> None:
    for id_ in "123":
        run.sent(id_)
        run.note("begin", id_, KILLED, at=9)
        run.note("begin", id_, ALIVE, at=11)
        run.note("end", id_)
    assert run.faults(kills=2) == []
    assert run.faults(kills=1) == ["handled twice by 1 kills: 3 events, such as 1, 2, 3"]


@pytest.mark.parametrize(("first", "second"), [(ALIVE, 11), (KILLED, 9.5)])
def test_an_event_that_is_handled_twice_though_nobody_was_killed_is_a_fault(
    run: Run, first: int, second: float
) -> None:
    run.sent()
    run.note("begin", pid=first, at=9)
    run.note("begin", pid=ALIVE, at=second)
    run.note("end")
    assert run.faults(kills=9) == ["handled twice though nobody was killed: 1 events, such as 1"]


def test_at_most_once_no_event_is_handled_twice(run: Run) -> None:
    run.sent(channel="most")
    run.note("begin", pid=KILLED, at=9, channel="most")
    run.note("begin", at=11, channel="most")
    assert run.faults(9, "most") == ["handled twice by 9 kills: 1 events, such as 1"]


def test_a_take_over_is_counted_from_the_end_of_the_process_that_had_the_event(run: Run) -> None:
    run.sent()
    run.note("begin", pid=KILLED, at=9)
    run.note("begin", at=40.5)
    verdicts = judge(run.records, run.remaining, {"least": "at-least-once"}, ENDS)
    assert verdicts["least"].take_over == [30.5]
