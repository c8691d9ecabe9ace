"""Reads the metrics, labels and functions of PromQL expressions, and compares them with the catalog.

It knows the part of PromQL that the dashboard, the alert rules and the documents use; anything else is an error.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from channelmap.monitor.catalog import METRICS, Metric

CATALOG = {metric.name: metric for metric in METRICS}
#: Labels that Prometheus adds to each series of a target.
TARGET_LABELS = {"job", "instance"}

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"[^"]*")
    | (?P<duration>\$__rate_interval|\d+(?:\.\d+)?(?:ms|[smhdwy]))
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<word>[a-zA-Z_][a-zA-Z0-9_]*)
    | (?P<operator>=~|!~|!=|==|<=|>=|[-+*/<>=(){}\[\],])
    )""",
    re.VERBOSE,
)
_COUNTER_FUNCTIONS = {"rate", "increase"}
_GAUGE_FUNCTIONS = {"min_over_time", "max_over_time", "avg_over_time"}
_AGGREGATIONS = {"sum", "min", "max", "avg", "count"}
_FUNCTIONS = _COUNTER_FUNCTIONS | _GAUGE_FUNCTIONS | _AGGREGATIONS | {"absent", "histogram_quantile"}
_SET_OPERATORS = {"and", "or", "unless"}
_LABEL_LISTS = {"by", "on"}


@dataclass
class Use:
    """A metric in an expression."""

    name: str
    #: The function calls around it, innermost last.
    calls: tuple[str, ...]
    labels: set[str]
    has_range: bool

    @property
    def metric(self) -> Metric | None:
        """The metric of the catalog; a histogram has series with three suffixes."""
        if self.name in CATALOG and CATALOG[self.name].kind != "histogram":
            return CATALOG[self.name]
        base = CATALOG.get(re.sub("_(bucket|sum|count)$", "", self.name))
        return base if base is not None and base.kind == "histogram" and base.name != self.name else None


@dataclass
class Expression:
    """What an expression uses."""

    uses: list[Use] = field(default_factory=list)
    #: Labels in `by (…)` and `on (…)`.
    grouped: set[str] = field(default_factory=set)


class Problem(Exception):
    """An expression is wrong."""


def names(expression: str) -> set[str]:
    """Return the names of the catalog's metrics that an expression uses."""
    return {use.metric.name for use in read(expression).uses if use.metric is not None}


def check(expression: str) -> None:
    """Raise Problem if an expression names what the catalog does not have, or uses it in a wrong way."""
    found = read(expression)
    if not found.uses:
        raise Problem("no metric")
    known = set(TARGET_LABELS)
    for use in found.uses:
        _check_use(use)
        assert use.metric is not None
        known |= {*use.metric.labels, *(["le"] if use.name.endswith("_bucket") else [])}
    if found.grouped - known:
        raise Problem(f"no metric here has the labels {found.grouped - known}")
    if any(use.name.endswith("_bucket") for use in found.uses) and "le" not in found.grouped:
        raise Problem("buckets are added up without le")


def _check_use(use: Use) -> None:
    metric = use.metric
    if metric is None:
        raise Problem(f"{use.name} is not in the catalog")
    if use.labels - {*metric.labels} - TARGET_LABELS:
        raise Problem(f"{use.name} does not have the labels {use.labels - {*metric.labels}}")
    innermost = use.calls[-1] if use.calls else ""
    if metric.kind == "gauge":
        if innermost in _COUNTER_FUNCTIONS:
            raise Problem(f"{innermost} of the gauge {use.name}")
        if use.has_range != (innermost in _GAUGE_FUNCTIONS):
            raise Problem(f"{use.name}: a range belongs into min_over_time or its like")
        aggregations = [call for call in use.calls if call in _AGGREGATIONS]
        if metric.source == "layer" and aggregations[-1:] != ["max"]:
            raise Problem(f"{use.name} is reported by each monitor, and must be combined with max first")
    elif innermost not in _COUNTER_FUNCTIONS or not use.has_range:
        raise Problem(f"{use.name} is a {metric.kind}: it needs rate or increase over a range")
    if use.name.endswith("_bucket") and "histogram_quantile" not in use.calls:
        raise Problem(f"{use.name} outside of histogram_quantile")


def read(expression: str) -> Expression:
    """Return what an expression uses; raise Problem if it cannot be read."""
    return _Reader([*_tokens(expression)]).read()


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    text, end = text.strip(), 0
    while end < len(text):
        token = _TOKEN.match(text, end)
        if token is None:
            raise Problem(f"cannot read {text[end:]!r}")
        assert token.lastgroup is not None
        yield token.lastgroup, token[token.lastgroup]
        end = token.end()


class _Reader:
    """Walks over the tokens of an expression."""

    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._next = 0
        self._calls: list[str] = []
        self._found = Expression()

    def read(self) -> Expression:
        self._expression()
        if self._next < len(self._tokens):
            raise Problem(f"{self._peek()!r} is too much")
        return self._found

    def _peek(self, ahead: int = 0) -> str:
        at = self._next + ahead
        return self._tokens[at][1] if at < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self, *expected: str) -> str:
        text = self._peek()
        if expected and text not in expected:
            raise Problem(f"expected {' or '.join(expected)}, got {text!r}")
        self._next += 1
        return text

    def _expression(self) -> None:
        self._operand()
        while self._peek() in {"+", "-", "*", "/", "<", ">", "<=", ">=", "==", "!=", *_SET_OPERATORS}:
            self._take()
            if self._peek() == "on":
                self._take()
                self._labels()
            self._operand()

    def _operand(self) -> None:
        if self._peek() == "(":
            self._take()
            self._expression()
            self._take(")")
        elif self._kind() == "number":
            self._take()
        elif self._kind() != "word":
            raise Problem(f"expected a metric, a number or a call, got {self._peek()!r}")
        elif self._peek() in _FUNCTIONS:
            self._call()
        elif self._peek(1) == "(":
            raise Problem(f"{self._peek()} is not a function of this checker")
        else:
            self._selector()

    def _call(self) -> None:
        name = self._take()
        if self._peek() == "by":
            if name not in _AGGREGATIONS:
                raise Problem(f"{name} takes no 'by'")
            self._take()
            self._labels()
        self._calls.append(name)
        self._take("(")
        self._expression()
        while self._peek() == ",":
            self._take()
            self._expression()
        self._take(")")
        self._calls.pop()

    def _labels(self) -> None:
        self._take("(")
        while self._peek() != ")":
            if self._kind() != "word":
                raise Problem(f"expected a label, got {self._peek()!r}")
            self._found.grouped.add(self._take())
            if self._peek() != ")":
                self._take(",")
        self._take(")")

    def _selector(self) -> None:
        use = Use(self._take(), tuple(self._calls), set(), has_range=False)
        if self._peek() == "{":
            self._take()
            while self._peek() != "}":
                use.labels.add(self._take())
                self._take("=", "!=", "=~", "!~")
                if self._kind() != "string":
                    raise Problem(f"expected text, got {self._peek()!r}")
                self._take()
                if self._peek() != "}":
                    self._take(",")
            self._take("}")
        if self._peek() == "[":
            self._take()
            self._duration()
            self._take("]")
            use.has_range = True
        if self._peek() == "offset":
            self._take()
            self._duration()
        self._found.uses.append(use)

    def _duration(self) -> None:
        if self._kind() != "duration":
            raise Problem(f"expected a duration, got {self._peek()!r}")
        self._take()
