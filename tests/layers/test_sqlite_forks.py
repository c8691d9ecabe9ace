"""A process that forks while it uses the file loses no event, in itself and in its children."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HEAD = """
import asyncio, multiprocessing, os, sys, threading
from channelmap.errors import LayerUnavailable
from channelmap.layers import open_layer
layer = open_layer(sys.argv[1], capacity=10**6)
def send(number): layer.send_sync("jobs", {"type": "job", "id": number})
def ids(): return sorted(d.event["id"] for d in asyncio.run(layer.take("jobs", 100, wait=False)))
def ended(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
send(0)
"""

# Hooks that run before a fork run in the reverse order of their registration: the layer's hook comes after this one.
WAITS = """
begun, release, order = threading.Event(), threading.Event(), []
def slow(db):
    begun.set()
    release.wait(20)
    db.execute("UPDATE waiting SET position = position")
    order.append("operation")
thread = threading.Thread(target=layer._connections.run_sync, args=(slow,))
thread.start()
begun.wait(20)
os.register_at_fork(before=release.set, after_in_parent=lambda: order.append("fork"))
pid = os.fork()
if pid == 0:
    send(1)
    os._exit(0)
thread.join(20)
print(order, ended(pid), ids())
"""

INSIDE = """
def fork(db):
    pid = os.fork()
    if pid == 0:
        try:
            send(1)
        except LayerUnavailable as error:
            print(error.reason, flush=True)
        os._exit(0)
    return pid
print(ended(layer._connections.run_sync(fork)), ids())
"""

# A thread that comes while its process forks shows itself for a moment, and opens nothing. A hook that was registered
# before the layer's runs behind it: what it adds is there at the very moment of the fork.
COMES_MEANWHILE = """
import os, sys
os.register_at_fork(before=lambda: connections._openers.add(1))
from channelmap.layers.sqlite import connections
"""

# The child comes back from the operation, and its connection with it.
COMES_BACK = """
pid = layer._connections.run_sync(lambda db: os.fork())
if pid == 0:
    try:
        send(1)
    except LayerUnavailable as error:
        print(error.reason, flush=True)
    os._exit(0)
print(ended(pid), ids())
"""

# As below: this hook runs when all connections are closed, and before the fork.
OPENS_MEANWHILE = """
import os
def use():
    try:
        layer._connections._run_once(lambda db: None)
    except connections._BusyError as error:
        print(error)
os.register_at_fork(before=use)
from channelmap.layers.sqlite import connections
"""

# Ctrl-C may come at the moment at which an operation has taken a connection and not yet begun.
TORN_OUT = """
layer._connections._idle.pop()
pid = os.fork()
if pid == 0:
    send(1)
    os._exit(0)
print(ended(pid), ids())
"""

SENDS = """
pid = os.fork()
if pid == 0:
    send(1)
    os._exit(0)
connections._openers.discard(1)
print(ended(pid), ids())
"""

POOL = """
stop = threading.Event()
def busy():
    number = 1000
    while not stop.is_set():
        send(number)
        number += 1
thread = threading.Thread(target=busy)
thread.start()
with multiprocessing.get_context("fork").Pool(4) as pool:
    pool.map(send, range(1, 50))
stop.set()
thread.join(20)
print(set(range(50)) - {d.event["id"] for d in asyncio.run(layer.take("jobs", 100_000, wait=False))})
"""


# Parent and child share a layer object, and are two workers.
BEATS = """
import time
from channelmap.layer import WorkerInfo
def beat(number):
    worker = WorkerInfo(str(os.getpid()), "host", os.getpid(), time.time(), "1", "0", ("jobs",), {})
    asyncio.run(layer.heartbeat(worker, {"jobs": {"handled": 1}}, number))
def state(): return len(asyncio.run(layer.workers())), asyncio.run(layer.counts(["jobs"]))["jobs"].totals
beat(1)
pid = os.fork()
if pid == 0:
    beat(1)
    os._exit(state() != (2, {"handled": 2}))
print(ended(pid))
beat(2)
beat(2)
print(state())
"""


def run(script: str, tmp_path: Path, *, first: str = "") -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", first + HEAD + script]
    done = subprocess.run(
        [*command, f"sqlite:///{tmp_path}/events.db"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_acknowledged_events_of_threads_event_loops_and_children_are_all_in_the_file() -> None:
    options = ["--rounds", "2", "--children", "4", "--events", "200"]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "benchmarks/fork.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" acknowledged, 0 missing, 0 children failed or hung\n")


def test_a_fork_waits_until_the_operations_of_other_threads_have_ended(tmp_path: Path) -> None:
    assert run(WAITS, tmp_path) == "['operation', 'fork'] 0 [0, 1]\n"


def test_a_child_that_is_forked_inside_an_operation_fails_loudly_and_its_parent_goes_on(tmp_path: Path) -> None:
    assert run(INSIDE, tmp_path) == (
        "this process was forked in the middle of an operation on the file; restart it\n0 [0]\n"
    )


def test_a_child_that_comes_back_from_an_operation_of_its_parent_fails_loudly_too(tmp_path: Path) -> None:
    assert run(COMES_BACK, tmp_path) == (
        "this process was forked in the middle of an operation on the file; restart it\n0 [0]\n"
    )


def test_no_connection_is_opened_between_the_closing_of_all_and_the_fork(tmp_path: Path) -> None:
    forks = "ended(os.fork() or os._exit(0))\n"
    assert run(forks, tmp_path, first=OPENS_MEANWHILE) == "this process is being forked\n"


def test_a_thread_that_comes_while_its_process_forks_does_not_spoil_the_child(tmp_path: Path) -> None:
    assert run(SENDS, tmp_path, first=COMES_MEANWHILE) == "0 [0, 1]\n"


def test_a_connection_that_was_torn_out_of_its_operation_does_not_spoil_later_forks(tmp_path: Path) -> None:
    assert run(TORN_OUT, tmp_path) == "0 [0, 1]\n"


def test_a_pool_of_forked_processes_sends_beside_a_thread_of_its_parent(tmp_path: Path) -> None:
    assert run(POOL, tmp_path) == "set()\n"


def test_a_forked_child_is_a_worker_of_its_own(tmp_path: Path) -> None:
    assert run(BEATS, tmp_path) == "0\n(2, {'handled': 3})\n"
