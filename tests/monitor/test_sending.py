"""A process that sends counts what it sends in prometheus_client's registry."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from channelmap import ContractError, EventRejected, UnknownChannel, get_channel_layer, load
from channelmap.errors import ChannelFull
from channelmap.monitor.sending import export_metrics
from channelmap.observer import Sent, Step
from channelmap.sending import ContractLayer

CONTRACT = """\
version: 1
layer: {layer}
channels:
  jobs: {{consumer: work.Jobs, capacity: 5, events: {{job: {{schema: {{required: [id]}}}}, ping: true}}}}
  loose: {{consumer: work.Jobs, validate: off, events: {{job: true}}}}
"""

#: A program that sends, and shows what it has counted; the first argument says how often.
SENDER = """\
import sys
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess
from channelmap import EventRejected, get_channel_layer
from channelmap.monitor.sending import export_metrics

layer = get_channel_layer()
export_metrics(layer)
for number in range(int(sys.argv[1])):
    layer.send_sync("loose", {"type": "job"})
try:
    layer.send_sync("jobs", {"type": "job"})
except EventRejected:
    pass
registry = REGISTRY
if sys.argv[2:] == ["all"]:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


@pytest.fixture
def contract(project: Path) -> Path:
    return write(project / "channels.yaml")


def write(path: Path, layer: str = "memory://") -> Path:
    path.write_text(CONTRACT.format(layer=layer))
    return path


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def sent(registry: CollectorRegistry, channel: str, event_type: str) -> float | None:
    return registry.get_sample_value("channelmap_events_sent_total", {"channel": channel, "type": event_type})


def rejected(registry: CollectorRegistry, channel: str, event_type: str, code: str) -> float | None:
    labels = {"channel": channel, "type": event_type, "code": code, "side": "sender"}
    return registry.get_sample_value("channelmap_events_rejected_total", labels)


def test_each_way_to_send_is_counted(contract: Path, registry: CollectorRegistry) -> None:
    layer = get_channel_layer(contract)
    export_metrics(layer, registry)

    async def send() -> None:
        await layer.send("jobs", {"type": "job", "id": 1})
        await layer.send_many("jobs", [{"type": "job", "id": 2}, {"type": "ping"}])

    asyncio.run(send())
    layer.send_sync("jobs", {"type": "job", "id": 3}, delay=60)

    assert (sent(registry, "jobs", "job"), sent(registry, "jobs", "ping")) == (3, 1)


def test_rejections_are_counted_by_their_codes(contract: Path, registry: CollectorRegistry) -> None:
    layer = get_channel_layer(contract)
    export_metrics(layer, registry)

    for event in ({"type": "job"}, {"type": "jbo"}, {"type": "jbo"}, {}):
        with pytest.raises(EventRejected):
            layer.send_sync("jobs", event)

    assert rejected(registry, "jobs", "job", "schema-mismatch") == 1
    assert rejected(registry, "jobs", "_other", "unknown-type") == 2
    assert rejected(registry, "jobs", "_other", "missing-type") == 1
    assert sent(registry, "jobs", "job") is None


def test_a_type_that_no_contract_declares_is_no_label(contract: Path, registry: CollectorRegistry) -> None:
    layer = get_channel_layer(contract)
    export_metrics(layer, registry)

    layer.send_sync("loose", {"type": "surprise"})

    assert (sent(registry, "loose", "surprise"), sent(registry, "loose", "_other")) == (None, 1)


def test_what_no_layer_accepts_is_not_counted(contract: Path, registry: CollectorRegistry) -> None:
    layer = get_channel_layer(contract)
    export_metrics(layer, registry)

    for number in range(5):
        layer.send_sync("jobs", {"type": "job", "id": number})
    with pytest.raises(ChannelFull):
        layer.send_sync("jobs", {"type": "job", "id": 5})
    with pytest.raises(UnknownChannel):
        layer.send_sync("job", {"type": "job", "id": 5})

    assert sent(registry, "jobs", "job") == 5


def test_a_repeated_call_counts_nothing_twice(contract: Path, registry: CollectorRegistry) -> None:
    layer = get_channel_layer(contract)
    export_metrics(layer, registry)
    export_metrics(layer, registry)

    layer.send_sync("jobs", {"type": "ping"})

    assert sent(registry, "jobs", "ping") == 1


def test_the_layers_of_several_contracts_share_a_registry(contract: Path, registry: CollectorRegistry) -> None:
    layers = [get_channel_layer(contract), get_channel_layer(write(contract.with_name("other.yaml")))]
    for layer in layers:
        export_metrics(layer, registry)
        layer.send_sync("jobs", {"type": "ping"})

    assert sent(registry, "jobs", "ping") == 2


def test_another_observer_of_the_layer_still_sees_each_step(contract: Path, registry: CollectorRegistry) -> None:
    seen: list[Step] = []
    layer = ContractLayer(load(contract), observe=seen.append)
    export_metrics(layer, registry)
    layer.observe(seen.append)

    layer.send_sync("jobs", {"type": "ping"})

    assert [type(step) for step in seen] == [Sent, Sent]
    assert sent(registry, "jobs", "ping") == 1


def test_the_contract_is_read_with_the_first_event(project: Path, registry: CollectorRegistry) -> None:
    layer = get_channel_layer(project / "channels.yaml")
    export_metrics(layer, registry)
    with pytest.raises(ContractError):
        layer.send_sync("jobs", {"type": "ping"})

    write(project / "channels.yaml")
    layer.send_sync("jobs", {"type": "ping"})

    assert sent(registry, "jobs", "ping") == 1


def test_a_process_that_sends_serves_the_counters_with_its_own(contract: Path, start: Callable[..., Any]) -> None:
    process = start("-c", SENDER, "3", command=())
    assert process.wait() == 0, process.errors
    found = samples(process.output)

    assert found["channelmap_events_sent_total", "loose", "job"] == 3
    assert found["channelmap_events_rejected_total", "jobs", "job", "schema-mismatch", "sender"] == 1
    assert any(name.startswith("python_info") for name, *_ in found)


def test_prometheus_clients_multi_process_mode_adds_up_all_processes(
    contract: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    write(contract, "sqlite:///channels.db")
    (tmp_path / "metrics").mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    first = start("-c", SENDER, "3", command=(), **environment)
    assert first.wait() == 0, first.errors
    second = start("-c", SENDER, "4", "all", command=(), **environment)
    assert second.wait() == 0, second.errors

    found = samples(second.output)
    assert found["channelmap_events_sent_total", "loose", "job"] == 7
    assert found["channelmap_events_rejected_total", "jobs", "job", "schema-mismatch", "sender"] == 2


def samples(text: str) -> dict[tuple[str, ...], float]:
    labels = ("channel", "type", "code", "side")
    return {
        (sample.name, *(sample.labels[label] for label in labels if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_nothing_else_needs_prometheus_client() -> None:
    program = """
import sys
import channelmap.cli.runworker, channelmap.cli.status, channelmap.sending
print("prometheus_client" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed == "False\n"
