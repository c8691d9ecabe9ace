"""Write metrics in Prometheus' text format.

Written here because prometheus_client needs four times as long for thousands of histograms, during which handlers of
the same process wait. Format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from channelmap.monitor.catalog import METRICS, Metric
from channelmap.monitor.measuring import BOUNDS, Histogram, Key

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUND_LABELS = [*(f'le="{bound:g}"' for bound in BOUNDS), 'le="+Inf"']
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def exposition(values: Mapping[Key, float | Histogram]) -> str:
    """Return the text of all metrics that have values."""
    by_name: dict[str, list[tuple[Key, float | Histogram]]] = {}
    for key, value in values.items():
        by_name.setdefault(key[0], []).append((key, value))
    lines: list[str] = []
    for metric in METRICS:
        found = by_name.get(metric.name)
        if found:
            lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
            lines += _lines(metric, found)
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, values: Sequence[tuple[Key, float | Histogram]]) -> Iterator[str]:
    for (name, *labels), value in values:
        pairs = ",".join(
            f'{label}="{text.translate(_ESCAPES)}"' for label, text in zip(metric.labels, labels, strict=True)
        )
        if isinstance(value, list):
            yield from _histogram_lines(name, pairs, value)
        else:
            yield f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _histogram_lines(name: str, pairs: str, histogram: Histogram) -> list[str]:
    start = f"{name}_bucket{{{pairs},"
    totals = [*accumulate(histogram[1:])]
    lines = [f"{start}{bound}}} {total:.0f}" for bound, total in zip(_BOUND_LABELS, totals, strict=True)]
    lines.append(f"{name}_sum{{{pairs}}} {histogram[0]!r}")
    lines.append(f"{name}_count{{{pairs}}} {totals[-1]:.0f}")
    return lines


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else repr(value)
