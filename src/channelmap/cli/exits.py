"""How a command ends: what is raised becomes a clear message and a named exit code, never a traceback."""

import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum

import click

from channelmap.errors import ChannelMapError, ContractError, EventRejected, quoted


class Exit(IntEnum):
    """What the exit code of every command means."""

    FINE = 0
    FINDINGS = 1  # something is wrong with the file, or an event was refused
    USAGE = 2  # wrong arguments, a file or a layer that is not there
    INTERNAL = 3  # our own fault
    BROKEN = 70  # a worker stopped because a task of its own ended


def run(command: click.Command, name: str, argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code; diagnostics go to stdout, everything else to stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or a pipe of another encoding shows what it can.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command.main(args=list(sys.argv[1:] if argv is None else argv), prog_name=name, standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone; what Python would flush at exit has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FINE
    except Exception as error:  # noqa: BLE001  (the last line of defence)
        return _explain(error, name)
    return int(code or 0)


def _explain(error: Exception, name: str) -> Exit:
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
    reason = error.strerror or str(error) or type(error).__name__
    return f"{quoted(error.filename, 200)}: {reason}" if error.filename else reason
