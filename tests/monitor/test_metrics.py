"""Metrics count what happened, add up over workers, and are text that Prometheus can read."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.parser import text_string_to_metric_families

from channelmap.monitor.catalog import METRICS
from channelmap.monitor.exposition import exposition
from channelmap.monitor.measuring import BOUNDS, OTHER, SlotMeter, Values, WorkerMetrics
from channelmap.monitor.reporting import Reporter
from channelmap.monitor.reports import Report, Reports
from channelmap.observer import Failed, Rejected, Sent, Taken

TYPES = {"jobs": {"job", "other.job"}, 'odd"name\\': {"new\nline"}}


class Worker:
    """A worker that serves its channels."""

    is_ready = is_layer_up = True

    def __init__(self, in_flight: dict[str, int] | None = None) -> None:
        self._in_flight = in_flight or {}

    def in_flight(self) -> dict[str, int]:
        return self._in_flight


def metrics() -> WorkerMetrics:
    return WorkerMetrics(TYPES)


def handle(meter: SlotMeter, event_type: str, seconds: float, *, waited: float) -> None:
    """Measure an event that was sent at 0 by a clock that shows the wall time."""
    meter.note((event_type, 0.0, waited))
    meter.finish(waited + seconds)


def test_durations_and_waits_fall_into_the_buckets_that_prometheus_expects() -> None:
    measured = metrics()
    meter = measured.meter("jobs")
    for seconds in (0.001, 0.0011, 0.005, 300.0, 301.0):
        handle(meter, "job", seconds, waited=seconds)
    families = {family.name: family for family in text_string_to_metric_families(exposition(measured.changes()))}
    for name in ("channelmap_handler_seconds", "channelmap_wait_seconds"):
        buckets = {s.labels["le"]: s.value for s in families[name].samples if s.name.endswith("_bucket")}
        assert (buckets["0.001"], buckets["0.005"], buckets["0.01"], buckets["300"], buckets["+Inf"]) == (1, 3, 3, 4, 5)
        assert len(buckets) == len(BOUNDS) + 1
        values = {s.name: s.value for s in families[name].samples}
        assert values[f"{name}_count"] == 5
        assert abs(values[f"{name}_sum"] - 601.0071) < 1e-6


def test_a_type_that_the_contract_does_not_declare_is_other() -> None:
    measured = metrics()
    meter = measured.meter("jobs")
    for event_type in ("made.up.1", "made.up.2", ["not", "a", "text"], None):
        meter.note((event_type, 0, 0))
    meter.finish(0)
    measured(Rejected("jobs", "made.up.3", "", 1, "unknown-type", "gate"))
    measured(Sent("elsewhere", "job", "", 0))
    values = measured.changes()
    assert {key[2] for key in values if len(key) > 2} == {OTHER}
    assert values["channelmap_events_handled_total", "jobs", OTHER, "ok"] == 4


def test_names_with_quotes_and_newlines_survive_the_text_format() -> None:
    measured = metrics()
    measured(Sent('odd"name\\', "new\nline", "", 0))
    (family,) = text_string_to_metric_families(exposition(measured.changes()))
    assert family.samples[0].labels == {"channel": 'odd"name\\', "type": "new\nline"}


def test_steps_from_many_threads_are_all_counted() -> None:
    measured = metrics()

    def send_many(_: int) -> None:
        for _ in range(2_000):
            measured(Sent("jobs", "job", "", 0))

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(send_many, range(8)))
    assert measured.changes()["channelmap_events_sent_total", "jobs", "job"] == 16_000


def test_a_forked_process_counts_although_the_lock_was_held() -> None:
    measured = metrics()
    with measured._lock:
        pid = os.fork()
        if pid == 0:
            measured(Sent("jobs", "job", "", 0))
            os._exit(0 if measured.changes()["channelmap_events_sent_total", "jobs", "job"] == 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_failed_events_are_counted_by_outcome_and_measured() -> None:
    measured = metrics()
    measured(Failed("jobs", "job", "", 1, 2.0, "timeout", "late", None))
    measured(Failed("jobs", "job", "", 2, 3.0, "failed", "late", None))
    measured(Taken("jobs", 5, 0))
    measured(Taken("jobs", 5, 2))
    values = measured.changes()
    assert values["channelmap_events_handled_total", "jobs", "job", "timeout"] == 1
    assert values["channelmap_events_handled_total", "jobs", "job", "failed"] == 1
    assert values["channelmap_handler_seconds", "jobs", "job"][0] == 5.0  # type: ignore[index]  # a histogram
    assert values["channelmap_events_redelivered_total", "jobs"] == 2


def test_a_report_has_the_channels_on_which_something_happened_and_survives_json() -> None:
    measured, sent = WorkerMetrics({"jobs": {"job"}, "mails": {"mail"}}), list[Report]()
    reporter = Reporter(Worker(), measured, sent.append)
    handle(measured.meter("jobs"), "job", 0.2, waited=0.1)
    measured(Sent("mails", "mail", "", 0))
    reporter.report()
    measured(Sent("mails", "mail", "", 0))
    reporter.report()
    reporter.report()
    assert [{channel for _, channel, *_ in report.values} for report in sent] == [{"jobs", "mails"}, {"mails"}, set()]
    reports = Reports()
    for report in sent:
        reports.add(7, Report.from_json(json.loads(json.dumps(report.to_json()))))
    values = reports.values()
    assert values["channelmap_events_sent_total", "mails", "mail"] == 2
    assert values["channelmap_events_handled_total", "jobs", "job", "ok"] == 1


def test_an_event_counts_as_handled_as_soon_as_the_next_one_follows() -> None:
    measured = metrics()
    meter = measured.meter("jobs")
    for start, event_type in enumerate(["job", "other.job", "job", "job"]):
        meter.note((event_type, 0.0, float(start)))
    values = measured.changes()
    assert values["channelmap_events_handled_total", "jobs", "job", "ok"] == 2
    assert values["channelmap_events_handled_total", "jobs", "other.job", "ok"] == 1
    assert not measured.changes()
    meter.finish(5.0)
    values = measured.changes()
    durations = values["channelmap_handler_seconds", "jobs", "job"]
    assert isinstance(durations, list)
    assert (durations[0], sum(durations[1:])) == (4.0, 3)


def test_an_event_that_was_not_handled_counts_with_its_wait_only() -> None:
    measured = metrics()
    meter = measured.meter("jobs")
    meter.note(("job", 0.0, 1.0))
    meter.note(("job", 0.0, 3.0))
    assert meter.end() == 3.0
    values = measured.changes()
    waits = values["channelmap_wait_seconds", "jobs"]
    assert isinstance(waits, list)
    assert (waits[0], sum(waits[1:])) == (4.0, 2)
    assert values["channelmap_events_handled_total", "jobs", "job", "ok"] == 1


def test_events_that_two_threads_note_and_sum_up_are_all_counted() -> None:
    measured = metrics()
    meter = measured.meter("jobs")
    counted: Values = {}
    with ThreadPoolExecutor(1) as executor:
        noting = executor.submit(lambda: [meter.note(("job", 0.0, float(now))) for now in range(50_000)])
        while not noting.done():
            counted |= measured.changes()
    meter.finish(50_000.0)
    counted |= measured.changes()
    assert counted["channelmap_events_handled_total", "jobs", "job", "ok"] == 50_000
    durations = counted["channelmap_handler_seconds", "jobs", "job"]
    assert isinstance(durations, list)
    assert durations[0] == 50_000.0


def test_the_values_of_workers_add_up_also_of_one_that_has_ended() -> None:
    reports = Reports()
    for worker in (1, 2):
        measured, sent = metrics(), list[Report]()
        handle(measured.meter("jobs"), "job", 0.25, waited=0.5)
        measured(Sent("jobs", "job", "", 0))
        Reporter(Worker({"jobs": worker}), measured, sent.append).report()
        reports.add(worker, sent[0])
    expected = reports.values()
    assert expected["channelmap_events_sent_total", "jobs", "job"] == 2
    assert expected["channelmap_handler_seconds", "jobs", "job"][0] == 0.5  # type: ignore[index]  # a histogram
    assert reports.in_flight() == {"jobs": 3}
    reports.remove(1)
    assert reports.values() == expected
    assert reports.in_flight() == {"jobs": 2}


def test_the_state_of_several_workers() -> None:
    reports = Reports()
    assert (reports.is_ready, reports.was_ready, reports.lag) == (False, False, 0.0)
    reports.add(1, Report(ready=True, layer_up=True, in_flight={}, values={}))
    reports.add(2, Report(ready=False, layer_up=False, in_flight={}, values={}))
    assert (reports.is_ready, reports.is_layer_up) == (True, False)
    reports.remove(2)
    assert reports.is_layer_up
    reports.add(1, Report(ready=False, layer_up=True, in_flight={}, values={}))
    assert (reports.is_ready, reports.was_ready) == (False, True)


def test_every_metric_of_the_catalog_has_its_own_name_and_a_help_text() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
