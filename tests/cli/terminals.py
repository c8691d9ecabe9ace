"""Run a command on a real terminal, and return its output with all escape codes."""

import os
import pty
import subprocess
import sys

#: Variables that decide about colours; unset, so that the environment of the test run has no effect.
DECIDING = {
    "NO_COLOR",
    "FORCE_COLOR",
    "TERM",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "GITHUB_ACTIONS",
    "CHANNELMAP_CONFIG",
}


def environment(**variables: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in DECIDING} | {"TERM": "xterm"} | variables


def on_a_terminal(*arguments: str, code: int = 0, **variables: str) -> str:
    """Return the output of a command whose stdin, stdout and stderr are a terminal."""
    reader, terminal = pty.openpty()
    command = [sys.executable, "-m", "channelmap", *arguments]
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment(**variables)
    ) as process:
        os.close(terminal)
        shown = b"".join(iter(lambda: _read(reader), b"")).decode()
    os.close(reader)
    assert process.returncode == code, shown
    return shown


def _read(descriptor: int) -> bytes:
    """Read from a terminal; at its end, Linux raises an error and other systems return nothing."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
