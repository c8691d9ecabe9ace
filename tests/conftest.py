"""Fixtures of several packages of tests: contract files, consumer modules, real processes, waiting for a condition."""

import asyncio
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.traces import Spans

_numbers = itertools.count(1)

#: Seconds after which a test of a mutant hangs; without a mutant, each of them takes less than a second or two.
_HANGING_SECS = 10
#: A schema that admits `{"type": …, "id": <integer>}` and nothing else.
ID_SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}


def pytest_configure() -> None:
    """Undo what `nohup` and the `&` of a shell do: processes that tests start would ignore these signals, too."""
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)


@pytest.fixture(autouse=True)
def mutant_ends() -> Iterator[None]:
    """Under `make mutants`, end a test that hangs, because its mutant is noticed by that."""
    if "MUTANT_UNDER_TEST" not in os.environ:
        yield
        return
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.alarm(_HANGING_SECS)
    yield
    signal.alarm(0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the working directory and on the path of imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("CHANNELMAP_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def consumer_module(project: Path) -> Callable[[str], ModuleType]:
    """Write a module of consumers into the project and import it under a name of its own."""

    def make(code: str) -> ModuleType:
        name = f"consumers_{next(_numbers)}"
        text = "from channelmap import AsyncConsumer, StopConsumer, SyncConsumer\n\n" + textwrap.dedent(code)
        (project / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return make


@pytest.fixture
def contract_file(project: Path) -> Callable[..., Path]:
    """Write channels.yaml with one channel `jobs`, its consumer, an event type `job` and further lines."""

    def make(consumer: str = "nowhere.Consumer", *, options: str = "", layer: str = "memory://") -> Path:
        (project / "job.json").write_text(json.dumps(ID_SCHEMA))
        path = project / "channels.yaml"
        path.write_text(
            f"version: 1\nlayer: {layer}\nchannels:\n  jobs:\n    consumer: {consumer}\n"
            f"    events: {{job: job.json}}\n" + textwrap.indent(textwrap.dedent(options), "    ")
        )
        return path

    return make


@pytest.fixture
def spans() -> "Spans":
    """The OpenTelemetry spans that have ended since the test began."""
    from tests.traces import Spans

    return Spans()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a condition in the world outside: `wait_until(lambda: file.exists(), "the file")`."""

    def wait(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
            pause.wait(0.005)

    return wait


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait, in an event loop, for a condition that its own tasks bring about."""

    async def wait(condition: Callable[[], object], what: str = "the condition", timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.001)

    return wait


class Process:
    """A real command in a process of its own; its output is collected while it runs."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.popen = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.error_lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.popen.stdout, self.lines), (self.popen.stderr, self.error_lines))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        with stream:
            lines.extend(iter(stream.readline, ""))

    @property
    def errors(self) -> str:
        """What it has written to stderr."""
        return "".join(self.error_lines)

    @property
    def output(self) -> str:
        """What it has written to stdout."""
        return "".join(self.lines)

    def signal(self, signum: int) -> None:
        self.popen.send_signal(signum)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end and for the end of its output; return the exit code."""
        code = self.popen.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start `python -m channelmap …` (or another command) in the project; whatever still runs at the end is killed."""
    started: list[Process] = []

    def run(*arguments: str, command: tuple[str, ...] = ("-m", "channelmap"), **environment: str) -> Process:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("CHANNELMAP")}
        process = Process(
            [sys.executable, *command, *arguments], tmp_path, variables | {"PYTHONWARNINGS": "error"} | environment
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.popen.poll() is None:
            process.signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def run(start: Callable[..., Process]) -> Callable[..., Process]:
    """Run a command to its end."""

    def call(*arguments: str, **environment: str) -> Process:
        process = start(*arguments, **environment)
        process.wait()
        return process

    return call
