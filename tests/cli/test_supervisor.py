"""`runworker --processes` and `--reload`: a supervisor and real worker processes."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from tests.cli.commands import Start, Wait, write_site

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    events: {job: true, crash: true, slow: true, write: true}
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
        if event["n"] < 0:
            os.kill(os.getpid(), -event["n"])
        os._exit(event["n"])

    def write(self, event):
        for name in ("state.json", "made.py", "made.yaml"):
            Path(name).write_text(str(event["n"]))
        self.job(event)

    def slow(self, event):
        Path("begun").touch()
        while not Path("release").exists():
            time.sleep(0.005)
        os.write(file, b"0 -1\\n")
"""


@pytest.fixture
def served(project: Path) -> Path:
    write_site(project, CHANNELS, WORK)
    return project


def send(project: Path, event_type: str = "job", count: int = 1, *, first: int = 0) -> None:
    layer = get_channel_layer(project / "channels.yaml")
    for n in range(first, first + count):
        layer.send_sync("jobs", {"type": event_type, "n": n})


def handled(project: Path) -> list[int]:
    path = project / "done.txt"
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def ready(process: Any) -> int:
    return str(process.errors).count("; ready")


def pids(process: Any) -> list[int]:
    """Return the process ids of the workers."""
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
    wait_until(lambda: "finishing the events in flight" in supervisor.errors, "the workers to notice")
    (served / "release").touch()

    assert supervisor.wait() == 0, supervisor.errors
    assert handled(served) == [-1]


def test_a_signal_to_the_whole_process_group_lets_handlers_finish(served: Path, start: Start, wait_until: Wait) -> None:
    send(served, "slow")
    supervisor = start("runworker", "--processes", "2")
    wait_until((served / "begun").exists, "the slow handler")
    wait_until(lambda: ready(supervisor) == 2, "two workers")

    for pid in [*pids(supervisor), supervisor.popen.pid]:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: supervisor.errors.count("finishing the events in flight") == 2, "the workers to notice")
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
    wait_until(lambda: "finishing the events in flight" in supervisor.errors, "the workers to notice")
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 128 + signal.SIGKILL, supervisor.errors
    assert handled(served) == []


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
    ],
)
def test_a_worker_that_ends_unexpectedly_is_replaced_and_the_other_one_goes_on(
    served: Path, start: Start, wait_until: Wait, end: int, words: str
) -> None:
    supervisor = start("runworker", "--processes", "2")
    wait_until(lambda: ready(supervisor) == 2, "two workers")
    before = set(pids(supervisor))

    send(served, "crash", first=end)
    wait_until(lambda: ready(supervisor) == 3, "a third worker")
    assert len(before & set(pids(supervisor))) == 1
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors
    assert f"{words}; a new one starts in 0.5 s" in supervisor.errors


def test_a_worker_that_another_process_stops_is_replaced(served: Path, start: Start, wait_until: Wait) -> None:
    supervisor = start("runworker", "--processes", "2")
    wait_until(lambda: ready(supervisor) == 2, "two workers")

    os.kill(pids(supervisor)[0], signal.SIGTERM)
    wait_until(lambda: ready(supervisor) == 3, "a third worker")
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors


def test_a_suspended_worker_stops_with_the_others(served: Path, start: Start, wait_until: Wait) -> None:
    supervisor = start("runworker", "--processes", "2")
    wait_until(lambda: ready(supervisor) == 2, "two workers")

    os.kill(pids(supervisor)[0], signal.SIGSTOP)
    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors
    assert supervisor.errors.count("INFO channelmap.worker: stopped") == 2


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")])
def test_a_terminal_that_closes_lets_handlers_finish(
    served: Path, start: Start, wait_until: Wait, arguments: tuple[str, ...]
) -> None:
    send(served, "slow")
    process = start("runworker", *arguments)
    wait_until((served / "begun").exists, "the slow handler")

    process.signal(signal.SIGHUP)
    wait_until(lambda: "finishing the events in flight" in process.errors, "the worker to notice")
    (served / "release").touch()

    assert process.wait() == 0, process.errors
    assert handled(served) == [-1]


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")])
def test_under_nohup_a_terminal_may_close(
    served: Path, start: Start, wait_until: Wait, arguments: tuple[str, ...]
) -> None:
    nohup = "import os, signal, sys; signal.signal(1, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    process = start(sys.executable, "-m", "channelmap", "runworker", *arguments, command=("-c", nohup))
    wait_until(lambda: ready(process) == (2 if arguments else 1), "the workers")

    process.signal(signal.SIGHUP)
    send(served)
    wait_until(lambda: handled(served) == [0], "the event")
    process.signal(signal.SIGTERM)

    assert process.wait() == 0, process.errors
    assert "SIGHUP" not in process.errors


def test_workers_whose_standard_streams_are_closed_serve_and_stop(served: Path, start: Start, wait_until: Wait) -> None:
    closed = "import os, sys; os.closerange(0, 3); os.execv(sys.executable, sys.argv[1:])"
    supervisor = start(sys.executable, "-m", "channelmap", "runworker", "--processes", "2", command=("-c", closed))
    send(served, count=20)
    wait_until(lambda: sorted(handled(served)) == list(range(20)), "20 events")

    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0


def test_workers_that_are_still_importing_stop_at_once(served: Path, start: Start, wait_until: Wait) -> None:
    (served / "work.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(3_600)\n")
    supervisor = start("runworker", "--processes", "2")
    wait_until((served / "importing").exists, "the import")

    supervisor.signal(signal.SIGTERM)

    assert supervisor.wait() == 0, supervisor.errors


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


def test_an_error_that_a_new_process_would_repeat_ends_all_processes(served: Path, start: Start) -> None:
    (served / "work.py").write_text("import no_such_package\n")

    supervisor = start("runworker", "--processes", "2")

    assert supervisor.wait() == 1
    assert "error[consumer-import-failed]" in supervisor.output
    assert "ended with exit code 1 before it was ready, and a new one would fail as well: stopping" in supervisor.errors
    assert "Traceback" not in supervisor.errors


@pytest.fixture
def reloading(served: Path, start: Start, wait_until: Wait) -> Any:
    """Start a worker with `--reload`, and wait until it is ready."""
    supervisor = start("runworker", "--reload", PYTHONDONTWRITEBYTECODE="1")
    wait_until(lambda: ready(supervisor) == 1, "the worker")
    return supervisor


def stop(supervisor: Any) -> None:
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 0, supervisor.errors


@pytest.mark.parametrize("mistake", ["import no_such_package\n", "def f(:\n", "import os; os._exit(2)\n"])
def test_with_reload_a_worker_starts_again_when_a_broken_file_is_fixed(
    served: Path, reloading: Any, wait_until: Wait, mistake: str
) -> None:
    (served / "work.py").write_text(mistake)
    wait_until(lambda: "a new one starts when a file changes" in reloading.errors, "the mistake to be told")
    (served / "work.py").write_text(WORK)
    wait_until(lambda: ready(reloading) == 2, "the worker of the mended file")
    send(served)
    wait_until(lambda: handled(served) == [0], "the event")

    stop(reloading)


def test_with_reload_a_contract_may_become_wrong_and_right_again(
    served: Path, reloading: Any, wait_until: Wait
) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("true,", "nowhere.json,", 1))
    wait_until(lambda: "a new one starts when a file changes" in reloading.errors, "the mistake to be told")
    assert "error[schema-missing]" in reloading.output
    # The missing file is watched.
    (served / "nowhere.json").write_text("true")
    wait_until(lambda: ready(reloading) == 2, "the worker of the contract that is right again")

    stop(reloading)


def test_with_reload_a_worker_that_finds_no_channel_starts_when_the_file_is_fixed(
    served: Path, start: Start, wait_until: Wait
) -> None:
    (served / "channels.yaml").write_text(CHANNELS.replace("jobs:", "later:"))
    supervisor = start("runworker", "jobs", "--reload", PYTHONDONTWRITEBYTECODE="1")
    wait_until(lambda: "a new one starts when a file changes" in supervisor.errors, "the mistake to be told")
    assert "no channel 'jobs'" in supervisor.errors
    (served / "channels.yaml").write_text(CHANNELS)
    wait_until(lambda: ready(supervisor) == 1, "the worker of the fixed file")

    stop(supervisor)


def test_a_supervisor_without_a_monitor_imports_no_layer_of_the_project(
    served: Path, start: Start, wait_until: Wait
) -> None:
    (served / "layers.py").write_text(
        "import os\nfrom channels.layers import InMemoryChannelLayer as Layer\n"
        "with open('imported', 'a') as file: file.write(f'{os.getpid()} ')\n"
    )
    (served / "channels.yaml").write_text(CHANNELS.replace("sqlite:///channels.db", "{backend: layers.Layer}"))
    supervisor = start("runworker", "--processes", "2")
    wait_until(lambda: ready(supervisor) == 2, "both workers")
    assert sorted(map(int, (served / "imported").read_text().split())) == sorted(pids(supervisor))
    stop(supervisor)


def test_with_reload_a_stop_while_a_file_is_broken_starts_no_worker(
    served: Path, reloading: Any, wait_until: Wait
) -> None:
    (served / "work.py").write_text("with open('started', 'a') as file: file.write('1')\nimport no_such_package\n")
    wait_until(lambda: "a new one starts when a file changes" in reloading.errors, "the mistake to be told")

    stop(reloading)

    assert (served / "started").read_text() == "1"


def test_with_reload_a_handler_may_write_files_beside_the_sources(
    served: Path, reloading: Any, wait_until: Wait
) -> None:
    send(served, "write")
    wait_until(lambda: handled(served) == [0], "the event")
    # A relevant change follows irrelevant ones, and is noticed in the same poll or a later one.
    (served / "work.py").write_text(WORK + "\n")
    wait_until(lambda: ready(reloading) == 2, "the new worker")
    send(served, "write", first=1)
    wait_until(lambda: handled(served) == [0, 1], "the second event")

    stop(reloading)

    assert reloading.errors.count("changed: restarting the workers") == 1
    assert "work.py changed" in reloading.errors


def test_with_reload_saves_while_a_handler_runs_lose_nothing(served: Path, reloading: Any, wait_until: Wait) -> None:
    send(served, "slow")
    wait_until((served / "begun").exists, "the slow handler")

    (served / "work.py").write_text(WORK + "\n")
    wait_until(lambda: "finishing the events in flight" in reloading.errors, "the worker to notice")
    (served / "work.py").write_text(WORK + "\n\n")
    (served / "channels.yaml").write_text(CHANNELS + "\n")
    (served / "release").touch()
    wait_until(lambda: ready(reloading) == 2, "the new worker")

    stop(reloading)
    assert handled(served) == [-1]


def test_with_reload_the_target_of_a_symbolic_link_is_watched(served: Path, start: Start, wait_until: Wait) -> None:
    elsewhere = served / ".elsewhere"
    elsewhere.mkdir()
    (served / "work.py").rename(elsewhere / "work.py")
    (served / "work.py").symlink_to(elsewhere / "work.py")
    (served / "channels.yaml").rename(elsewhere / "channels.yaml")
    (served / "channels.yaml").symlink_to(elsewhere / "channels.yaml")
    supervisor = start("runworker", "--reload", PYTHONDONTWRITEBYTECODE="1")
    wait_until(lambda: ready(supervisor) == 1, "the worker")

    (elsewhere / "work.py").write_text(WORK + "\n")
    wait_until(lambda: ready(supervisor) == 2, "the worker of the new source")
    (elsewhere / "channels.yaml").write_text(CHANNELS + "\n")
    wait_until(lambda: ready(supervisor) == 3, "the worker of the new contract")

    stop(supervisor)


def test_with_reload_a_module_that_a_handler_imports_is_watched(served: Path, start: Start, wait_until: Wait) -> None:
    (served / "later.py").write_text("number = 1\n")
    (served / "work.py").write_text(WORK.replace("        os.write(", "        import later\n        os.write(", 1))
    supervisor = start("runworker", "--reload", PYTHONDONTWRITEBYTECODE="1")
    wait_until(lambda: ready(supervisor) == 1, "the worker")
    send(served)
    wait_until(lambda: handled(served) == [0], "the event")

    (served / "later.py").write_text("number = 22\n")
    wait_until(lambda: ready(supervisor) == 2, "the new worker")

    stop(supervisor)


def test_a_worker_ends_with_0_when_it_has_handled_max_events(served: Path, run: Start) -> None:
    send(served, count=300)
    process = run("runworker", "--max-events", "100")
    assert process.popen.returncode == 0
    assert 100 <= len(handled(served)) <= 110
    assert "events handled, max_events reached: finishing the events in flight" in process.errors


def test_workers_that_have_handled_max_events_are_replaced_and_every_event_is_handled_once(
    served: Path, start: Start, wait_until: Wait
) -> None:
    send(served, count=300)
    process = start("runworker", "--processes", "2", "--max-events", "50")
    wait_until(lambda: len(handled(served)) == 300, "all events")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert sorted(handled(served)) == list(range(300))
    by_process = Counter(line.split()[0] for line in (served / "done.txt").read_text().splitlines())
    assert len(by_process) >= 5
    assert max(by_process.values()) <= 55
    assert "has reached max_events: starting a new one" in process.errors
