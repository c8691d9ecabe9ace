"""What a worker and its supervisor say to each other: the worker's end, with a real socket."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channelmap.supervisor import Link
from channelmap.supervisor.link import ASK_FILES, REPORTS, VARIABLE
from tests.turned_clock import settled


class Ends:
    """A worker's end, made as in a worker, and the other end of its socket."""

    def __init__(self, link: Link, supervisor: socket.socket) -> None:
        self.link = link
        self.supervisor = supervisor
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1

    def listen(self, *files: str) -> None:
        self.link.listen(self.stop, lambda: files)

    def heard(self) -> list[dict[str, Any]]:
        """Return what the worker has said since the last call."""
        return [json.loads(line) for line in self.supervisor.recv(1 << 16).splitlines()]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    supervisor, worker = socket.socketpair()
    worker.set_inheritable(True)
    monkeypatch.setenv(VARIABLE, str(worker.detach()))
    link = Link.from_environment()
    with supervisor:
        supervisor.settimeout(0)
        yield Ends(link, supervisor)
        link.close()


def test_a_worker_reports_in_lines(ends: Ends) -> None:
    ends.link.report("ready")
    ends.link.report("spent")

    assert ends.heard() == [{"state": "ready"}, {"state": "spent"}]


def test_what_a_handler_starts_is_not_the_supervisors_child(ends: Ends) -> None:
    assert VARIABLE not in os.environ
    connection = ends.link._connection
    assert connection is not None
    assert not connection.get_inheritable()
    Link.from_environment().report("ready")
    with pytest.raises(BlockingIOError):
        ends.heard()


def test_a_supervisor_that_does_not_read_holds_up_no_worker(ends: Ends) -> None:
    connection = ends.link._connection
    assert connection is not None
    assert connection.gettimeout() == 1
    connection.settimeout(0)

    for _ in range(20_000):
        ends.link.report("ready")


def test_a_worker_that_is_asked_lists_its_files_and_says_when(ends: Ends) -> None:
    async def main() -> list[dict[str, Any]]:
        ends.listen("b.py", "a.py")
        ends.supervisor.send(ASK_FILES)
        await settled()
        return ends.heard()

    before = time.time()
    ((answer),) = asyncio.run(main())

    assert answer["files"] == ["a.py", "b.py"]
    assert before <= answer["listed"] <= time.time()
    assert ends.stops == 0


@pytest.mark.parametrize("way", ["no more is said", "closed", "closed before all was read"])
def test_a_worker_stops_once_when_its_supervisor_is_done_with_it_or_gone(way: str, ends: Ends) -> None:
    async def main() -> None:
        ends.listen()
        if way == "no more is said":
            ends.supervisor.shutdown(socket.SHUT_WR)
        else:
            if way == "closed before all was read":
                # Then the kernel resets the connection.
                ends.link.report("ready")
            ends.supervisor.close()
        await settled()

    asyncio.run(main())

    assert ends.stops == 1
    ends.link.report("finished")


@pytest.mark.parametrize("wanted", [False, True])
def test_a_worker_sends_reports_for_the_monitor_if_the_supervisor_wants_them(
    *, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, worker = socket.socketpair()
    monkeypatch.setenv(VARIABLE, f"{worker.detach()}{REPORTS if wanted else ''}")
    link = Link.from_environment()
    assert link.wants_reports is wanted
    link.report_to_monitor({"ready": True})
    with supervisor:
        assert json.loads(supervisor.recv(1_000)) == {"monitor": {"ready": True}}
    link.close()


def test_a_worker_without_a_supervisor_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    async def main() -> None:
        Link.from_environment().listen(lambda: None, list)

    link = Link.from_environment()
    assert not link.wants_reports
    link.report("ready")
    asyncio.run(main())
    link.close()
