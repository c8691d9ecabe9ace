"""`runworker --monitor`, asked over HTTP while real workers run, block, stop and lose their layer."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.layers.redis_servers import VOLATILE, Server, free_port

from .site import Client, handled, is_answering, send, write_site

Start = Callable[..., Any]
Wait = Callable[..., None]
PROCESSES = pytest.mark.parametrize("processes", [1, 2])


@pytest.fixture
def site(project: Path) -> Path:
    write_site(project)
    return project


def begin(start: Start, wait_until: Wait, *options: str, processes: int = 1, **kwargs: Any) -> tuple[Any, Client]:
    """Start a worker with a monitor, and wait until it is ready."""
    port = free_port()
    worker = start("runworker", "--monitor", str(port), "--processes", str(processes), *options, **kwargs)
    client = Client(port)
    wait_until(lambda: client.code("/readyz") == 200, "readiness")
    return worker, client


@PROCESSES
def test_the_metrics_agree_with_what_the_handlers_did(
    site: Path, start: Start, wait_until: Wait, processes: int
) -> None:
    _, client = begin(start, wait_until, processes=processes)
    send(site, "async", count=60)
    send(site, "sync", count=40)
    send(site, "async", "fail", count=3)
    send(site, "loose", "unknown")

    def values() -> dict[tuple[str, ...], float]:
        found = client.metrics()
        return {
            (channel, event_type, outcome): found.get(
                ("channelmap_events_handled_total", channel, event_type, outcome), 0.0
            )
            for channel, event_type, outcome in (
                ("async", "job", "ok"), ("sync", "job", "ok"), ("async", "fail", "failed"), ("loose", "_other", "ok"),
            )
        }  # fmt: skip

    expected = [60, 40, 6, 1]
    wait_until(lambda: [*values().values()] == expected, "the counters")
    found = client.metrics()
    assert handled(site) == 101
    assert found["channelmap_handler_seconds_count", "async", "job"] == 60
    assert found["channelmap_wait_seconds_count", "async"] == 66
    assert found["channelmap_events_redelivered_total", "async"] == 3
    # Counts of the layer may be a second old.
    wait_until(lambda: client.metric("channelmap_dead_letters", "async", "failed") == 3, "the dead letters")
    wait_until(lambda: client.metric("channelmap_waiting", "sync") == 0, "the empty channel")
    assert client.metrics()["channelmap_in_flight", "sync"] == 0
    assert found["channelmap_layer_up",] == 1


@PROCESSES
def test_a_handler_that_blocks_the_loop_ends_liveness_but_not_the_metrics(
    site: Path, start: Start, wait_until: Wait, processes: int
) -> None:
    _, client = begin(start, wait_until, "--stall", "1", processes=processes)
    assert client.code("/livez") == 200
    send(site, "async", "block")
    wait_until(is_answering(client, "/livez", 503), "the stall")
    assert "event loop" in client.get("/livez")[1]
    assert client.metric("channelmap_loop_lag_seconds") > 1
    (site / "release").touch()
    wait_until(is_answering(client, "/livez", 200), "recovery")


def test_a_suspended_process_ends_liveness(site: Path, start: Start, wait_until: Wait) -> None:
    worker, client = begin(start, wait_until, "--stall", "1", processes=2)
    children = Path(f"/proc/{worker.popen.pid}/task/{worker.popen.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGSTOP)
    wait_until(is_answering(client, "/livez", 503), "the stall")
    os.kill(int(children[0]), signal.SIGCONT)
    wait_until(is_answering(client, "/livez", 200), "recovery")


@PROCESSES
def test_a_lost_layer_ends_readiness_but_not_liveness(
    site: Path, start: Start, wait_until: Wait, tmp_path: Path, processes: int
) -> None:
    server = Server(tmp_path / "server", *VOLATILE)
    server.start()
    _, client = begin(start, wait_until, processes=processes, URL=server.url)
    assert client.metric("channelmap_layer_up") == 1
    server.kill()
    wait_until(is_answering(client, "/readyz", 503), "the loss")
    assert client.get("/readyz") == (503, "the layer does not answer\n")
    assert client.code("/livez") == 200
    assert client.metric("channelmap_layer_up") == 0
    assert client.code("/status.json") == 503
    server.start()
    wait_until(is_answering(client, "/readyz", 200), "recovery")
    server.kill()


def test_a_layer_that_is_away_at_the_start_is_no_reason_for_a_restart(
    site: Path, start: Start, wait_until: Wait
) -> None:
    port = free_port()
    start("runworker", "--monitor", str(port), URL=f"redis://127.0.0.1:{free_port()}")
    client = Client(port)
    wait_until(is_answering(client, "/livez", 200), "liveness")
    assert client.code("/readyz") == 503
    assert client.metric("channelmap_layer_up") == 0


def test_the_counters_of_a_process_that_ended_are_kept(site: Path, start: Start, wait_until: Wait) -> None:
    _, client = begin(start, wait_until, "--max-events", "10", processes=2)
    send(site, "sync", count=50)
    wait_until(lambda: handled(site) == 50, "the events")
    wait_until(lambda: client.metric("channelmap_events_handled_total", "sync", "job", "ok") == 50, "the counters")


def test_the_status_says_what_the_command_says(site: Path, start: Start, wait_until: Wait) -> None:
    send(site, "sync", count=3)
    _, client = begin(start, wait_until, "async")
    found = client.status()
    assert [*found["channels"]] == ["async"]
    assert [worker["channels"] for worker in found["workers"]] == [["async"]]


def test_nothing_listens_beyond_this_machine_unless_a_host_is_named(site: Path, start: Start, wait_until: Wait) -> None:
    worker, _ = begin(start, wait_until)
    listening = [
        line.split()[1].partition(":")[0]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{worker.popen.pid}/net/{name}").read_text().splitlines()[1:]
        if line.split()[9] in _sockets_of(worker.popen.pid) and line.split()[3] == "0A"
    ]
    assert listening == ["0100007F"]


def _sockets_of(pid: int) -> set[str]:
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("nine", "--monitor nine: expected [HOST:]PORT, such as 9100 or 0.0.0.0:9100"),
        ("127.0.0.1:", "--monitor 127.0.0.1:: expected [HOST:]PORT, such as 9100 or 0.0.0.0:9100"),
        ("99999", "--monitor 99999: expected [HOST:]PORT, such as 9100 or 0.0.0.0:9100"),
        ("no.such.host.invalid:80", "--monitor no.such.host.invalid:80: cannot listen: "),
    ],
)
def test_a_wrong_address_is_a_wrong_argument(site: Path, run: Start, address: str, problem: str) -> None:
    worker = run("runworker", "--monitor", address)
    assert worker.popen.returncode == 2
    assert problem in worker.errors
    assert "Traceback" not in worker.errors


def test_a_port_in_use_is_named(site: Path, run: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = run("runworker", "--monitor", str(port))
    assert worker.popen.returncode == 2
    assert f"--monitor {port}: cannot listen: Address already in use" in worker.errors


def test_an_unknown_path_is_not_found_and_another_method_not_allowed(
    site: Path, start: Start, wait_until: Wait
) -> None:
    _, client = begin(start, wait_until)
    assert client.code("/") == 404
    with socket.create_connection(("127.0.0.1", client._port)) as rubbish:
        rubbish.sendall(b"\x00\xff rubbish\r\n\r\n")
        assert rubbish.recv(100).startswith(b"HTTP/1.1 400")
    assert client.code("/livez") == 200
