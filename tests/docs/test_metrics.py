"""Metrics have the same names, kinds and labels in the catalog, the documents, the dashboard and the alert rules."""

import json
import os
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from channelmap.monitor.catalog import METRICS, Metric
from channelmap.monitor.measuring import BOUNDS
from tests.docs.promql import Problem, check, names

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "metrics.md"
#: What ends the part of docs/metrics.md that is written by hand.
MARK = "<!-- What follows is written by tests/docs/test_metrics.py, from channelmap/monitor/catalog.py. -->\n"
SOURCES = {"worker": "the workers", "layer": "the layer", "process": "the process"}

DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
(GROUP,) = yaml.safe_load((DOCS / "alert-rules.yaml").read_text(encoding="utf-8"))["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]


def test_the_table_of_metrics_is_made_of_the_catalog() -> None:
    by_hand, mark, written = PAGE.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"docs/metrics.md lacks the line {MARK}"
    expected = table()
    if "RENEW" in os.environ:
        PAGE.write_text(by_hand + MARK + expected, encoding="utf-8")
    else:
        assert written == expected, "docs/metrics.md is older than the catalog; to write it anew, `make renew`"


def table() -> str:
    lines = ["", "| metric | kind | labels | what it is | known by |", "| --- | --- | --- | --- | --- |"]
    lines += map(row, METRICS)
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
    lines += ["", f"The buckets of the histograms end at {bounds} seconds, and at infinity."]
    return "\n".join(lines) + "\n"


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} | {SOURCES[metric.source]} |"


# The dashboard.


def expressions_of_the_dashboard() -> Iterator[str]:
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield target["expr"]


def dashboard_queries() -> Iterator[str]:
    """The metrics of `label_values(METRIC, LABEL)` in the variables, each with its label."""
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert found, variable["definition"]
            yield f"max by ({found[2]}) ({found[1]})"


@pytest.mark.parametrize("expression", [*expressions_of_the_dashboard(), *dashboard_queries()])
def test_the_dashboard_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    check(expression)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for expression in expressions_of_the_dashboard() for name in names(expression)}
    assert shown == {metric.name for metric in METRICS}


def test_legends_of_the_dashboard_name_labels_by_which_their_panel_is_grouped() -> None:
    for panel in PANELS:
        for target in panel.get("targets", []):
            grouped = re.search(r"by \(([^)]*)\)", target["expr"])
            labels = set(grouped[1].split(", ")) - {"le"} if grouped and panel["type"] != "stat" else set()
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == labels, panel["title"]


def test_every_panel_of_the_dashboard_has_its_own_id_and_place() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert 0 <= panel["gridPos"]["x"] <= panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations(PANELS, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )


def test_the_dashboard_asks_the_data_source_that_is_chosen_in_it() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    assert set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval", "__all"} == variables
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"${datasource}", "channelmap"}


# The alert rules.


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    check(rule["expr"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_with_labels_that_its_series_have(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "5m"))
    grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
    # Without an aggregation, a series has the labels of its target.
    labels = set(grouped[1].split(", ")) if grouped else {"job", "instance"}
    texts = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels
    assert texts.count("{{") == texts.count("}}")


def test_alerts_have_names_of_their_own_and_the_runbook_has_each() -> None:
    alerts = [rule["alert"] for rule in RULES]
    assert len(set(alerts)) == len(alerts)
    runbook = (DOCS / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Channelmap\w+)` \|", runbook, re.MULTILINE) == alerts


# The checker.


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("channelmap_waitng", "not in the catalog"),
        ("rate(channelmap_in_flight[5m])", "rate of the gauge"),
        ("channelmap_events_sent_total", "needs rate or increase"),
        ("sum(channelmap_events_sent_total)", "needs rate or increase"),
        ("rate(channelmap_events_sent_total)", "needs rate or increase"),
        ("rate(channelmap_handler_seconds[5m])", "not in the catalog"),
        ("channelmap_in_flight_count", "not in the catalog"),
        ("sum by (le) (rate(channelmap_handler_seconds_bucket[5m]))", "outside of histogram_quantile"),
        ("histogram_quantile(0.5, sum by (type) (rate(channelmap_handler_seconds_bucket[5m])))", "without le"),
        ("sum by (channel) (channelmap_waiting)", "must be combined with max first"),
        ("channelmap_waiting > 3", "must be combined with max first"),
        ("channelmap_in_flight[5m]", "a range belongs into"),
        ('channelmap_in_flight{type="x"}', "does not have the labels {'type'}"),
        ("sum by (channel, code) (channelmap_in_flight)", "no metric here has the labels {'code'}"),
        ("sun by (channel) (channelmap_in_flight)", "'by' is too much"),
        ("median(channelmap_in_flight)", "median is not a function"),
        ("max(channelmap_in_flight", "expected ), got ''"),
        ("channelmap_in_flight > ", "expected a metric, a number or a call"),
        ("channelmap_in_flight & 1", "cannot read"),
        ("channelmap_in_flight{channel=jobs}", "expected text"),
        ("1 > 0", "no metric"),
    ],
)
def test_the_checker_finds_what_is_wrong_with_an_expression(expression: str, problem: str) -> None:
    with pytest.raises(Problem, match=re.escape(problem)):
        check(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "channelmap_in_flight > 3",
        'sum(max by (channel) (channelmap_waiting{channel!~"a|b"})) / 2 >= (1 + 2)',
        "increase(channelmap_wait_seconds_count[5m])",
        "max(max_over_time(channelmap_paused[1h] offset 2d)) unless on (job) channelmap_layer_up == 0",
    ],
)
def test_the_checker_takes_what_is_right(expression: str) -> None:
    check(expression)
