"""`runworker`, as real processes with real signals on a real SQLite file."""

import asyncio
import json
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channelmap import get_channel_layer
from channelmap.layer import DeadLetter
from tests.cli.commands import write_site
from tests.layers.redis_servers import VOLATILE, Server, free_port, running

CHANNELS = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    capacity: 100000
    events:
      job:
        schema: {type: object, properties: {n: {type: integer}, sender: {type: integer}}, required: [n]}
      slow: {schema: {type: object}}
  other:
    consumer: work.Jobs
    events: {job: true, slow: true}
"""

WORK = """\
import asyncio, os, time
from pathlib import Path
from channelmap import AsyncConsumer, SyncConsumer

file = os.open("done.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

def done(line):
    os.write(file, line.encode() + b"\\n")

class Jobs(AsyncConsumer):
    async def job(self, event):
        done(f"{event.get('sender', 0)} {event['n']}")

    async def slow(self, event):
        Path("begun").touch()
        while not Path("release").exists():
            await asyncio.sleep(0.005)
        done("0 -1")

class SyncJobs(SyncConsumer):
    def job(self, event):
        done(f"{event.get('sender', 0)} {event['n']}")

    def slow(self, event):
        Path("begun").touch()
        while not Path("release").exists():
            time.sleep(0.005)
        done("0 -1")
"""

SENDER = """\
import sys
from channelmap import get_channel_layer
layer = get_channel_layer()
for n in range(int(sys.argv[2])):
    layer.send_sync("jobs", {"type": "job", "n": n, "sender": int(sys.argv[1])})
"""


@pytest.fixture
def served(project: Path) -> Path:
    """Make a project with a contract and consumers that record the events they handle."""
    write_site(project, CHANNELS, WORK)
    (project / "sender.py").write_text(SENDER)
    return project


@pytest.fixture(params=["Jobs", "SyncJobs"])
def served_by_both(served: Path, request: pytest.FixtureRequest) -> Path:
    """Make the same project, with async handlers and with sync handlers."""
    (served / "channels.yaml").write_text(CHANNELS.replace("work.Jobs", f"work.{request.param}"))
    return served


def send(project: Path, numbers: range, event_type: str = "job") -> None:
    layer = get_channel_layer(project / "channels.yaml")
    for n in numbers:
        layer.send_sync("jobs", {"type": event_type, "n": n})


def dead_letters(project: Path) -> list[DeadLetter]:
    async def main() -> list[DeadLetter]:
        letters: list[DeadLetter] = await get_channel_layer(project / "channels.yaml").dead_letters()
        return letters

    return asyncio.run(main())


def handled(project: Path) -> list[int]:
    path = project / "done.txt"
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_worker_serves_what_another_process_sends_and_stops_cleanly(
    served_by_both: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    worker = start("runworker", "--config", "channels.yaml")
    wait_until(lambda: "; ready" in worker.errors, "the worker")

    sender = start("7", "20", command=("sender.py",))
    assert sender.wait() == 0, sender.errors
    wait_until(lambda: len(handled(served_by_both)) == 20, "twenty events")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors
    assert handled(served_by_both) == list(range(20))
    assert "Traceback" not in worker.errors


def test_burst_handles_waiting_events_and_exits(served_by_both: Path, run: Callable[..., Any]) -> None:
    send(served_by_both, range(3_000))

    worker = run("runworker", "--burst")

    assert (worker.popen.returncode, "Traceback" in worker.errors) == (0, False), worker.errors
    assert handled(served_by_both) == list(range(3_000))


def test_sigterm_lets_the_handler_finish_and_the_next_worker_handles_the_remaining_events(
    served_by_both: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    project = served_by_both
    send(project, range(1), "slow")
    send(project, range(100))
    first = start("runworker")
    wait_until((project / "begun").exists, "the slow handler")

    first.signal(signal.SIGTERM)
    wait_until(lambda: "SIGTERM" in first.errors, "the worker to notice")
    (project / "release").touch()

    assert first.wait() == 0, first.errors
    assert handled(project) == [-1]
    second = start("runworker", "--burst")
    assert second.wait() == 0, second.errors
    assert handled(project) == [-1, *range(100)]


def test_a_handler_over_the_drain_timeout_is_cut_off_and_kept_as_a_dead_letter(
    served_by_both: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    send(served_by_both, range(1), "slow")
    worker = start("runworker", "--drain-timeout", "0.1")
    wait_until((served_by_both / "begun").exists, "the slow handler")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors
    (letter,) = dead_letters(served_by_both)
    assert letter.reason == "the worker stopped before the handler had finished"


def test_a_second_signal_ends_the_worker_at_once(
    served_by_both: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    send(served_by_both, range(1), "slow")
    worker = start("runworker")
    wait_until((served_by_both / "begun").exists, "the slow handler")

    worker.signal(signal.SIGINT)
    wait_until(lambda: "SIGINT" in worker.errors, "the worker to notice")
    worker.signal(signal.SIGINT)

    assert worker.wait() == 128 + signal.SIGINT


#: Lets the second signal arrive while the log line about the first one is written, with the buffer of stderr locked.
INTERRUPTED_WRITE = """
import io, logging, signal

class Raw(io.RawIOBase):
    def writable(self):
        return True

    def fileno(self):
        return 2

    def write(self, data):
        written = os.write(2, data)
        if b"SIGINT: " in bytes(data):
            os.kill(os.getpid(), signal.SIGINT)
        return written

for handler in logging.getLogger().handlers:
    handler.setStream(io.TextIOWrapper(io.BufferedWriter(Raw()), line_buffering=True))
"""


def test_a_second_signal_ends_the_worker_though_it_interrupts_a_log_line(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    (served / "work.py").write_text(WORK + INTERRUPTED_WRITE)
    send(served, range(1), "slow")
    worker = start("runworker")
    wait_until((served / "begun").exists, "the slow handler")

    worker.signal(signal.SIGINT)

    assert worker.wait() == 128 + signal.SIGINT, worker.errors


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_worker_exits_with_0(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None], signum: int
) -> None:
    worker = start("runworker")
    wait_until(lambda: "; ready" in worker.errors, "the worker")

    worker.signal(signum)

    assert worker.wait() == 0, worker.errors


def test_after_kill_9_only_taken_events_are_lost_and_no_event_is_handled_twice(
    served_by_both: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    project = served_by_both
    send(project, range(10_000))
    first = start("runworker")
    wait_until(lambda: len(handled(project)) > 500, "the first five hundred")

    first.signal(signal.SIGKILL)
    first.wait()
    before = len(handled(project))
    second = start("runworker", "--burst")

    assert second.wait() == 0, second.errors
    seen = handled(project)
    lost = set(range(10_000)) - set(seen)
    assert len(seen) == len(set(seen))
    # The lost events directly follow the last event that was handled.
    assert lost == set(range(before, before + len(lost)))
    assert len(lost) <= 1_000


def test_two_workers_and_four_senders_handle_every_event_once(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    workers = [start("runworker") for _ in range(2)]
    senders = [start(str(number), "5000", command=("sender.py",)) for number in range(4)]

    for sender in senders:
        assert sender.wait(120) == 0, sender.errors
    lines = served / "done.txt"
    wait_until(lambda: lines.exists() and lines.read_text().count("\n") >= 20_000, "20,000 events", timeout=120)
    for worker in workers:
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.errors

    seen = Counter(lines.read_text().splitlines())
    assert seen == Counter(f"{sender} {n}" for sender in range(4) for n in range(5_000))


def test_one_worker_keeps_the_order_of_each_of_four_senders(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    worker = start("runworker")
    senders = [start(str(number), "1000", command=("sender.py",)) for number in range(4)]

    for sender in senders:
        assert sender.wait(120) == 0, sender.errors
    lines = served / "done.txt"
    wait_until(lambda: lines.exists() and lines.read_text().count("\n") >= 4_000, "4,000 events", timeout=120)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.errors

    by_sender: dict[int, list[int]] = {}
    for line in lines.read_text().splitlines():
        sender_number, n = map(int, line.split())
        by_sender.setdefault(sender_number, []).append(n)
    assert by_sender == {number: list(range(1_000)) for number in range(4)}


def test_bytes_in_the_database_that_are_not_an_event_become_a_dead_letter(
    served: Path, run: Callable[..., Any]
) -> None:
    send(served, range(3))
    with sqlite3.connect(served / "channels.db") as database:
        database.execute("UPDATE waiting SET body = x'c1ff' WHERE position = (SELECT min(position) + 1 FROM waiting)")
    database.close()

    worker = run("runworker", "--burst")

    assert worker.popen.returncode == 0, worker.errors
    assert handled(served) == [0, 2]
    (letter,) = dead_letters(served)
    assert (letter.code, letter.event, letter.body) == ("unreadable", None, b"\xc1\xff")


def test_output_of_a_handler_is_flushed_although_its_threads_are_still_waiting(
    served: Path, run: Callable[..., Any]
) -> None:
    code = """
from asgiref.sync import sync_to_async
from channelmap import AsyncConsumer
class Jobs(AsyncConsumer):
    async def job(self, event):
        await sync_to_async(int)()
        print("Hello")
    async def slow(self, event): ...
"""
    (served / "work.py").write_text(code)
    send(served, range(1))

    worker = run("runworker", "--burst")

    assert (worker.popen.returncode, worker.output) == (0, "Hello\n"), worker.errors


def test_a_burst_of_a_consumer_that_cannot_start_ends_with_1_and_loses_nothing(
    served: Path, run: Callable[..., Any]
) -> None:
    (served / "work.py").write_text(WORK + "\n    def __init__(self): raise RuntimeError('no settings')\n")
    (served / "channels.yaml").write_text(CHANNELS.replace("work.Jobs", "work.SyncJobs"))
    send(served, range(1))

    worker = run("runworker", "--burst")

    assert worker.popen.returncode == 1
    assert "; 1 waiting" in run("runworker", "--burst").errors


def test_only_the_channels_named_are_served(served: Path, run: Callable[..., Any]) -> None:
    send(served, range(3))

    assert run("runworker", "--burst", "other").popen.returncode == 0
    assert handled(served) == []


def test_logs_can_be_json(served: Path, run: Callable[..., Any]) -> None:
    send(served, range(1), "job")
    get_channel_layer(served / "channels.yaml").layer.send_sync("jobs", {"type": "nope"})

    worker = run("runworker", "--burst", "--log-format", "json", "--log-level", "error")

    (entry,) = [json.loads(line) for line in worker.error_lines]
    assert entry["level"] == "ERROR"
    assert "[unknown-type]" in entry["message"]


def test_option_values_are_not_case_sensitive(served: Path, run: Callable[..., Any]) -> None:
    worker = run("runworker", "--burst", "--log-level", "INFO", "--log-format", "JSON")

    assert worker.popen.returncode == 0
    assert json.loads(worker.error_lines[-1])["message"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml: error[file-missing]"),
        (["nope"], 2, "runworker: no channel 'nope'; the contract declares 'jobs', 'other'"),
        (["--layer", "kafka://x"], 2, "kafka"),
        (["--drain-timeout", "soon"], 2, "'soon' is not a valid float"),
        (["--what"], 2, "No such option"),
    ],
)
def test_a_usage_error_gets_an_error_message_and_an_exit_code(
    served: Path, run: Callable[..., Any], arguments: list[str], code: int, message: str
) -> None:
    worker = run("runworker", "--burst", *arguments)

    said = worker.output + worker.errors
    assert message.removeprefix("runworker: ") in said
    assert "Traceback" not in said
    assert worker.popen.returncode == code


@pytest.mark.parametrize(
    ("consumer", "message"),
    [
        ("nowhere.Jobs", "nowhere"),
        ("work.Nobody", "Nobody"),
        ("broken.Jobs", "no_such_package"),
    ],
)
def test_a_consumer_that_cannot_be_imported_is_reported_before_any_event_is_handled(
    served: Path, run: Callable[..., Any], consumer: str, message: str
) -> None:
    (served / "broken.py").write_text("import no_such_package\n")
    (served / "channels.yaml").write_text(CHANNELS.replace("work.Jobs", consumer))
    send(served, range(1))

    worker = run("runworker", "--burst")

    said = worker.output + worker.errors
    assert message in said
    assert "Traceback" not in said
    assert worker.popen.returncode == 1
    assert dead_letters(served) == []


RETRIED = """\
version: 1
layer: sqlite:///channels.db
channels:
  jobs:
    consumer: work.Jobs
    delivery: at-least-once
    retry: {attempts: 3, delay: DELAY, jitter: 0}
    events: {job: true}
"""

FAILS_ONCE = """\
import os
from channelmap import AsyncConsumer

file = os.open("done.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
failed = set()

class Jobs(AsyncConsumer):
    async def job(self, event):
        if event["n"] not in failed:
            failed.add(event["n"])
            raise RuntimeError("not yet")
        os.write(file, b"0 %d\\n" % event["n"])
"""


@pytest.fixture
def failing_once(served: Path) -> Callable[[float], None]:
    """Make a channel whose events fail at the first attempt and are retried after this many seconds."""

    def write(delay: float) -> None:
        (served / "channels.yaml").write_text(RETRIED.replace("DELAY", str(delay)))
        (served / "work.py").write_text(FAILS_ONCE)

    return write


def test_a_burst_waits_for_its_retries_that_are_due_soon(
    served: Path, run: Callable[..., Any], failing_once: Callable[[float], None]
) -> None:
    failing_once(0.05)
    send(served, range(3))

    worker = run("runworker", "--burst")

    assert worker.popen.returncode == 0, worker.errors
    assert sorted(handled(served)) == [0, 1, 2]
    assert "wait for a retry" not in worker.errors


@pytest.mark.parametrize("worker_number", [1, 2])
def test_a_burst_logs_the_number_of_later_retries(
    served: Path, run: Callable[..., Any], failing_once: Callable[[float], None], worker_number: int
) -> None:
    failing_once(3_600)
    send(served, range(3))

    # The second worker gets the events that the first one has returned.
    for _ in range(worker_number):
        worker = run("runworker", "--burst")

    assert worker.popen.returncode == 0, worker.errors
    assert "channel 'jobs': 3 events are delayed, wait for a retry, or are leased by other workers" in worker.errors


def test_a_burst_that_waits_for_a_retry_can_be_stopped(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None], failing_once: Callable[[float], None]
) -> None:
    failing_once(9)
    send(served, range(1))
    worker = start("runworker", "--burst")
    wait_until(lambda: "not yet" in worker.errors, "the failure")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors
    assert handled(served) == []


def test_a_burst_with_a_stuck_thread_and_a_consumer_that_cannot_start_ends_with_1(
    served: Path, run: Callable[..., Any]
) -> None:
    code = """
import threading
from channelmap import SyncConsumer
class Stuck(SyncConsumer):
    def job(self, event): threading.Event().wait()
    def slow(self, event): ...
class Unable(Stuck):
    def __init__(self): raise RuntimeError("no settings")
"""
    (served / "work.py").write_text(code)
    contract = CHANNELS.replace("work.Jobs", "work.Unable").replace("work.Unable", "work.Stuck\n    timeout: 0.05", 1)
    (served / "channels.yaml").write_text(contract)
    send(served, range(1))

    worker = run("runworker", "--burst")

    assert worker.popen.returncode == 1, worker.errors
    assert "the handler took longer than 0.05 s" in worker.errors


def test_a_worker_logs_that_it_waits_for_an_unavailable_layer(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None], tmp_path: Path
) -> None:
    server = Server(tmp_path / "valkey", *VOLATILE)
    workers = [start("runworker", "--layer", server.url), start("runworker", "--processes", "2", "--layer", server.url)]
    for worker in workers:
        wait_until(lambda worker=worker: "cannot start yet, next try in 0.2 s" in worker.errors, "the second try")
        assert "ready" not in worker.errors
    with running(server):
        for worker, count in zip(workers, (1, 2), strict=True):
            wait_until(lambda worker=worker, count=count: worker.errors.count("; ready") == count, "the workers")
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0, worker.errors
            assert "a new one starts" not in worker.errors


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")])
def test_a_worker_that_waits_for_its_layer_can_be_stopped(
    served: Path, start: Callable[..., Any], wait_until: Callable[..., None], arguments: tuple[str, ...]
) -> None:
    worker = start("runworker", "--layer", f"redis://127.0.0.1:{free_port()}", *arguments)
    wait_until(lambda: "cannot start yet" in worker.errors, "the first try")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.errors


def test_a_burst_gives_up_on_an_unavailable_layer(served: Path, run: Callable[..., Any]) -> None:
    worker = run("runworker", "--burst", "--processes", "2", "--layer", "sqlite:////proc/none/x.db")

    assert worker.popen.returncode == 2
    assert "the layer has not answered for 5 s: giving up" in worker.errors
    assert "channelmap: sqlite:////proc/none/x.db: " in worker.errors
    assert "Traceback" not in worker.errors
