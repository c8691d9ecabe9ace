"""A service manager, an exec probe and an observer see what a worker does."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .site import send, write_site

Start = Callable[..., Any]
Wait = Callable[..., None]


@pytest.fixture
def site(project: Path) -> Path:
    write_site(project)
    return project


class Manager:
    """The notification socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0)
        self.lines: list[str] = []
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "2000000"}

    def close(self) -> None:
        self._socket.close()

    def received(self) -> list[str]:
        while True:
            try:
                self.lines += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.lines

    def forget(self) -> None:
        self.received()
        self.lines.clear()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(tmp_path / "notify")) as manager:
        yield manager


@pytest.mark.parametrize("processes", ["1", "2"])
def test_systemd_is_told_when_the_service_is_ready_alive_stuck_and_stopping(
    site: Path, start: Start, wait_until: Wait, manager: Manager, processes: str
) -> None:
    worker = start("runworker", "--stall", "1", "--processes", processes, **manager.environment)
    wait_until(lambda: "READY=1" in manager.received(), "readiness")
    wait_until(lambda: "WATCHDOG=1" in manager.received(), "the watchdog")

    send(site, "async", "block")
    wait_until(lambda: any("has not run" in line for line in manager.received()), "the stall")
    manager.forget()
    wait_until(lambda: len(manager.received()) >= 2, "two more messages")
    assert "WATCHDOG=1" not in manager.lines
    (site / "release").touch()
    wait_until(lambda: "WATCHDOG=1" in manager.received(), "recovery")

    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "STOPPING=1" in manager.received()


def test_without_systemd_nothing_is_told_and_children_know_no_socket(
    site: Path, start: Start, wait_until: Wait, manager: Manager
) -> None:
    (site / "work.py").write_text(
        "import os\nfrom pathlib import Path\n" + (site / "work.py").read_text()
        + "\nPath('environment').write_text(os.environ.get('NOTIFY_SOCKET', 'none'))\n"
    )  # fmt: skip
    start("runworker", **manager.environment)
    wait_until(lambda: "READY=1" in manager.received(), "readiness")
    assert (site / "environment").read_text() == "none"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_heartbeat_file_is_touched_while_the_workers_are_alive(
    site: Path, start: Start, wait_until: Wait, processes: str
) -> None:
    file = site / "alive"
    worker = start("runworker", "--heartbeat-file", "alive", "--stall", "1", "--processes", processes)
    wait_until(lambda: "; ready" in worker.errors, "the worker")
    first = _touched_after(file, 0, wait_until)
    second = _touched_after(file, first, wait_until)
    assert second > first
    send(site, "async", "block")
    wait_until((site / "begun").exists, "the handler")
    wait_until(lambda: _is_untouched_for(file, 1.5), "the stall")
    (site / "release").touch()
    _touched_after(file, file.stat().st_mtime, wait_until)


def _touched_after(file: Path, time: float, wait_until: Wait) -> float:
    wait_until(lambda: file.exists() and file.stat().st_mtime > time, "a touch")
    return file.stat().st_mtime


def _is_untouched_for(file: Path, seconds: float) -> bool:
    return time.time() - file.stat().st_mtime > seconds


def test_a_heartbeat_file_in_no_directory_is_a_wrong_argument(site: Path, run: Start) -> None:
    worker = run("runworker", "--heartbeat-file", "run/alive")
    assert worker.popen.returncode == 2
    assert "--heartbeat-file run/alive: there is no directory run" in worker.errors


def test_a_heartbeat_file_that_cannot_be_touched_is_logged_once_and_touched_again_later(
    site: Path, start: Start, wait_until: Wait
) -> None:
    (site / "run").mkdir()
    worker = start("runworker", "--heartbeat-file", "run/alive")
    wait_until((site / "run" / "alive").exists, "the first touch")
    (site / "run").rename(site / "away")
    wait_until(lambda: "cannot touch run/alive, trying again: No such file" in worker.errors, "the error")
    (site / "run").mkdir()
    _touched_after(site / "run" / "alive", 0, wait_until)
    (site / "run").rename(site / "away again")
    wait_until(lambda: worker.errors.count("cannot touch") == 2, "the next error")
    assert worker.errors.count("cannot touch") == 2


OBSERVER = """
import os
from channelmap.observer import Failed, Finished, Sent

file = os.open("steps.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

def observe(step):
    if isinstance(step, (Failed, Finished, Sent)):
        os.write(file, f"{type(step).__name__} {step.channel} {step.type}\\n".encode())

class Counting:
    def __call__(self, step):
        observe(step)

broken = 3

class Failing:
    def __init__(self):
        raise OSError("no network")
"""


@pytest.mark.parametrize("name", ["observe", "Counting"])
def test_an_observer_of_the_project_sees_the_steps(site: Path, start: Start, wait_until: Wait, name: str) -> None:
    (site / "watching.py").write_text(OBSERVER)
    start("runworker", "--observer", f"watching.{name}")
    send(site, "sync")
    send(site, "sync", "fail")
    steps = site / "steps.txt"
    wait_until(lambda: steps.exists() and len(steps.read_text().splitlines()) == 2, "the steps")
    assert sorted(steps.read_text().splitlines()) == ["Failed sync fail", "Finished sync job"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("watching.missing", "--observer watching.missing: "),
        ("nowhere.observe", "--observer nowhere.observe: "),
        ("watching.broken", "--observer watching.broken: expected a function or a class, got int"),
        ("watching.Failing", "--observer watching.Failing: its constructor raised OSError: no network"),
    ],
)
def test_a_wrong_observer_is_a_wrong_argument(site: Path, run: Start, path: str, problem: str) -> None:
    (site / "watching.py").write_text(OBSERVER)
    worker = run("runworker", "--observer", path)
    assert worker.popen.returncode == 2
    assert problem in worker.errors
    assert "Traceback" not in worker.errors
