"""Count what a process sends, in metrics of prometheus_client.

The monitor of a worker has what its handlers send. Any other sender, such as a web application, counts in its own
process, and serves these metrics together with its own.
"""

from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from channelmap.monitor.catalog import REJECTED, SENT, Metric
from channelmap.monitor.measuring import OTHER
from channelmap.observer import Rejected, Sent, Step

__all__ = ["export_metrics"]

if TYPE_CHECKING:
    from channelmap.sending import ContractLayer


def export_metrics(layer: "ContractLayer", registry: CollectorRegistry = REGISTRY) -> None:
    """Count the events that this process sends with a layer, and those that the layer rejects.

    The counters are `channelmap_events_sent_total` and `channelmap_events_rejected_total` with `side="sender"`. Several
    layers of a process may share a registry. A repeated call changes nothing. The contract is not read before the
    first event.

    Args:
        layer: the layer to send with, such as `get_channel_layer()`.
        registry: where the counters are registered; by default, where prometheus_client registers its own.

    Raises:
        ValueError: another library has registered metrics of these names.

    """
    counters = _counters.get(registry)
    if counters is None:
        counters = _counters[registry] = _Counters(registry)
    counters.observe(layer)


class _Counters:
    """The counters of one registry.

    They are prometheus_client's own counters, because its multi-process mode shows no other collectors.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # The labels are those of contracts, so there are few combinations.
        self._sent = cache(_counter(SENT, registry).labels)
        self._rejected = cache(_counter(REJECTED, registry).labels)
        self._layers: WeakSet[ContractLayer] = WeakSet()

    def observe(self, layer: "ContractLayer") -> None:
        """Count the steps of a layer, unless that is already done."""
        if layer in self._layers:
            return
        self._layers.add(layer)

        def count(step: Step) -> None:
            match step:
                case Sent(channel, event_type):
                    self._sent(channel, _label(layer, channel, event_type)).inc()
                case Rejected(channel, event_type, code=code, side=side):
                    self._rejected(channel, _label(layer, channel, event_type), code, side).inc()

        layer.observe(count)


_counters: WeakKeyDictionary[CollectorRegistry, _Counters] = WeakKeyDictionary()


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _label(layer: "ContractLayer", channel: str, event_type: str) -> str:
    declared = layer.contract.channels.get(channel)
    return event_type if declared is not None and event_type in declared.events else OTHER
