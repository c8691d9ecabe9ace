"""Exit codes of commands, and messages for errors instead of tracebacks."""

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
    """Exit codes of all commands."""

    FINE = 0
    FINDINGS = 1  # the file is wrong, or an event was rejected
    USAGE = 2  # wrong arguments, or a missing file or layer
    INTERNAL = 3  # a bug in channelmap
    BROKEN = 70  # an internal task of a worker ended
    STALLED = 71  # a worker's event loop was blocked
    READER_GONE = 128 + signal.SIGPIPE  # stdout or stderr has no reader: the code of a command ended by SIGPIPE


def run(command: click.Command, name: str, argv: Sequence[str] | None, *, start: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; diagnostics go to stdout, everything else to stderr.

    Args:
        command: the command.
        name: its name in messages.
        argv: its arguments; `None` for those of the process.
        start: the command line, without `runworker` and its arguments, that starts another process of a worker;
            `None` for that of channelmap.

    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Escape characters that the encoding of a terminal or pipe lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    streams = sys.stdout, sys.stderr
    try:
        code = _run(command, name, sys.argv[1:] if argv is None else argv, start)
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        pass
    except SystemExit:
        if sys.stdout is streams[0]:
            raise
        # click exits with 1 after a BrokenPipeError, and replaces the streams.
        sys.stdout, sys.stderr = streams
    else:
        return code
    # The flush at exit must not fail.
    readers.discard()
    return Exit.READER_GONE


def _run(command: click.Command, name: str, arguments: Sequence[str], start: Sequence[str] | None) -> int:
    try:
        return int(command.main(args=list(arguments), prog_name=name, standalone_mode=False, obj=start) or 0)
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        raise
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  (the last handler, also for panics of native libraries)
        return _report(error, name)


def _report(error: BaseException, name: str) -> Exit:
    if isinstance(error, click.NoSuchCommand | click.NoSuchOption) and error.possibilities:
        # Only the nearest name, as in all other messages.
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
            click.echo(f"{name}: {_system_error(error)}", err=True)
            return Exit.USAGE
    traceback.print_exception(error)
    click.echo(f"{name}: this is a bug in channelmap; please report it with the lines above", err=True)
    return Exit.INTERNAL


def _system_error(error: OSError) -> str:
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
