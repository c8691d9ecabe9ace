"""How a command ends: what is raised becomes a clear message and a named exit code, never a traceback."""

import io
import signal
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

import click

from channelmap.cli import readers
from channelmap.errors import ChannelMapError, ContractError, EventRejected, quoted


class Exit(IntEnum):
    """What the exit code of every command means."""

    FINE = 0
    FINDINGS = 1  # something is wrong with the file, or an event was refused
    USAGE = 2  # wrong arguments, a file or a layer that is not there
    INTERNAL = 3  # our own fault
    BROKEN = 70  # a worker stopped because a task of its own ended
    STALLED = 71  # a worker's event loop did not turn any more
    READER_GONE = 128 + signal.SIGPIPE  # stdout or stderr has no reader: as if the system had ended the command


def run(command: click.Command, name: str, argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code; diagnostics go to stdout, everything else to stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or a pipe of another encoding shows what it can.
        sys.stdout.reconfigure(errors="backslashreplace")
    streams = sys.stdout, sys.stderr
    try:
        code = _run(command, name, sys.argv[1:] if argv is None else argv)
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        pass
    except SystemExit:
        if sys.stdout is streams[0]:
            raise
        # click exits with 1 after a BrokenPipeError, and leaves other streams behind.
        sys.stdout, sys.stderr = streams
    else:
        return code
    # What Python flushes at exit must not fail.
    readers.discard()
    return Exit.READER_GONE


def _run(command: click.Command, name: str, arguments: Sequence[str]) -> int:
    try:
        return int(command.main(args=list(arguments), prog_name=name, standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        raise
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  (the last line of defence, for panics of native libraries too)
        return _explain(error, name)


def _explain(error: BaseException, name: str) -> Exit:
    if isinstance(error, click.NoSuchCommand | click.NoSuchOption) and error.possibilities:
        # The nearest name alone, as in every other message.
        del error.possibilities[1:]
    match error:
        case click.ClickException():
            error.show()
            return Exit.USAGE
        case ContractError():
            for diagnostic in error.diagnostics:
                click.echo(diagnostic)
            return Exit.USAGE if error.is_missing_file else Exit.FINDINGS
        case ChannelMapError():
            click.echo(f"{name}: {error}", err=True)
            return Exit.FINDINGS if isinstance(error, EventRejected) else Exit.USAGE
        case OSError():
            click.echo(f"{name}: {_of_the_system(error)}", err=True)
            return Exit.USAGE
    traceback.print_exception(error)
    click.echo(f"{name}: this is a fault of channelmap's own; please report it with the lines above", err=True)
    return Exit.INTERNAL


def _of_the_system(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return "the working directory no longer exists; change to a directory that does"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{quoted(error.filename, 200)}: {reason}" if error.filename else reason


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True
