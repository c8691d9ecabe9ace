"""The table of metrics; the dashboard, the alert rules and the documentation are checked against it."""

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: as Prometheus stores it.
        kind: its type.
        labels: names of its labels. Channels and types are those of the contract; other types are `_other`.
        help: what it counts.
        source: `worker` for reports of workers, `layer` for counts of the layer, `process` for the process itself.

    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    source: Literal["worker", "layer", "process"]


SENT = Metric("channelmap_events_sent_total", "counter", ("channel", "type"), "Events that a layer accepted.", "worker")
REJECTED = Metric(
    "channelmap_events_rejected_total", "counter", ("channel", "type", "code", "side"),
    "Events that do not meet the contract, at the sender or at the gate.", "worker",
)  # fmt: skip
HANDLED = Metric(
    "channelmap_events_handled_total", "counter", ("channel", "type", "outcome"),
    "Handler calls by outcome: ok, failed, timeout, retry, given-up.", "worker",
)  # fmt: skip
REDELIVERED = Metric(
    "channelmap_events_redelivered_total", "counter", ("channel",),
    "Events that were taken again, after a retry or because a lease expired.", "worker",
)  # fmt: skip
HANDLER_SECONDS = Metric(
    "channelmap_handler_seconds", "histogram", ("channel", "type"), "Duration of handler calls.", "worker"
)
WAIT_SECONDS = Metric(
    "channelmap_wait_seconds", "histogram", ("channel",), "Time from send, or due time, to the handler.", "worker"
)
IN_FLIGHT = Metric("channelmap_in_flight", "gauge", ("channel",), "Events that are being handled.", "worker")
WAITING = Metric("channelmap_waiting", "gauge", ("channel",), "Events that wait in the layer.", "layer")
SCHEDULED = Metric("channelmap_scheduled", "gauge", ("channel",), "Events that are not due yet.", "layer")
OLDEST_SECONDS = Metric(
    "channelmap_oldest_seconds", "gauge", ("channel",), "Age of the oldest waiting event; 0 if none waits.", "layer"
)
DEAD_LETTERS = Metric("channelmap_dead_letters", "gauge", ("channel", "code"), "Dead letters in the layer.", "layer")
PAUSED = Metric("channelmap_paused", "gauge", ("channel",), "1 while the channel is paused.", "layer")
LAYER_UP = Metric("channelmap_layer_up", "gauge", (), "1 while the layer answers all workers.", "worker")
LOOP_LAG_SECONDS = Metric(
    "channelmap_loop_lag_seconds", "gauge", (), "Longest time since the event loop of a worker has run.", "worker"
)
INFO = Metric("channelmap_info", "gauge", ("version", "contract"), "Version, and digest of the contract.", "process")

METRICS = (
    SENT, REJECTED, HANDLED, REDELIVERED, HANDLER_SECONDS, WAIT_SECONDS, IN_FLIGHT, WAITING, SCHEDULED, OLDEST_SECONDS,
    DEAD_LETTERS, PAUSED, LAYER_UP, LOOP_LAG_SECONDS, INFO,
)  # fmt: skip
