"""Where the events of a run lie: how each kind of layer is started and troubled, and what lies there at the end.

What lies there is read with the engines' own clients, not with the product.
"""

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import redis

from storm.checker import Remaining

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "layers"))
import redis_servers

Trouble = Callable[[random.Random], None]


def _id(body: bytes) -> str:
    return str(msgpack.unpackb(body)["id"])


class Ground:
    """A layer under test; `troubles` are the faults of its own, by name."""

    url: str
    #: A replica that takes over may lack what was acknowledged a moment before.
    may_lose = False
    troubles: dict[str, Trouble]

    @contextmanager
    def running(self) -> Iterator[None]:
        yield

    def remaining(self) -> Remaining:
        raise NotImplementedError


class SQLite(Ground):
    """A file that another process locks now and then."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "chaos.db"
        self.url = f"sqlite:///{self._file}"
        self.troubles = {"lock": self._lock}

    def _lock(self, random: random.Random) -> None:
        if self._file.exists():
            db = sqlite3.connect(self._file, isolation_level=None, timeout=5)
            with suppress(sqlite3.OperationalError):
                db.execute("BEGIN IMMEDIATE")
                time.sleep(random.uniform(0.1, 1.5))
                db.execute("ROLLBACK")
            db.close()

    def remaining(self) -> Remaining:
        remaining = Remaining()
        db = sqlite3.connect(self._file)
        for channel, body in db.execute("SELECT channel, body FROM waiting"):
            remaining.waiting[channel].append(_id(body))
        for channel, body in db.execute("SELECT channel, body FROM scheduled"):
            remaining.scheduled[channel].append(_id(body))
        for channel, body, code in db.execute("SELECT channel, body, code FROM dead_letters"):
            remaining.dead[channel].append((_id(body), code))
        for channel, events, marks in db.execute(
            "SELECT channel, events, marks FROM leased LEFT JOIN lease_progress ON lease = id"
        ):
            _, rows = msgpack.unpackb(events)
            held = [row for row, mark in zip(rows, marks or "1" * len(rows), strict=True) if mark == "1"]
            remaining.leased[channel] += [_id(row[-1]) for row in held]
        db.close()
        return remaining


class Redis(Ground):
    """One server that keeps all that it has acknowledged; it is killed, frozen, and its connections are cut."""

    def __init__(self, directory: Path) -> None:
        self._server = redis_servers.Server(directory / "server", *redis_servers.DURABLE)
        self.url = self._server.url
        self._nodes = [self._server]
        self.troubles = {"restart": self._restart, "freeze": self._freeze, "cut": self._cut}

    @contextmanager
    def running(self) -> Iterator[None]:
        with redis_servers.running(*self._nodes):
            yield

    def _restart(self, random: random.Random) -> None:
        node = random.choice(self._nodes)
        node.kill()
        time.sleep(random.uniform(0, 1))
        node.start()

    def _freeze(self, random: random.Random) -> None:
        process = random.choice(self._nodes).process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(random.uniform(0.1, 2))
        os.kill(process.pid, signal.SIGCONT)

    def _cut(self, random: random.Random) -> None:
        with suppress(redis.RedisError):
            random.choice(self._nodes).client.client_kill_filter(_type="normal", skipme=True)

    def _keepers(self) -> list[Any]:
        """Return the clients of the servers whose keys count."""
        return [node.client for node in self._nodes]

    def remaining(self) -> Remaining:
        remaining = Remaining()
        for client in self._keepers():
            for key in client.keys("*"):
                if b"$wake:" in key:
                    # It ends the pop of a waiting worker, and holds no event.
                    continue
                # `asgi:CHANNEL$PART`, or on a Cluster `{asgi:NUMBER}CHANNEL$PART`.
                name = key.decode().rpartition("}")[2].rpartition(":")[2].removeprefix("asgi")
                channel, _, part = name.partition("$")
                if part == "":
                    remaining.waiting[channel] += [_id(member[12:]) for member in client.zrange(key, 0, -1)]
                elif part == "batches":
                    remaining.leased[channel] += _leased(client.hgetall(key))
                elif part == "scheduled":
                    entries = client.zrange(key, 0, -1)
                    remaining.scheduled[channel] += [_id(entry.split(b" ", 2)[2][12:]) for entry in entries]
                elif part == "dead":
                    letters = [msgpack.unpackb(fields[b"letter"]) for _, fields in client.xrange(key)]
                    remaining.dead[channel] += [(_id(letter["body"]), letter["code"]) for letter in letters]
        return remaining


def _leased(batches: dict[bytes, bytes]) -> list[str]:
    """Return the ids in the events of leases: each member and its time, and a mark of each in the lease's status."""
    found = []
    for ticket, events in batches.items():
        if not ticket.endswith(b":"):
            members = msgpack.unpackb(events, raw=True)[0][::2]
            marks = batches[ticket + b":"].split()[-1]
            found += [_id(member[12:]) for member, mark in zip(members, marks, strict=True) if mark == ord("1")]
    return found


class Sentinel(Redis):
    """A master and its replica, which takes over now and then."""

    may_lose = True

    def __init__(self, directory: Path) -> None:
        self._sentinels = redis_servers.Sentinels(directory)
        self._nodes = self._sentinels.nodes
        self.troubles = {"fail over": self._fail_over, "cut": self._cut}

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._sentinels.running():
            self.url = self._sentinels.url
            yield

    def _fail_over(self, random: random.Random) -> None:
        master = self._sentinels.master
        # Without a replica that has copied the master, all that the master has would be lost: it keeps nothing on disk.
        if not all(node is master or self._follows(node) for node in self._nodes):
            return
        master.kill()
        deadline = time.monotonic() + 20
        while self._sentinels.master is master and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(random.uniform(0, 1))
        master.start()

    @staticmethod
    def _follows(node: redis_servers.Server) -> bool:
        return node.is_up and node.client.info("replication").get("master_link_status") == "up"

    def _keepers(self) -> list[Any]:
        return [self._sentinels.master.client]


class Cluster(Redis):
    """Three nodes, one of which is away now and then."""

    def __init__(self, directory: Path) -> None:
        self._cluster = redis_servers.Cluster(directory, *redis_servers.DURABLE)
        self._nodes = self._cluster.nodes
        self.url = self._cluster.url
        self.troubles = {"restart": self._restart, "freeze": self._freeze, "cut": self._cut}

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._cluster.running():
            yield


class Troubler:
    """Lets one trouble of the ground happen at a time, beside everything else."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, trouble: Trouble, random: random.Random) -> bool:
        """Start a trouble unless one is under way."""
        if not self._busy.acquire(blocking=False):
            return False
        thread = threading.Thread(target=self._run, args=(trouble, random))
        thread.start()
        self._threads.append(thread)
        return True

    def _run(self, trouble: Trouble, random: random.Random) -> None:
        try:
            trouble(random)
        finally:
            self._busy.release()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


GROUNDS: dict[str, Callable[[Path], Ground]] = {
    "sqlite": SQLite, "redis": Redis, "sentinel": Sentinel, "cluster": Cluster,
}  # fmt: skip
