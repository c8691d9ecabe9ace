"""Run commands as real processes: write their contract and consumers, and return their result.

The fixtures `run` and `start`, in `tests/conftest.py`, start the processes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The types of the fixtures `run`, `start` and `wait_until`.
Run = Callable[..., Any]
Start = Callable[..., Any]
Wait = Callable[..., None]


def write_site(directory: Path, contract: str, consumers: str) -> None:
    """Write `channels.yaml`, and the module `work` with its consumers."""
    (directory / "channels.yaml").write_text(contract)
    (directory / "work.py").write_text(consumers)


def result(process: Any) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of a process that has ended without a traceback."""
    assert "Traceback" not in process.errors
    return process.popen.returncode, process.output, process.errors
