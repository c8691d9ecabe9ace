"""A real PostgreSQL server for tests, from Debian's package: it can crash, and start again."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from tests.full.programs import find
from tests.layers.redis_servers import Relay, free_port, tell_watchdog, wait_for

#: The database's user.
USER = "tests"
#: The system's user of the server: it does not run as root.
_RUNS_AS: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name <> 'tests'"


class PostgreSQL:
    """A server on 127.0.0.1.

    Args:
        directory: an empty directory for its data.

    Attributes:
        port: its port, the same after each start.

    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._commands = Path(find("postgres")).resolve().parent
        self._process: subprocess.Popen[bytes] | None = None
        if _RUNS_AS:
            shutil.chown(directory, _RUNS_AS["user"], _RUNS_AS["group"])
        initdb = str(self._commands / "initdb")
        command = [initdb, "-D", "data", "-U", USER, "--auth", "trust", "--no-locale", "--no-sync"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, **_RUNS_AS)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 60,
            "fsync": "off",  # the system does not crash
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._commands / "postgres"), "-D", "data", *options]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log, **_RUNS_AS)
        tell_watchdog(self._process.pid)
        wait_for(self._answers, f"PostgreSQL:\n{(self._directory / 'log').read_text()}")

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def crash(self) -> None:
        """Stop it as `pg_ctl stop -m immediate` does: all connections break, and it recovers at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            tell_watchdog(self._process.pid)
            self._process = None

    def connect(self) -> "psycopg.Connection[Any]":
        """Open a connection of the tests' own."""
        address = f"host=127.0.0.1 port={self.port} user={USER} dbname=postgres"
        return psycopg.connect(address, autocommit=True, application_name="tests")

    def create_database(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")

    @contextmanager
    def counting(self, database: str) -> Iterator["Counting"]:
        """Count the connections of a database, without the tests' own."""
        with self.connect() as connection:
            yield Counting(connection, database)


class Counting:
    """Counts the connections of a database."""

    def __init__(self, connection: "psycopg.Connection[Any]", database: str) -> None:
        self._connection = connection
        self._database = database
        #: The largest number that `count` has returned.
        self.most = 0

    def count(self) -> int:
        row = self._connection.execute(_COUNT, [self._database]).fetchone()
        assert row is not None
        self.most = max(self.most, row[0])
        return int(row[0])


class Waiting(Relay):
    """A relay to the server that lets new connections wait while the server is down, as a connection pooler does."""

    #: Whether new connections are passed on.
    is_open = True

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.is_open:
            await asyncio.sleep(0.01)
        await super()._pass_on(reader, writer)


@contextmanager
def running() -> Iterator[PostgreSQL]:
    """Start a server in a directory of its own, and end it."""
    with TemporaryDirectory(prefix="channelmap-postgresql-") as directory:
        server = PostgreSQL(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.crash()
