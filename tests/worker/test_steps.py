"""An observer is told each step of an event, and cannot hurt it."""

import logging
import time
from typing import Any

import pytest

from channelmap.handling import Reject, Retry
from channelmap.limits import Service
from channelmap.monitor.measuring import WorkerMetrics
from channelmap.observer import (
    Dead,
    Failed,
    Finished,
    LayerAway,
    LayerBack,
    Lost,
    Rejected,
    Renewed,
    Retried,
    Started,
    Step,
    Taken,
)
from tests.worker.scripted import LEASED, Stage, away, job, jobs, lines, play


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        self.steps.append(step)

    def of(self, *kinds: type[Step]) -> list[Any]:
        return [step for step in self.steps if isinstance(step, kinds)]


@pytest.mark.parametrize("service", [LEASED, Service()], ids=["at-least-once", "at-most-once"])
def test_a_handled_event_was_taken_then_started_then_finished(service: Service) -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.put("a", job(0, takes=2), attempt=1, raw_id=255)
        await on.start({"a": service}, observe=seen)
        await on.turn(3)

    play(scene)
    event_id = f"{255:016x}"
    (started,) = seen.of(Started)
    assert seen.steps == [
        Taken("a", 1, 0),
        Started("a", "job", event_id, 1, started.waited),
        Finished("a", "job", event_id, 1, 2.0),
    ]


def test_an_event_that_a_clock_ahead_has_sent_has_not_waited() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.put("a", job(0))
        on.layer.queues["a"][0].sent = 1e12
        await on.start(observe=seen)

    play(scene)
    assert [started.waited for started in seen.of(Started)] == [0.0]


def test_metrics_measure_the_wait_of_each_event_and_the_time_of_each_handler() -> None:
    metrics = WorkerMetrics({"a": {"job"}})

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=2), job(1, takes=20, fails="no"), job(2, rejected="wrong"), job(3)])
        await on.start({"a": Service()}, metrics=metrics)
        await on.turn(30)

    play(scene)
    values = metrics.changes()
    durations, waits = values["channelmap_handler_seconds", "a", "job"], values["channelmap_wait_seconds", "a"]
    assert isinstance(durations, list)
    assert isinstance(waits, list)
    assert (durations[0], sum(durations[1:])) == (22.0, 3)
    assert sum(waits[1:]) == 4
    assert values["channelmap_events_handled_total", "a", "job", "ok"] == 2
    assert values["channelmap_events_rejected_total", "a", "job", "schema-mismatch", "gate"] == 1


@pytest.mark.parametrize("service", [LEASED, Service()], ids=["at-least-once", "at-most-once"])
@pytest.mark.parametrize("observed", [False, True])
def test_metrics_of_a_batch_are_those_of_its_events_and_change_nothing_else(
    service: Service, *, observed: bool
) -> None:
    metrics, seen = WorkerMetrics({"a": {"job", "other"}}), Seen()

    async def scene(on: Stage) -> None:
        # `blocks` takes time without waiting, so that the events stay one batch.
        on.layer.fill("a", [*jobs(300), job(300, blocks=3), {"type": "other", "n": 301}, job(302, blocks=4)])
        on.clock.turn_while_blocked(7)
        await on.start({"a": service}, metrics=metrics, observe=seen if observed else None)
        await on.turn(1)
        assert on.application.done == [*range(303)]
        settled = [number for call in on.layer.of("settle") for number in call.numbers]
        assert settled == ([*range(303)] if service.retry is not None else [])
        assert on.worker.in_flight() == {}
        assert on.worker._steps.totals["a"]["handled"] == 303

    play(scene)
    values = metrics.changes()
    durations, others = (values["channelmap_handler_seconds", "a", kind] for kind in ("job", "other"))
    waits = values["channelmap_wait_seconds", "a"]
    assert isinstance(durations, list)
    assert isinstance(others, list)
    assert isinstance(waits, list)
    assert (durations[0], sum(durations[1:]), durations[1]) == (7.0, 302, 300)
    assert (others[0], sum(others[1:])) == (0.0, 1)
    assert sum(waits[1:]) == 303
    assert len(seen.of(Finished)) == (303 if observed else 0)


def test_the_notes_of_a_meter_stay_few() -> None:
    metrics, notes = WorkerMetrics({"a": {"job"}}), list[int]()

    def note() -> None:
        notes.append(len(metrics._meters["a"][0]._noted) // 3)

    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(3_000, then=note))
        await on.start({"a": Service()}, metrics=metrics)

    play(scene)
    assert len(notes) == 3_000
    assert 100 < max(notes) <= 128


def test_a_wait_is_counted_from_the_time_of_sending_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, seen = WorkerMetrics({"a": {"job"}}), Seen()
    monkeypatch.setattr(time, "time", lambda: 1e9)

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(3), job(3, fails="no"), job(4)])
        for delivery in on.layer.queues["a"]:
            delivery.sent = 1e9 - 20
        on.clock.turn_while_blocked(7)
        await on.start({"a": Service()}, metrics=metrics, observe=seen)

    play(scene)
    waits = metrics.changes()["channelmap_wait_seconds", "a"]
    assert isinstance(waits, list)
    assert (round(waits[0], 6), sum(waits[1:])) == (100.0, 5)
    assert [round(started.waited, 6) for started in seen.of(Started)] == [20.0] * 5


def test_a_suspect_counts_as_redelivered_although_it_is_the_same_attempt() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.put("a", job(0), suspect=True)
        await on.start(observe=seen)

    play(scene)
    assert seen.of(Taken) == [Taken("a", 1, 1)]


def test_every_event_of_a_batch_has_its_own_duration() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(7), job(7, takes=5), job(8, takes=1)])
        await on.start(observe=seen)
        await on.turn(10)

    play(scene)
    assert [finished.seconds for finished in seen.of(Finished)] == [0, 0, 0, 0, 0, 0, 0, 5, 1]
    assert len(seen.of(Started)) == 9


def test_a_failed_event_is_retried_and_at_last_dead() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=1, fails="no disk")])
        await on.start(observe=seen)
        await on.turn(100)

    play(scene)
    assert [(step.attempt, step.seconds, step.outcome, step.reason) for step in seen.of(Failed)] == [
        (attempt, 1.0, "failed", "ValueError: no disk") for attempt in (1, 2, 3)
    ]
    assert [str(step.error) for step in seen.of(Failed)] == ["no disk"] * 3
    assert [(step.attempt, step.delay) for step in seen.of(Retried)] == [(1, 1.0), (2, 10.0)]
    assert [(step.attempt, step.code, step.reason) for step in seen.of(Dead)] == [(3, "failed", "ValueError: no disk")]
    assert not seen.of(Finished)
    assert [step.redelivered for step in seen.of(Taken)] == [0, 1, 1]


def test_what_a_handler_asks_for_is_an_outcome_of_its_own() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, fails=Retry(after=7)), job(1, fails=Reject("gone")), job(2, takes=9)])
        await on.start({"a": Service(retry=LEASED.retry, timeout=5)}, observe=seen)
        await on.turn(5.5)

    play(scene)
    assert [(step.outcome, step.error) for step in seen.of(Failed)] == [
        ("retry", None), ("given-up", None), ("timeout", None),
    ]  # fmt: skip
    assert [step.delay for step in seen.of(Retried)] == [7, 1]
    assert [(step.code, step.reason) for step in seen.of(Dead)] == [("rejected-by-handler", "gone")]


def test_a_rejected_event_is_dead_and_was_not_handled() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0), job(1, rejected="wrong", code="unknown-type"), job(2)])
        await on.start(observe=seen)
        await on.turn(1)

    play(scene)
    assert [(step.code, step.side) for step in seen.of(Rejected)] == [("unknown-type", "gate")]
    assert [step.code for step in seen.of(Dead)] == ["unroutable"]
    assert len(seen.of(Finished)) == 2


def test_an_undeliverable_event_is_dead_without_having_started() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.put("a", None, problem="broken bytes")
        await on.start(observe=seen)
        await on.turn(1)

    play(scene)
    assert [(step.type, step.code, step.reason) for step in seen.of(Dead)] == [("", "unreadable", "broken bytes")]
    assert not seen.of(Started)


def test_a_lost_layer_is_told_when_it_goes_and_when_it_is_back() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fail("take", away())
        await on.start(observe=seen)
        assert not on.worker.is_layer_up
        await on.turn(60)
        on.layer.fill("a", jobs(1))
        on.layer.heal("take")
        await on.turn(10)
        assert on.worker.is_layer_up

    play(scene)
    assert [type(step) for step in seen.steps[:3]] == [LayerAway, LayerBack, Taken]
    assert seen.steps[0] == LayerAway("a", "scripted://: away")
    assert 60 <= seen.of(LayerBack)[0].seconds <= 65


def test_a_heartbeat_shows_that_the_layer_is_back_for_an_empty_channel() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.has_heartbeats = True  # type: ignore[misc]  # of this layer only
        on.layer.fail("take", away())
        on.layer.fail("heartbeat", away())
        await on.start(observe=seen)
        await on.turn(60)
        on.layer.heal("heartbeat")
        await on.turn(5)
        assert not on.worker.is_layer_up
        on.layer.heal("take")
        await on.turn(10)
        assert on.worker.is_layer_up

    play(scene)
    assert [type(step) for step in seen.steps] == [LayerAway, LayerBack]


def test_events_that_a_stopping_worker_cannot_report_are_told() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fill("a", jobs(3))
        on.layer.hang("settle")
        await on.start(observe=seen)
        await on.end()

    play(scene)
    assert seen.of(Lost) == [Lost("a", 1, redelivered=True)]


def test_renewed_leases_are_told() -> None:
    seen = Seen()

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [job(0, takes=25)])
        await on.start(observe=seen, lease=30.0)
        await on.turn(26)

    play(scene)
    assert seen.of(Renewed) == [Renewed("a", 1)] * 2


def test_an_observer_that_fails_hurts_no_event_and_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    def broken(step: Step) -> None:
        raise RuntimeError("no network")

    async def scene(on: Stage) -> None:
        on.layer.fill("a", [*jobs(3), job(3, fails="no disk"), job(4, rejected="wrong")])
        await on.start({"a": Service()}, observe=broken)
        await on.turn(5)
        assert on.application.seen == [0, 1, 2, 3, 4]
        assert not on.running.done()

    with caplog.at_level(logging.ERROR, "channelmap.observer"):
        play(scene)
    (line,) = (line for line in lines(caplog) if "observer" in line)
    assert line.endswith(".broken failed at Taken: RuntimeError: no network")
