"""Write metrics in Prometheus' text format.

Written here because prometheus_client needs four times as long for thousands of histograms, during which handlers of
the same process wait. Format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from channelmap.monitor.catalog import METRICS, Metric
from channelmap.monitor.measuring import BOUNDS, Histogram, Key

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUND_LABELS = [*(f'le="{bound:g}"' for bound in BOUNDS), 'le="+Inf"']
#: Stands for the labels of a value.
_PAIRS = "\0"
#: Values that are written without a pause. A pause takes nearly a millisecond, so shorter batches would take longer
#: altogether, and handlers wait hardly less.
_BATCH, _PAUSE_SECS = 200, 0.0001
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def exposition(values: Mapping[Key, float | Histogram]) -> str:
    """Return the text of all metrics that have values.

    It is meant for a thread of its own: it pauses now and then, so that the event loop of a handler gets its turn.
    """
    by_name: dict[str, list[tuple[Key, float | Histogram]]] = {}
    for key, value in values.items():
        by_name.setdefault(key[0], []).append((key, value))
    lines: list[str] = []
    for metric in METRICS:
        found = by_name.get(metric.name)
        if found:
            lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
            for first in range(0, len(found), _BATCH):
                lines += _lines(metric, found[first : first + _BATCH])
                time.sleep(_PAUSE_SECS)
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, values: Sequence[tuple[Key, float | Histogram]]) -> Iterator[str]:
    histogram = _histogram_template(metric.name)
    for (name, *labels), value in values:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in zip(metric.labels, labels, strict=True))
        if isinstance(value, list):
            template = histogram.replace(_PAIRS, pairs.replace("%", "%%"))
            totals = [*accumulate(value[1:])]
            yield template % (*totals, value[0], totals[-1])
        else:
            yield f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


@lru_cache(10_000)
def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _histogram_template(name: str) -> str:
    """Return the lines of a histogram as a format: one call writes them all."""
    lines = [f"{name}_bucket{{{_PAIRS},{bound}}} %d" for bound in _BOUND_LABELS]
    return "\n".join([*lines, f"{name}_sum{{{_PAIRS}}} %r", f"{name}_count{{{_PAIRS}}} %d"])


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else repr(value)
