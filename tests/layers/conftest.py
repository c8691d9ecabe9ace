"""Real servers for the tests of the layer in Redis: each kind is started once, and empty for each test."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .redis_servers import BINARIES, VOLATILE, Cluster, Sentinels, Server, running, wait_for


@pytest.fixture(scope="session", params=BINARIES, ids=[Path(binary).name for binary in BINARIES])
def _single(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("single") / "server", *VOLATILE, binary=request.param)
    with running(server):
        yield server


@pytest.fixture
def server(_single: Server) -> Iterator[Server]:
    """A server that is empty, and that nobody is connected to when the test has ended."""
    _single.client.flushall()
    yield _single
    try:
        wait_for(lambda: not _single.connections(), "the layers of the test to let go of their connections")
    finally:
        _single.client.client_kill_filter(_type="normal", skipme=True)


@pytest.fixture(scope="session")
def _sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("sentinels")).running() as sentinels:
        yield sentinels


@pytest.fixture
def sentinels(_sentinels: Sentinels) -> Sentinels:
    """An empty master with its replica and a Sentinel; not to be broken."""
    _sentinels.master.client.flushall()
    return _sentinels


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")).running() as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """An empty Cluster of three nodes; what a test breaks it must mend."""
    _cluster.flush()
    return _cluster


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server of the test's own, to be broken; it is killed at the end."""
    started: list[Server] = []

    def start(*arguments: str, password: str = "") -> Server:
        server = Server(tmp_path / f"server-{len(started)}", *(arguments or VOLATILE), password=password)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()
        Path(server.socket).unlink(missing_ok=True)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged at WARNING and above so far."""

    def messages() -> list[Any]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    return messages
