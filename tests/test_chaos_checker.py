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
        self, what: str, id_: str = "1", pid: int = ALIVE, at: float | None = None, *,
        channel: str = "least", seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self.records.append(Record(what, channel, id_, pid, next(self._clock) if at is None else at, seconds))

    def sent(self, id_: str = "1", channel: str = "least", delay: float = 0.0) -> None:
        self.note("try", id_, channel=channel, seconds=delay)
        self.note("acknowledged", id_, channel=channel)

    def rejected(self, pid: int = ALIVE, at: float | None = None, channel: str = "least") -> None:
        self.note("begin", pid=pid, at=at, channel=channel)
        self.note("reject", pid=pid, at=at, channel=channel)

    def faults(self, kills: int = 0, channel: str = "least", **options: Any) -> list[str]:
        verdicts = judge(self.records, self.remaining, {"least": "at-least-once", "most": "at-most-once"}, ENDS)
        return verdicts[channel].faults(kills, **options)


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.mark.parametrize("place", ["handled", "waiting", "leased", "scheduled", "dead"])
def test_an_acknowledged_event_that_is_somewhere_is_no_fault(run: Run, place: str) -> None:
    run.sent()
    if place == "handled":
        run.note("begin")
        run.note("end")
    elif place == "dead":
        run.remaining.dead["least"].append(("1", "failed"))
    else:
        getattr(run.remaining, place)["least"].append("1")
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
    run.remaining.dead["least"].append(("1", "failed"))
    assert run.faults() == []


def test_an_event_that_nobody_has_sent_is_a_fault(run: Run) -> None:
    run.note("begin", "9")
    run.remaining.waiting["least"].append("8")
    assert run.faults() == ["nobody has sent 2 events, such as 8, 9"]


@pytest.mark.parametrize("other", ["waiting", "leased", "scheduled", "dead"])
def test_an_event_in_two_places_of_the_layer_is_a_fault(run: Run, other: str) -> None:
    run.sent()
    run.remaining.scheduled["least"].append("1")
    if other == "dead":
        run.remaining.dead["least"].append(("1", "failed"))
    else:
        getattr(run.remaining, other)["least"].append("1")
    assert run.faults() == ["in two places: 1 events, such as 1"]


def test_an_event_that_was_handled_and_is_dead_is_a_fault(run: Run) -> None:
    run.sent()
    run.note("begin")
    run.note("end")
    run.remaining.dead["least"].append(("1", "failed"))
    assert run.faults() == ["in two places: 1 events, such as 1"]


@pytest.mark.parametrize("channel", ["least", "most"])
def test_only_at_least_once_an_event_that_was_begun_may_still_be_in_the_layer(run: Run, channel: str) -> None:
    run.sent(channel=channel)
    run.note("begin", channel=channel)
    run.remaining.waiting[channel].append("1")
    assert run.faults(channel=channel) == (["in two places: 1 events, such as 1"] if channel == "most" else [])


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


@pytest.mark.parametrize(("begun", "is_early"), [(2.9, True), (3.1, False)])
def test_an_event_that_is_handled_before_the_end_of_its_delay_is_a_fault(
    run: Run,
    begun: float,
    is_early: bool,  # noqa: FBT001
) -> None:
    run.note("try", at=1, seconds=2)
    run.note("acknowledged", at=1.5)
    run.note("begin", at=begun)
    run.note("end")
    assert run.faults() == (["handled before their time: 1 events, such as 1"] if is_early else [])


def test_a_scheduled_event_that_is_gone_is_lost(run: Run) -> None:
    run.sent(delay=2)
    run.remaining.scheduled["least"].append("1")
    assert run.faults() == []
    run.remaining.scheduled.clear()
    assert run.faults() == ["lost by 0 kills: 1 events, such as 1"]


@pytest.mark.parametrize(("again", "is_early"), [(4.9, True), (5.1, False)])
def test_a_retry_that_a_handler_asked_for_is_not_handled_twice_but_must_not_come_before_its_time(
    run: Run,
    again: float,
    is_early: bool,  # noqa: FBT001
) -> None:
    run.sent()
    run.note("begin", at=3)
    run.note("retry", at=4, seconds=1)
    run.note("begin", at=again)
    run.note("end")
    assert run.faults() == (["handled before their time: 1 events, such as 1"] if is_early else [])


def test_an_event_that_never_comes_again_after_a_retry_is_lost(run: Run) -> None:
    run.sent()
    run.note("begin", at=3)
    run.note("retry", at=4, seconds=1)
    assert run.faults(kills=5) == ["lost by 5 kills: 1 events, such as 1"]


def test_one_retry_allows_one_further_begin(run: Run) -> None:
    run.sent()
    for what, at in (("begin", 3), ("retry", 4), ("begin", 5), ("begin", 6), ("end", 7)):
        run.note(what, at=at, seconds=1)
    assert run.faults(kills=5) == ["handled twice though nobody was killed: 1 events, such as 1"]


@pytest.mark.parametrize("channel", ["least", "most"])
def test_an_event_that_its_handler_gave_up_has_one_dead_letter_with_its_code(run: Run, channel: str) -> None:
    run.sent(channel=channel)
    run.rejected(channel=channel)
    letters = run.remaining.dead[channel]
    assert run.faults(channel=channel) == ["lost by 0 kills: 1 events, such as 1"]
    letters.append(("1", "failed"))
    assert run.faults(channel=channel) == ["dead letters with a wrong code: 1 events, such as 1"]
    letters[:] = [("1", "rejected-by-handler")]
    assert run.faults(channel=channel) == []
    letters *= 2
    assert run.faults(channel=channel) == ["buried twice by 0 kills: 1 events, such as 1"]
    # At-most-once, a worker that does not hear of the first one writes another.
    fault = "buried twice by 2 kills: 1 events, such as 1"
    assert run.faults(kills=2, channel=channel) == ([] if channel == "most" else [fault])
    letters[0] = ("1", "failed")
    faults = run.faults(kills=2, channel=channel)
    assert faults == ["in two places: 1 events, such as 1", "dead letters with a wrong code: 1 events, such as 1"]


def test_an_event_that_no_handler_gave_up_has_no_such_dead_letter(run: Run) -> None:
    run.sent()
    run.note("begin")
    run.remaining.dead["least"].append(("1", "rejected-by-handler"))
    assert run.faults() == ["dead letters with a wrong code: 1 events, such as 1"]


def test_an_event_that_its_handler_gave_up_does_not_come_again_after_its_dead_letter(run: Run) -> None:
    run.sent()
    run.rejected()
    run.rejected()
    run.remaining.dead["least"].append(("1", "rejected-by-handler"))
    assert run.faults(kills=5) == ["handled twice though nobody was killed: 1 events, such as 1"]


def test_an_event_comes_again_when_its_worker_was_killed_before_it_wrote_the_dead_letter(run: Run) -> None:
    run.sent()
    run.rejected(KILLED, at=9)
    run.rejected(ALIVE, at=11)
    run.remaining.dead["least"].append(("1", "rejected-by-handler"))
    assert run.faults(kills=1) == []
    # The letter was there before it came again: each of its handlers wrote one.
    run.remaining.dead["least"].append(("1", "rejected-by-handler"))
    assert run.faults(kills=1) == ["buried twice by 1 kills: 1 events, such as 1"]


@pytest.mark.parametrize(
    ("begun", "is_fault"), [(9, False), (12, False), (12.6, True), (12.9, True), (13.1, False), (22.6, True)]
)
def test_no_handler_starts_on_a_paused_channel_once_its_workers_must_know(
    run: Run,
    begun: float,
    is_fault: bool,  # noqa: FBT001
) -> None:
    for what, at in (("pause", 10), ("resume", 13), ("pause", 20)):
        run.note(what, "", at=at)
    run.sent()
    run.note("begin", at=begun)
    run.note("end")
    assert run.faults() == (["handled while the channel was paused: 1 events, such as 1"] if is_fault else [])
    assert run.faults(channel="most") == []


def test_what_lies_in_the_layer_under_the_name_of_no_channel_is_an_error(run: Run) -> None:
    run.remaining.waiting["{17}least"].append("1")
    with pytest.raises(ValueError, match="channels that the run does not have"):
        run.faults()
