"""Consumers are guests in a check: they may print, read and start threads, and have the names of another contract's."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TextIO

from channelmap.cli.options import prepare_imports
from channelmap.contract import Contract


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Have stdout for a report alone; stdin is empty, so nobody waits for it.

    What anybody else writes to stdout goes to stderr: threads, C code and other processes too, until the end of this
    process.
    """
    if sys.stdout is not sys.__stdout__:
        # Somebody in this process reads what we print: its streams are not ours to change.
        stdout = sys.stdout
        with redirect_stdout(sys.stderr):
            yield stdout
        return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if sys.stdout:
        sys.stdout.flush()
    # Streams that were closed are None, and any other file may have got their numbers.
    kept = os.dup(1) if sys.stdout else os.open(os.devnull, os.O_WRONLY)
    os.dup2(2 if sys.stderr else os.open(os.devnull, os.O_WRONLY), 1)
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    with open(kept, "w", encoding=encoding, errors="backslashreplace") as stdout, redirect_stdout(sys.stderr):  # noqa: PTH123
        yield stdout


@contextmanager
def importable(contract: Contract) -> Iterator[None]:
    """Make the consumers of a contract importable; later, forget the modules that were found beside it.

    Those beside the next contract may have the same names. Modules of the working directory are the same for all.
    """
    path, known = sys.path[:], set(sys.modules)
    prepare_imports(contract.path)
    yield
    sys.path[:] = path
    root = contract.root.resolve()
    if root != Path.cwd():
        new = {name: module for name, module in [*sys.modules.items()] if name not in known}
        beside = {name for name, module in new.items() if "." not in name and _directory(module) == root}
        for name in new:
            if name.partition(".")[0] in beside:
                sys.modules.pop(name, None)


def _directory(module: ModuleType) -> Path | None:
    """Say in which directory of the path of imports a module was found; None when it is of no file."""
    # Not by attribute: those of a module that is imported lazily may be anything, and may raise.
    names = vars(module)
    places = [*names.get("__path__", ()), names.get("__file__")]
    return Path(places[0]).resolve().parent if places[0] else None
