"""`runworker --processes` and `--reload`: several real processes under one."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    events: {job: true, crash: true, slow: true}
"""

WORK = """\
import os, time
from pathlib import Path
from channelmap import SyncConsumer

file = os.open("done.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

class Jobs(SyncConsumer):
    def job(self, event):
        os.write(file, b"%d %d\\n" % (os.getpid(), event["n"]))

    def crash(self, event):
        os._exit(70)

    def slow(self, event):
        Path("begun").touch()
        while not Path("release").exists():
            time.sleep(0.005)
        os.write(file, b"0 -1\\n")
"""

Wait = Callable[..., None]
Start = Callable[..., Any]


@pytest.fixture
def served(project: Path) -> Path:
    (project / "channels.yaml").write_text(CHANNELS)
    (project / "work.py").write_text(WORK)
    return project


def send(project: Path, event_type: str = "job", count: int = 1) -> None:
    layer = get_channel_layer(project / "channels.yaml")
    for n in range(count):
        layer.send_sync("jobs", {"type": event_type, "n": n})


def handled(project: Path) -> list[int]:
    path = project / "done.txt"
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def ready(process: Any) -> int:
    return str(process.errors).count("; ready")


def pids(process: Any) -> list[int]:
    """The worker processes, as the kernel knows them."""
    children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def test_several_processes_serve_and_stop_together(served: Path, start: Start, wait_until: Wait) -> None:
    supervisor = start("runworker", "--processes", "3")
    wait_until(lambda: ready(supervisor) == 3, "three workers")

    send(served, count=500)
    wait_until(lambda: len(handled(served)) == 500, "500 events")
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors
    assert Counter(handled(served)) == Counter(range(500))
    assert supervisor.errors.count("INFO channelmap.worker: stopped") == 3


def test_a_handler_may_finish_when_several_processes_stop(served: Path, start: Start, wait_until: Wait) -> None:
    send(served, "slow")
    supervisor = start("runworker", "--processes", "2")
    wait_until((served / "begun").exists, "the slow handler")

    supervisor.signal(signal.SIGINT)
    wait_until(lambda: "finishing what was begun" in supervisor.errors, "the workers to notice")
    (served / "release").touch()

    assert supervisor.wait() == 0, supervisor.errors
    assert handled(served) == [-1]


def test_a_signal_to_the_whole_group_of_processes_lets_handlers_finish_too(
    served: Path, start: Start, wait_until: Wait
) -> None:
    send(served, "slow")
    supervisor = start("runworker", "--processes", "2")
    wait_until((served / "begun").exists, "the slow handler")
    wait_until(lambda: ready(supervisor) == 2, "two workers")

    for pid in [*pids(supervisor), supervisor.popen.pid]:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: supervisor.errors.count("finishing what was begun") == 2, "the workers to notice")
    (served / "release").touch()

    assert supervisor.wait() == 0, supervisor.errors
    assert handled(served) == [-1]


def test_a_second_signal_to_the_supervisor_ends_all_processes_at_once(
    served: Path, start: Start, wait_until: Wait
) -> None:
    send(served, "slow")
    supervisor = start("runworker", "--processes", "2")
    wait_until((served / "begun").exists, "the slow handler")

    supervisor.signal(signal.SIGTERM)
    wait_until(lambda: "finishing what was begun" in supervisor.errors, "the workers to notice")
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 128 + signal.SIGKILL, supervisor.errors
    assert handled(served) == []


def test_a_worker_that_crashes_is_replaced(served: Path, start: Start, wait_until: Wait) -> None:
    supervisor = start("runworker", "--processes", "2")
    wait_until(lambda: ready(supervisor) == 2, "two workers")

    send(served, "crash")
    wait_until(lambda: ready(supervisor) == 3, "a third worker")
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors
    assert "ended with 70; a new one starts in 0.5 s" in supervisor.errors


def test_several_processes_end_by_themselves_after_a_burst(served: Path, start: Start) -> None:
    send(served, count=100)
    supervisor = start("runworker", "--processes", "2", "--burst")

    assert supervisor.wait() == 0, supervisor.errors
    assert sorted(handled(served)) == list(range(100))


def test_workers_stop_when_their_supervisor_is_killed(served: Path, start: Start, wait_until: Wait) -> None:
    supervisor = start("runworker", "--processes", "2")
    wait_until(lambda: ready(supervisor) == 2, "two workers")
    workers = pids(supervisor)

    supervisor.signal(signal.SIGKILL)
    supervisor.popen.wait()

    wait_until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and _alive(pid) for pid in workers), "their end")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_mistake_that_a_new_process_would_make_again_ends_all(served: Path, start: Start) -> None:
    (served / "work.py").write_text("import no_such_package\n")

    supervisor = start("runworker", "--processes", "2")

    assert supervisor.wait() == 1
    assert "error[consumer-import-failed]" in supervisor.output
    assert "Traceback" not in supervisor.errors


def test_with_reload_a_changed_file_is_served_and_a_broken_one_waits_to_be_mended(
    served: Path, start: Start, wait_until: Wait
) -> None:
    supervisor = start("runworker", "--reload", PYTHONDONTWRITEBYTECODE="1")
    wait_until(lambda: ready(supervisor) == 1, "the worker")

    (served / "work.py").write_text("import no_such_package\n")
    wait_until(lambda: "no_such_package" in supervisor.output, "the mistake to be told")
    (served / "work.py").write_text(WORK)
    wait_until(lambda: ready(supervisor) == 2, "the worker of the mended file")
    send(served)
    wait_until(lambda: handled(served) == [0], "the event")
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors
